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


def test_other_names_are_taken_where_they_are_named():
    classes = parse_classes("ribbon, Synaptic cleft,er*=Endoplasmic Reticulum")
    found = ["Ribbon", "synaptic-cleft", "SYNAPTIC CLEFT", "ER sheet", "vesicle", "ribbons"]
    assert [classes.find(kind) for kind in found] == [
        *("ribbon", "synaptic_cleft", "synaptic_cleft", "endoplasmic_reticulum"),
        *(None, None),
    ]
    assert classes.choose(found, "a.xml") == ("endoplasmic_reticulum", "ribbon", "synaptic_cleft")


def test_all_and_more():
    classes = parse_classes("all,ribbon,mito_dark=ribbon,sv=lysosome")
    assert [classes.find(kind) for kind in ("vesicle", "ribbon", "mito_dark", "sv", "er")] == [
        *("vesicles", "ribbon", "ribbon", "lysosome"),
        None,
    ]
    with pytest.raises(BenchError, match="class for lysosome, received the classes 'ribbon', 'v"):
        classes.choose(["vesicle", "ribbon"], "a.xml")


def test_folders_are_taken_by_all_whatever_their_name():
    assert parse_classes("all").find_folder("PSD 95") == "psd_95"
    assert parse_classes("all").find_folder("mito") == "mitochondria"
    assert parse_classes("ribbon").find_folder("psd") is None
    with pytest.raises(BenchError, match=r"a structure's name must be .*, received 'cell \(1\)'"):
        parse_classes("all").find_folder("cell (1)")


def test_what_all_leaves_out_is_said():
    kinds = ["er", "vesicle", "Golgi body", ""]
    assert parse_classes("all").warn_of_others(kinds) == (
        "classes that are not taken: Golgi body, er: name what is to be taken, as in "
        "-P 'structures=all,golgi_body'",
    )
    (unnamed,) = parse_classes("all").warn_of_others(["unclassified"])
    assert unnamed.endswith("as in -P 'structures=all,unclassified=vesicles'")
    assert parse_classes("all,er,golgi*=golgi").warn_of_others(kinds) == ()
    assert parse_classes("vesicles").warn_of_others(kinds) == ()


def test_values_of_a_label_image_are_classes():
    classes = parse_classes("1=vesicles,2=mito")
    assert [classes.find(str(value)) for value in (1, 2, 12)] == ["vesicles", "mitochondria", None]
    assert (classes.values_of("mitochondria"), classes.values_of("er")) == ([2], [])
    # Files are named as the structure.
    assert classes.find_folder("Mito") == "mitochondria"


def test_what_is_found_is_listed_and_said():
    lines = parse_classes("vesicle=vesicles").describe(Counter({"vesicle": 3, "er": 2}))
    assert lines == ("er: 2 objects, not taken", "vesicle: 3 objects, taken as vesicles")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=a/b", "a structure's name must be a letter and .*, received 'a/b'"),
        ("1", "a structure's name must be a letter"),
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
    with pytest.raises(BenchError, match=r"'ribbon', 'vesicle' \(did you mean ribbon\?\): map"):
        parse_classes("ribon").choose(["vesicle", "ribbon"], "a.xml")
