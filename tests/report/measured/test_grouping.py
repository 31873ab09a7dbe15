import pytest

from bench.errors import BenchError
from bench.report.measured.grouping import choose_clusters, parse_groups, region_of

NAMES = [f"s{n:02d}" for n in range(1, 19)] + ["ko-a_z1", "ko-a_z2", "last"]


def test_runs_names_and_patterns():
    found = parse_groups("groups", "ctrl: s01-s09 ; ko: s10 - s17, last; x:ko-a_*", NAMES)
    assert [name for name, group in found.items() if group == "ctrl"] == NAMES[:9]
    assert [name for name, group in found.items() if group == "ko"] == [*NAMES[9:17], "last"]
    assert [name for name, group in found.items() if group == "x"] == NAMES[18:20]
    assert parse_groups("groups", "a:s1-s3", NAMES).keys() == {"s01", "s02", "s03"}
    assert parse_groups("groups", "a:ko-a_z1-ko-a_z2", NAMES).keys() == {"ko-a_z1", "ko-a_z2"}
    assert parse_groups("groups", "a:s1-3", NAMES).keys() == {"s01", "s02", "s03"}
    assert parse_groups("groups", "", NAMES) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s01-s09", "NAME:SECTIONS"),
        ("a:", "NAME:SECTIONS"),
        ("all:s01", "NAME is not all"),
        ("a:s30-s40", "'s30-s40', which none of"),
        ("a:t01", "'t01', which none of"),
        ("a:s01-s05;b:s05", "received s05 in a and in b"),
    ],
)
def test_what_is_no_group_is_said(text, said):
    with pytest.raises(BenchError, match=said):
        parse_groups("groups", text, NAMES)


def test_animals_are_of_one_group_and_of_all_sections():
    groups = {"s1": "a", "s2": "a", "s3": "b"}
    animals = {"s1": "m1", "s2": "m1", "s3": "m2"}
    assert choose_clusters(list(groups), groups, animals) == animals
    assert choose_clusters(list(groups), groups, {}) == {}
    with pytest.raises(BenchError, match="received none of s3"):
        choose_clusters(list(groups), groups, {"s1": "m1", "s2": "m1"})
    with pytest.raises(BenchError, match="received m1 in a and b"):
        choose_clusters(list(groups), groups, dict.fromkeys(groups, "m1"))


def test_a_region_is_a_stack_or_a_series():
    assert region_of("m3_s07", "") == "m3_s"
    assert region_of("m3_s07", "stack") == "stack"
    assert region_of("17", "") == "17"
