"""What users say is not annotated: classes, folders, values, and all that has no label."""

import numpy as np
import pytest
import tifffile

from bench.dataset.partial import read_ignore_levels
from bench.errors import BenchError
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.partial import find_mostly_open
from bench.ingest.writing import write_prepared

SHAPE = (32, 48)
OPEN = np.zeros(SHAPE, bool)
OPEN[:, 24:] = True


def draw(value=1):
    """Three objects: one that is cut in half, one most of which is open, one that is neither."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 20:28] = value
    mask[12:16, 22:34] = value
    mask[20:26, 4:12] = value
    return mask


def write_sections(root, masks, splits=("train", "val", "test"), stack=1):
    rng = np.random.default_rng(0)
    for split in splits:
        raw = rng.integers(0, 255, (stack, *SHAPE), np.uint8)
        for folder, mask in {"raw": raw, **masks}.items():
            path = root / split / folder / "a.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.stack([mask] * stack) if mask.ndim == 2 else mask
            tifffile.imwrite(path, np.ascontiguousarray(image).squeeze())
    return root


def is_as_expected(dataset, name, structure="mitochondria"):
    levels = read_ignore_levels(dataset, name, structure)
    labels = dataset.read_labels(name, structure)
    assert (levels[OPEN] == 1).all()
    assert (labels != 0).tolist() == ((draw() > 0) & ~OPEN).tolist()
    return levels, labels


def test_a_mask_folder(read_tree, tmp_path):
    root = write_sections(tmp_path / "in", {"mito": draw(255), "unsure": OPEN.astype(np.uint8)})
    dataset = write_prepared(read_tree(root, ignore="unsure"), tmp_path / "out")
    dataset.verify()
    levels, labels = is_as_expected(dataset, "train-a")
    # Of the second object 2 of 12 columns are visible; the first has just half.
    assert sorted(np.unique(labels[levels == 2])) == [2]
    summary = dataset.manifest["structures"]["mitochondria"]
    assert summary["ignored"] == {"train": 0.5, "val": 0.5, "test": 0.5}
    visible = np.count_nonzero(draw()[~OPEN])
    assert summary["foreground_fraction"]["train"] == visible / np.count_nonzero(~OPEN)
    report = inspect_tree(read_tree(root, ignore="unsure"))
    assert [counts.ignored for counts in report.counts] == [0.5] * 3
    assert not report.errors


@pytest.mark.parametrize("fill", [0, 1, 7, "ids"])
def test_nothing_of_the_filling_is_kept(read_tree, tmp_path, fill):
    """Neither touching objects, nor values that look like ids, nor their numbers."""
    mask = draw()
    mask[OPEN] = np.arange(OPEN.sum()) % 250 if fill == "ids" else fill
    masks = {"mito": mask, "unsure": OPEN.astype(np.uint8)}
    root = write_sections(tmp_path / "in", masks, stack=9)
    dataset = write_prepared(
        read_tree(root, ignore="unsure", pixel_size_nm=5, section_nm=5), tmp_path / "out"
    )
    for name in ("train-a_z00", "test-a_z08"):
        levels, labels = is_as_expected(dataset, name)
        assert sorted(np.unique(labels)) == [0, 1, 2, 3]
        # What is marked is what was annotated as mostly open, or touches all of the filling.
        assert set(np.unique(labels[levels == 2])) == (set() if fill == 0 else {1, 2})


def test_objects_of_a_volume_are_judged_in_three_dimensions(read_tree, tmp_path):
    mask = np.zeros((9, *SHAPE), np.uint8)
    mask[0:6, 4:8, 4:8] = 1
    opened = np.zeros_like(mask)
    opened[1:6] = 1
    root = write_sections(tmp_path / "in", {"mito": mask, "unsure": opened}, stack=9)
    dataset = write_prepared(
        read_tree(root, ignore="unsure", pixel_size_nm=5, section_nm=5), tmp_path / "out"
    )
    assert np.count_nonzero(read_ignore_levels(dataset, "train-a_z00", "mitochondria") == 2) == 16
    assert read_ignore_levels(dataset, "train-a_z08", "mitochondria") is None


def test_a_value_of_masks_and_of_semantic_labels(read_tree, tmp_path):
    mask = np.where(OPEN, 255, draw()).astype(np.uint8)
    root = write_sections(tmp_path / "masks", {"mito": mask})
    dataset = write_prepared(read_tree(root, ignore="255"), tmp_path / "out")
    levels, labels = is_as_expected(dataset, "train-a")
    # A value says nothing of what is under it.
    assert not (levels == 2).any()
    assert labels.max() == 3
    root = write_sections(tmp_path / "values", {"annotations": mask})
    tree = read_tree(root, ignore="255", structures="1=mitochondria")
    is_as_expected(write_prepared(tree, tmp_path / "out2"), "val-a")


def test_scribbles(read_tree, tmp_path):
    """Labels of background and structure; whatever has none is not annotated."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4, 4:20] = 2
    mask[10, 4:30] = 1
    root = write_sections(tmp_path / "values", {"mito": mask})
    tree = read_tree(root, ignore="unlabelled", structures="2=mitochondria")
    dataset = write_prepared(tree, tmp_path / "out")
    levels = read_ignore_levels(dataset, "train-a", "mitochondria")
    assert (levels == 1).tolist() == (mask == 0).tolist()
    assert (dataset.read_labels("train-a", "mitochondria") > 0).tolist() == (mask == 2).tolist()
    folders = {"mito": (mask == 2) * np.uint8(1), "background": (mask == 1) * np.uint8(1)}
    root = write_sections(tmp_path / "folders", folders)
    other = write_prepared(read_tree(root, ignore="unlabelled"), tmp_path / "out2")
    assert other.content_hash == dataset.content_hash
    # A class of that name is meant where there is one.
    root = write_sections(tmp_path / "named", {"mito": draw(), "unlabelled": OPEN * np.uint8(1)})
    named = write_prepared(read_tree(root, ignore="unlabelled"), tmp_path / "out3")
    is_as_expected(named, "train-a")


def test_a_dataset_without_is_what_it_was(read_tree, tmp_path):
    root = write_sections(tmp_path / "in", {"mito": draw()})
    plain = write_prepared(read_tree(root), tmp_path / "plain")
    assert plain.find("train-a")["datasets"].keys() == {"raw", "labels/mitochondria"}
    (root / "train" / "unsure").mkdir()
    tifffile.imwrite(root / "train/unsure/a.tif", OPEN.astype(np.uint8))
    partly = write_prepared(read_tree(root, ignore="unsure"), tmp_path / "partly")
    hashes = [
        {e["name"]: e["content_hash"] for e in dataset.entries} for dataset in (plain, partly)
    ]
    assert hashes[0]["val-a"] == hashes[1]["val-a"]
    assert hashes[0]["train-a"] != hashes[1]["train-a"]


@pytest.mark.parametrize(
    ("masks", "settings", "message"),
    [
        ({"mito": draw()}, {"ignore": "unsure"}, "received unsure, which none of 3 sections has"),
        ({"mito": draw()}, {"ignore": "9"}, "received ignore=9, of which no section has a pixel"),
        (
            {"mito": draw(), "unsure": np.ones(SHAPE, np.uint8)},
            {"ignore": "unsure"},
            "must have annotated pixels, received val-a, all of which is ignored",
        ),
        (
            {"mito": draw(), "unsure": OPEN[:, 1:].astype(np.uint8)},
            {"ignore": "unsure"},
            "must have the size of train/raw/a.tif, 32 x 48 px",
        ),
        ({"mito": draw()}, {"ignore": "mito", "structures": "mito"}, "taken as mitochondria by"),
        ({"mito": draw()}, {"ignore": ","}, "ignore must name what is not annotated"),
        ({"mito": draw()}, {"ignore": "unlabelled"}, "background must be annotated in train"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_one_line(
    read_tree, tmp_path, masks, settings, message
):
    root = write_sections(tmp_path / "in", masks)
    with pytest.raises(BenchError, match=message) as caught:
        write_prepared(read_tree(root, **settings), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_just_half_is_not_mostly_open():
    labels = np.array([[3, 3, 5, 5, 5, 0]])
    opened = np.array([[0, 1, 0, 1, 1, 1]]) > 0
    assert find_mostly_open(labels, opened).tolist() == [[False, False, True, False, False, False]]
