import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.core.names import first_names, natural_key
from bench.dataset.prepared import NO_SPLIT
from bench.errors import BenchError
from bench.ingest.images.headers import ImageHeader
from bench.ingest.sources import SourceImage, SourceSection
from bench.ingest.splits import assign_splits, check_splits, parse_splits, warn_of_neighbours


def test_rule():
    splits = parse_splits(" train=0-2, 5 ; val=3;test = 6 - 7 ", 8)
    assert splits == {
        0: "train",
        1: "train",
        2: "train",
        5: "train",
        3: "val",
        6: "test",
        7: "test",
    }


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("train=0-2;val=2", "section 2 in train and val"),
        ("train=0-8;val=9", "numbered 0 to 7 .* received 8"),
        ("train=0-99999999999;val=1", "numbered 0 to 7"),
        ("train=0;val=", "val must have sections, received none"),
        ("train=0;validation=1", "unknown split 'validation': choose one of test, train, val"),
        ("train=0;train=1", "name train once"),
        ("train=3-1;val=0", "count up, received '3-1'"),
        ("train=a;val=0", "must read like .*received 'a'"),
        ("train=-1;val=0", "must read like .*received '-1'"),
        ("train=0,,1;val=2", "must read like .*received ''"),
        ("0-3", "must read like .*received '0-3'"),
    ],
)
def test_rule_that_does_not_fit(rule, message):
    with pytest.raises(BenchError, match=message):
        parse_splits(rule, 8)


def test_flat_tree_is_split_by_number(make_tree, read_tree):
    root = make_tree(splits={"": 12})
    tree = read_tree(root, splits="train=0-9;val=10;test=11")
    # The eleventh in natural order is s10, which characters would put third.
    assert [s.name for s in tree.sections[-2:]] == ["val-s10", "test-s11"]
    assert tree.splits_rule == "train=0-9;val=10;test=11"
    with pytest.raises(BenchError, match="received splits=auto for 12 sections: give -P 'splits="):
        read_tree(root)


def test_numbers_run_over_all_folders(make_tree, read_tree):
    root = make_tree(splits={"train": 2, "val": 1, "test": 2})
    tree = read_tree(root, splits="train=4,3;val=0")
    assert [(s.name, s.raw.file) for s in tree.sections] == [
        ("train-s3", "test/raw/s3.png"),
        ("train-s4", "test/raw/s4.png"),
        ("val-s0", "train/raw/s0.png"),
    ]
    assert any("2 sections are in no split: s1, s2" in line for line in tree.warnings)


def test_train_and_val_are_needed(make_tree, read_tree):
    with pytest.raises(BenchError, match="received none for val"):
        read_tree(make_tree(splits={"": 3}), splits="train=0,1;test=2")


def test_same_name_twice_in_a_split(make_tree, read_tree):
    root = make_tree(splits={"train": 2, "val": 1})
    for path in root.glob("val/*/s2.png"):
        path.rename(path.with_name("s0.png"))
    assert [s.name for s in read_tree(root).sections] == ["train-s0", "train-s1", "val-s0"]
    with pytest.raises(BenchError, match="different names, received train-s0"):
        read_tree(root, splits="train=0-1;val=2")


def test_natural_order():
    names = ["a10", "a9", "b", "a09", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a09", "a9", "a10", "b"]
    assert first_names(["s10", "s2"]) == "s2, s10"
    assert first_names([f"s{i}" for i in range(5)]) == "s0, s1, s2 and 2 more"


@pytest.fixture
def make_sections():
    """Sections of regions: ``make_sections(a=3, b=2)`` numbers each from 0."""

    def make(**regions: int) -> list[SourceSection]:
        header = ImageHeader((4, 4), 1, None)
        return [
            SourceSection(
                NO_SPLIT,
                f"{region}_{number}",
                SourceImage({region: Path(region)}, number, header, lambda: np.zeros((4, 4))),
                {},
                region,
                number,
            )
            for region, count in regions.items()
            for number in range(count)
        ]

    return make


def names_of(sections, rule):
    named, warnings = assign_splits(sections, rule)
    return [section.name for section in named], warnings


def test_numbers_address_the_sections_of_every_region(make_sections):
    names, _ = names_of(make_sections(a=3, b=3), "train=0;val=1;test=2")
    assert names == ["train-a_0", "train-b_0", "val-a_1", "val-b_1", "test-a_2", "test-b_2"]


def test_regions_are_split_as_wholes(make_sections):
    names, _ = names_of(make_sections(a=2, b=1, c=1), "regions:train=0;val=1;test=2")
    assert names == ["train-a_0", "train-a_1", "val-b_0", "test-c_0"]


def test_single_images_are_a_region_each(make_sections):
    sections = [replace(s, region="", number=None) for s in make_sections(b=1, a=2)]
    names, _ = names_of(sections, "regions:train=0,1;val=2")
    assert names == ["train-a_0", "train-a_1", "val-b_0"]


def test_folds_are_runs_of_neighbours_and_every_section_is_tested_once(make_sections):
    sections = make_sections(a=11)
    tested = []
    for fold in range(4):
        named, _ = assign_splits(sections, f"kfold=4/{fold}")
        assert len(named) == 11
        numbers = [s.number for s in named if s.split == "test"]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert {s.split for s in named} == {"train", "val", "test"}
        tested += numbers
    assert tested == list(range(11))


def test_folds_keep_regions_whole_where_there_are_enough(make_sections):
    names, _ = names_of(make_sections(a=2, b=2, c=2), "kfold=3/1")
    assert names == ["train-a_0", "train-a_1", "val-c_0", "val-c_1", "test-b_0", "test-b_1"]


def test_the_papers_split_trains_and_validates_on_section_1_and_warns(make_sections):
    names, warnings = names_of(make_sections(a=3, b=3), "paper")
    assert names == [
        *("train-a_0", "train-a_1", "train-b_0", "train-b_1"),
        *("val-a_1", "val-b_1", "test-a_2", "test-b_2"),
    ]
    assert any("2 sections train and validate" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kfold=2/0", "at least 3 parts"),
        ("kfold=5/5", "number of the test part"),
        ("kfold=5", "must read like kfold=5/0"),
        ("kfold=9/0", "needs 9 sections or more, received 3"),
        ("paper=1", "takes nothing more, received '=1'"),
        ("regions:train=0;val=3", "numbered 0 to 0 .* received 3"),
    ],
)
def test_rules_that_do_not_fit(make_sections, rule, message):
    with pytest.raises(BenchError, match=message):
        assign_splits(make_sections(a=3), rule)


def test_near_neighbours_across_splits_are_named(make_sections):
    named, _ = assign_splits(make_sections(a=10, b=2), "train=0-3;val=5;test=9")
    (warning,) = warn_of_neighbours(named, 50.0, 120.0)
    assert warning.startswith("1 pairs of sections in different splits are closer than 120 nm")
    assert "train-a_3 / val-a_5" in warning
    assert warn_of_neighbours(named, 50.0, 100.0) == ()
    assert warn_of_neighbours(named, None, 1e9) == ()


def test_names_that_count_place_single_images(make_sections):
    single = [replace(s, number=None, region="") for s in make_sections(a=4)]
    named, _ = assign_splits(single, "train=0-1;val=2;test=3")
    (warning,) = warn_of_neighbours(named, 5.0, 6.0)
    assert "train-a_1 / val-a_2, val-a_2 / test-a_3" in warning


@pytest.mark.parametrize(
    ("count", "rule"),
    [
        (2, "train=0;val=1"),
        (3, "train=0;val=1;test=2"),
        (4, "train=0,1;val=2;test=3"),
        (12, "train=0-7;val=8,9;test=10,11"),
        (21, "train=0-14;val=15-17;test=18-20"),
    ],
)
def test_a_rule_is_suggested_that_fits(make_tree, read_tree, count, rule):
    root = make_tree(splits={"": count})
    with pytest.raises(BenchError, match=re.escape(f"{count} sections: give -P 'splits={rule}'")):
        read_tree(root)
    assert len(read_tree(root, splits=rule).sections) == count


def test_a_single_section_is_not_split(make_tree, read_tree):
    with pytest.raises(BenchError, match=r"for 1 sections: give two sections or more$"):
        read_tree(make_tree(splits={"": 1}))


@pytest.mark.parametrize("regions", [(3,), (9,), (3, 3), (1, 1), (2, 5), (3, 3, 3), (1,) * 14])
def test_every_rule_that_is_suggested_fits_regions(make_sections, regions):
    sections = make_sections(**{f"r{number}": count for number, count in enumerate(regions)})
    with pytest.raises(BenchError, match="give -P 'splits=") as caught:
        assign_splits(sections, "auto")
    first, more = re.search(r"splits=([^']+)'(?: \(or (.+)\))?$", str(caught.value)).groups()
    for rule in (first, *(more.split(", ") if more else ())):
        named, _ = assign_splits(sections, rule)
        assert {section.split for section in named} >= {"train", "val"}
        if len(sections) > 2 and rule != "paper":
            assert "test" in {section.split for section in named}
            check_splits(named, ())


def test_numbers_of_a_series_are_those_suggested(make_sections):
    series = [replace(s, number=7 + int(s.number)) for s in make_sections(a=4)]
    with pytest.raises(BenchError, match="'splits=train=7,8;val=9;test=10'"):
        assign_splits(series, "auto")
