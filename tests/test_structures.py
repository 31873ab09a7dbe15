import pytest

from bench.errors import BenchError
from bench.structures import STRUCTURES, find_structure, find_structures


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
    ],
)
def test_aliases(typed, name):
    assert find_structure(typed).name == name


def test_an_alias_means_one_structure():
    names = [name for s in STRUCTURES.values() for name in (s.name, *s.aliases)]
    assert len(names) == len(set(names))


def test_lists():
    assert [s.name for s in find_structures("all")] == list(STRUCTURES)
    assert [s.name for s in find_structures("mito, ,vesicles,mitochondria")] == [
        "mitochondria",
        "vesicles",
    ]


@pytest.mark.parametrize("typed", ["", " , "])
def test_a_list_names_something(typed):
    with pytest.raises(BenchError, match="no structure named, received"):
        find_structures(typed)


@pytest.mark.parametrize("typed", ["nucleus", "mitochondria;vesicles", ""])
def test_an_unknown_name_is_answered_with_those_known(typed):
    with pytest.raises(BenchError, match="choose one of membrane, mitochondria, vesicles"):
        find_structure(typed)
