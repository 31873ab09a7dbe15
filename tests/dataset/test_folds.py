"""Folds: every section is judged once, by what saw neither it nor the test sections."""

import pytest

from bench.config.data import PrepareConfig
from bench.dataset.folds import divide_sections, write_fold
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared


@pytest.fixture(scope="module")
def opened(tiny_tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("folds") / "prepared"
    write_prepared(read_input(PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)), root)
    return PreparedDataset.open(root)


def test_every_section_is_judged_once_and_never_learned_from(opened):
    annotated = {*opened.sections("train"), *opened.sections("val")}
    folds = divide_sections(opened, "mitochondria", 3)
    judged = [name for fold in folds for name in fold.judged]
    assert sorted(judged) == sorted(annotated)
    for fold in folds:
        parts = [set(fold.judged), set(fold.val), set(fold.train)]
        assert set.union(*parts) == annotated
        assert sum(map(len, parts)) == len(annotated)
        assert all(parts)


def test_a_fold_is_a_dataset_of_the_same_pixels(opened, tmp_path):
    fold = divide_sections(opened, "mitochondria", 3)[1]
    write_fold(opened, "mitochondria", fold, tmp_path / "fold")
    found = PreparedDataset.open(tmp_path / "fold")
    assert set(found.sections("train")) == set(fold.train)
    assert set(found.sections("val")) == set(fold.val)
    for name in (*fold.train, *fold.val):
        labels = found.read_labels(name, "mitochondria")
        assert (labels == opened.read_labels(name, "mitochondria")).all()
    assert found.content_hash != opened.content_hash
    assert found.instances("train", "mitochondria") == 2 * len(fold.train)
    assert not set(fold.judged) & {entry["name"] for entry in found.entries}


def test_there_are_no_more_folds_than_sections(opened):
    assert len(divide_sections(opened, "mitochondria", 50)) == 5


def test_too_few_sections(write_tree, tmp_path):
    tree = write_tree(tmp_path / "few", {"train": 1, "val": 1, "test": 4})
    write_prepared(read_input(PrepareConfig(input=str(tree), pixel_size_nm=5.0)), tmp_path / "p")
    dataset = PreparedDataset.open(tmp_path / "p")
    with pytest.raises(BenchError, match=r"3 sections of train and val .* received 2"):
        divide_sections(dataset, "mitochondria", 5)
