import pytest

from bench.data.names import first_names, natural_key
from bench.data.splits import parse_splits
from bench.errors import BenchError


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
