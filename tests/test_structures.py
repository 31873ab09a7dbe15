import pytest

from bench.errors import BenchError
from bench.structures import (
    STRUCTURES,
    find_structure,
    find_structures,
    is_structure_name,
    order_structures,
    weight_of_frequency,
)

KNOWN = ("vesicles", "mitochondria", "ribbon", "synaptic_cleft")


def test_values_of_the_paper():
    rows = {
        name: (s.foreground_weight, s.paper_opening_radius_px, s.paper_min_area_px)
        for name, s in STRUCTURES.items()
    }
    assert rows == {
        "vesicles": (20.0, 2, 50),
        "mitochondria": (5.0, 2, 5000),
        "membrane": (2.0, 2, 50000),
    }


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("vesicle", "vesicles"),
        ("mito", "mitochondria"),
        (" Mito ", "mitochondria"),
        ("MEMBRANES", "membrane"),
        ("membrane", "membrane"),
        ("ribbon", "ribbon"),
        ("PSD", "psd"),
        ("PSD-95", "psd_95"),
        (" Synaptic  Cleft", "synaptic_cleft"),
        ("synaptic-cleft", "synaptic_cleft"),
    ],
)
def test_names_as_they_are_typed(typed, name):
    assert find_structure(typed).name == name
    assert is_structure_name(typed)


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "a/b", "../x", "a.b", "1", "2nd", "a'b", "a=b", "Körper", "x" * 51),
        *("raw", "Labels", "all", "auto", "none", "train", "boundary", "foreground"),
    ],
)
def test_names_that_no_structure_may_have(typed):
    assert not is_structure_name(typed)
    with pytest.raises(
        BenchError, match=r"name must be a letter and up to 49 .*: choose"
    ) as caught:
        find_structure(typed)
    assert f"received {typed!r}" in str(caught.value)


def test_an_alias_means_one_structure():
    names = [name for s in STRUCTURES.values() for name in (s.name, *s.aliases)]
    assert len(names) == len(set(names))
    assert all(map(is_structure_name, names))


def test_lists():
    assert [s.name for s in find_structures("all", KNOWN)] == list(KNOWN)
    assert [s.name for s in find_structures("mito, ,Synaptic cleft,mitochondria", KNOWN)] == [
        "mitochondria",
        "synaptic_cleft",
    ]


def test_tables_begin_with_the_rows():
    names = ["synaptic_cleft", "er", "membrane", "ribbon", "vesicles", "er"]
    assert order_structures(names) == ("vesicles", "membrane", "er", "ribbon", "synaptic_cleft")


@pytest.mark.parametrize("typed", ["", " , "])
def test_a_list_names_something(typed):
    with pytest.raises(BenchError, match="no structure named, received"):
        find_structures(typed, KNOWN)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("nucleus", ""),
        ("membrane", ""),
        ("mitochondria;vesicles", " (did you mean mitochondria?)"),
        ("ribon", " (did you mean ribbon?)"),
        ("Vesicels", " (did you mean vesicles?)"),
        ("synaptic", " (did you mean synaptic_cleft?)"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(typed, hint):
    with pytest.raises(BenchError) as caught:
        find_structure(typed, KNOWN)
    names = "mitochondria, ribbon, synaptic_cleft, vesicles"
    assert str(caught.value).startswith(f"unknown structure {typed!r}: choose one of {names}{hint}")
    assert ("did you mean" in str(caught.value)) == bool(hint)


@pytest.mark.parametrize(
    ("fraction", "weight"),
    [
        (0.0, 20.0),
        (0.001, 20.0),  # sqrt(999) = 31.6
        (1 / 401, 20.0),  # sqrt(400)
        (0.01, 9.95),  # sqrt(99) = 9.9499
        (1 / 26, 5.0),  # sqrt(25)
        (0.15, 2.38),  # sqrt(5.667) = 2.3805
        (0.2, 2.0),  # sqrt(4)
        (0.5, 1.0),
        (0.8, 1.0),  # sqrt(1 / 4) = 0.5
        (1.0, 1.0),
    ],
)
def test_weight_of_a_frequency_by_hand(fraction, weight):
    assert weight_of_frequency(fraction) == weight
    assert find_structure("ribbon").weigh_foreground(fraction) == weight
    assert find_structure("mito").weigh_foreground(fraction) == 5.0


def test_rarer_weighs_no_less():
    weights = [weight_of_frequency(step / 1000) for step in range(1001)]
    assert weights == sorted(weights, reverse=True)
