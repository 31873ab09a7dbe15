"""The option structures: from classes of an annotation to structures."""

from collections import Counter

import pytest

from bench.errors import BenchError
from bench.ingest.classes import parse_classes


def test_all_takes_names_and_aliases_in_any_case():
    classes = parse_classes("all")
    found = ["Vesicle", "MITO", "membranes", "nucleus", ""]
    assert [classes.find(kind) for kind in found] == [
        *("vesicles", "mitochondria", "membrane"),
        *(None, None),
    ]
    assert classes.choose(found, "a.xml") == ("vesicles", "mitochondria", "membrane")


def test_patterns_map_and_the_first_counts():
    classes = parse_classes("sv_dark=vesicles, sv*=mitochondria ,membrane")
    assert classes.find("SV_dark") == "vesicles"
    assert classes.find("sv_light") == "mitochondria"
    assert classes.find("membranes") == "membrane"
    assert classes.find("vesicle") is None
    assert classes.find("sv[dark]") == "mitochondria"


def test_values_of_a_label_image_are_classes():
    classes = parse_classes("1=vesicles,2=mito")
    assert [classes.find(str(value)) for value in (1, 2, 12)] == ["vesicles", "mitochondria", None]


def test_what_is_found_is_listed_and_said():
    lines = parse_classes("vesicle=vesicles").describe(Counter({"vesicle": 3, "er": 2}))
    assert lines == ("er: 2 objects, not taken", "vesicle: 3 objects, taken as vesicles")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=golgi", "unknown structure 'golgi': choose one of"),
        ("", "must name a structure, received ''"),
        (" , ", "must name a structure"),
    ],
)
def test_an_option_that_does_not_fit(text, message):
    with pytest.raises(BenchError, match=message):
        parse_classes(text)


def test_classes_without_a_structure_are_named():
    with pytest.raises(BenchError, match="any structure, received the classes 'er', 'golgi': map"):
        parse_classes("all").choose(["golgi", "er"], "a.xml")
    with pytest.raises(BenchError, match="class for mitochondria, received the classes 'vesicle'"):
        parse_classes("vesicles,mito").choose(["vesicle"], "a.xml")
