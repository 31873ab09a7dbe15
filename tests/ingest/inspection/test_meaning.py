"""What the values of masks mean, said by prepare and by the check."""

import io

import h5py
import numpy as np
import PIL.Image
import pytest
import tifffile
from scipy.ndimage import label
from scipy.spatial import cKDTree

from bench.dataset.checks import read_instances
from bench.errors import BenchError
from bench.ingest.images.images import read_section
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.inspection.values import measure_values
from bench.ingest.writing import write_prepared
from bench.postprocess.label_runs import find_label_runs

ALL = [f"s{number}" for number in range(6)]


def found(tree, *kinds):
    return [finding for finding in inspect_tree(tree).findings if finding.kind in kinds]


@pytest.fixture
def prepare(tmp_path):
    """Writes a tree of arrays; returns the warnings."""

    def run(tree):
        for file in {image.file for s in tree.sections for image in s.images.values()}:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.encode())
        for section in tree.sections:
            for image in section.images.values():
                image.files[image.file] = tmp_path / image.file
        return write_prepared(tree, tmp_path / "out").manifest["warnings"]

    return run


@pytest.fixture
def masked(make_source, clean, discs):
    """A tree of six sections whose masks are made of the six discs: ids 1 to 6, 0 background."""
    ids = label(discs)[0]

    def make(change, only=ALL):
        return make_source(*clean(**{stem: {"mitochondria": change(ids)} for stem in only}))

    return make


def as_smooth(ids):
    """As PIL and others resize a mask that is shown as an image."""
    image = PIL.Image.fromarray((ids != 0).astype(np.uint8) * 255)
    size = (ids.shape[1], ids.shape[0])
    return np.asarray(image.resize((200, 150), PIL.Image.LANCZOS).resize(size, PIL.Image.BILINEAR))


def as_jpeg(ids):
    file = io.BytesIO()
    PIL.Image.fromarray((ids != 0).astype(np.uint8) * 255).save(file, "JPEG", quality=75)
    return np.asarray(PIL.Image.open(file))


def painted_alike(ids):
    return np.where(ids > 1, 1, 2 * ids).astype(np.uint16)


def with_ignored(dtype, largest):
    def change(ids):
        mask = (ids != 0).astype(dtype)
        mask[:, :9] = largest
        return mask

    return change


def as_smooth_ids(ids):
    """Ids of which other ids were interpolated, so that every value may be an object's."""
    image = PIL.Image.fromarray((ids * 3 + 1).astype(np.float32) * (ids > 0))
    small = image.resize((100, 75), PIL.Image.BILINEAR)
    return np.rint(small.resize(image.size, PIL.Image.BILINEAR)).astype(np.uint16)


def as_few_smooth_ids(ids):
    """The same of so few that most values are objects'."""
    image = PIL.Image.fromarray(ids.astype(np.float32))
    small = np.rint(image.resize((91, 70), PIL.Image.BILINEAR)).astype(np.uint16)
    return np.pad(small, ((0, 26), (0, 37)))


WRONG = [
    ("grey-mask", as_smooth_ids, r"or ids, received \d+ (grey )?values"),
    ("grey-mask", as_few_smooth_ids, r"received 7 values .* at outlines differ .*nearest neighb"),
    ("grey-mask", as_smooth, r"0 and 1, or ids, received \d+ grey values.*threshold it"),
    ("grey-mask", as_jpeg, r"0 and 1, or ids, received \d+ grey values.*threshold it"),
    ("no-background", lambda ids: 1 + (ids != 0), r"no 0 in .*structures=2=mitochondria"),
    ("no-background", lambda ids: 2 - (ids != 0), r"no 0 in .*structures=1=mitochondria"),
    ("no-background", lambda ids: np.full_like(ids, 7), r"received 7 \(100.0%\) and no 0"),
    (
        "ignore-label",
        with_ignored(np.uint8, 255),
        r"received 255 \(7.0% of it\) beside 1: is 255 an ignore label\?.*structures=1=mitoch"
        r"ondria; if it is mitochondria too, -P structures=1=mitochondria,255=mitochondria",
    ),
    ("ignore-label", with_ignored(np.uint16, 2**16 - 1), "is 65535 an ignore label"),
    ("ignore-label", with_ignored(np.uint32, 2**32 - 1), "is 4294967295 an ignore label"),
    (
        "ignore-label",
        lambda ids: np.where(np.arange(128) < 9, 255, ids).astype(np.uint8),
        "beside 1, 2, 3, 4, .*give it the next id",
    ),
]


@pytest.mark.parametrize(("kind", "change", "message"), WRONG)
def test_masks_that_are_something_else_stop_prepare_and_are_errors(
    masked, prepare, kind, change, message
):
    tree = masked(change)
    with pytest.raises(BenchError, match=message) as caught:
        prepare(tree)
    assert ".tif" in str(caught.value)
    assert "\n" not in str(caught.value)
    findings = found(tree, "grey-mask", "no-background", "ignore-label")
    assert {finding.kind for finding in findings} == {kind}
    assert all(finding.level == "error" for finding in findings)


@pytest.mark.parametrize("largest", [-1, 2**64 - 1])
def test_a_label_of_nothing_that_no_id_can_be(masked, prepare, largest):
    dtype = np.int16 if largest < 0 else np.uint64
    tree = masked(with_ignored(dtype, largest))
    with pytest.raises(BenchError, match=rf"s\d.tif must .*{largest}.*structures=1=mitoch"):
        prepare(tree)


def test_objects_painted_with_one_id_are_a_warning_that_counts_the_pieces(masked, prepare):
    tree = masked(painted_alike)
    (warning,) = [w for w in prepare(tree) if "separate pieces" in w]
    assert "id 1 is in 5 separate pieces" in warning
    assert "train-s0" in warning
    assert "an id of its own, or save the mask as 0 and 1" in warning
    finding = found(tree, "one-id")[0]
    assert (finding.level, finding.count, finding.file) == (
        "warning",
        1,
        "test/mitochondria/s5.tif",
    )


def test_classes_taken_for_ids_are_told_to_be_named(masked):
    tree = masked(lambda ids: np.where(ids == 0, 0, 1 + ids % 2)[::-1].repeat(2, 1)[:, :128])
    assert not found(tree, "one-id")
    tree = masked(lambda ids: np.tile(np.where(ids == 0, 0, 1 + ids % 2)[::2, ::2], (2, 2)))
    assert "if values are classes, name them, as in -P structures=" in (
        found(tree, "one-id")[0].remedy
    )


def in_three_pieces(ids):
    return np.where(ids > 3, ids, (ids > 0).astype(np.uint16))


def with_specks(ids):
    changed = np.where(ids > 1, 7, ids)
    changed[ids > 1] = ids[ids > 1] + 5
    changed[::8, 46:48] = 1
    return changed.astype(np.uint16)


def as_network(ids):
    """Rings, which are many compact boxes but thin; the ids of two cells."""
    rows, columns = np.ogrid[: ids.shape[0], : ids.shape[1]]
    rings = (rows % 16 == 2) | (columns % 16 == 2)
    rings &= (rows % 16 < 14) & (columns % 16 < 14)
    return np.where(rings, 1 + (columns > 64), 0).astype(np.uint8)


RIGHT = {
    "ids": lambda ids: ids.astype(np.uint16),
    "three pieces of one": in_three_pieces,
    "slips of the brush": with_specks,
    "a network of two cells": as_network,
    "ids up to 255 and beyond": lambda ids: (ids + 249 * (ids > 0)).astype(np.uint16),
    "sparse ids of a crop": lambda ids: np.array([0, 12, 70, 99, 130, 200, 255])[ids],
    "a mask of 0 and 255": lambda ids: np.where(ids > 0, 255, 0).astype(np.uint8),
    "ids in float": lambda ids: (ids * 1000).astype(np.float32),
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_right_masks_are_not_accused(masked, prepare, change):
    tree = masked(change)
    kinds = ("grey-mask", "no-background", "ignore-label", "one-id", "ids-merged")
    assert not found(tree, *kinds)
    assert not [w for w in prepare(tree) if "pieces" in w or "merged" in w]


def test_one_mask_of_0_and_255_among_others_of_0_and_1_is_no_ignore_label(masked):
    tree = masked(lambda ids: (ids > 0).astype(np.uint8), only=["s0", "s1"])
    assert not found(tree, "ignore-label", "no-background")


def test_one_section_without_background_among_others_is_left_to_other_checks(masked):
    assert not found(masked(lambda ids: np.ones_like(ids), only=["s0"]), "no-background")


def measure(mask, *, ids=False):
    labels, kind = read_instances(mask, "a.tif", ids=ids)
    return measure_values(mask, find_label_runs(labels), kind, "a.tif")


@pytest.mark.parametrize("cells", [40, 400, 2000])
def test_dense_cells_without_background_are_ids(cells):
    places = np.random.default_rng(1).uniform(0, 256, (cells, 2))
    pixels = np.stack(np.mgrid[:256, :256], -1).reshape(-1, 2)
    ids = (1 + cKDTree(places).query(pixels)[1].reshape(256, 256)).astype(np.uint32)
    values = measure(ids)
    assert values.specks < 0.01
    assert values.rims < 0.2 * cells
    assert not values.scattered


@pytest.mark.parametrize(
    ("dtype", "first", "merged"),
    [("float32", 2**24 - 2, True), ("float32", 2**24 - 7, False), ("float64", 2**24, False)],
)
def test_ids_that_a_float_could_not_tell_apart(masked, prepare, dtype, first, merged):
    tree = masked(lambda ids: np.where(ids > 0, ids + first, 0).astype(dtype))
    warnings = [w for w in prepare(tree) if "merged" in w]
    assert [f.kind for f in found(tree, "ids-merged")] == ["ids-merged"] * 6 * merged
    assert len(warnings) == merged
    if merged:
        assert "test/mitochondria/s5.tif holds ids up to 16777220 as float32" in warnings[0]
        assert "save the ids as uint32" in warnings[0]


def test_real_masks_and_ids_are_not_accused(shared, real_tree, read_tree, tmp_path):
    warnings = write_prepared(read_tree(real_tree), tmp_path / "out").manifest["warnings"]
    assert not [w for w in warnings if "pieces" in w or "grey" in w]
    for structure in ("vesicles", "mitochondria", "membrane"):
        for page in range(3):
            mask = read_section(shared / f"trakem2/expected/{structure}.tif", page)
            values = measure(mask, ids=True)
            assert (values.rims, values.specks, values.scattered) == (0, 0, {})


@pytest.mark.parametrize("structure", ["mitochondria", "vesicles", "membrane"])
@pytest.mark.parametrize("side", [0.5, 0.8, 1.5])
def test_real_masks_that_were_resized_smoothly_are_grey(shared, structure, side):
    mask = read_section(shared / f"epfl6/val/{structure}/training0089.png")
    size = (int(mask.shape[1] * side), int(mask.shape[0] * side))
    resized = np.asarray(PIL.Image.fromarray(mask).resize(size, PIL.Image.BICUBIC))
    values = measure(resized)
    assert values.rims > 0.75 * values.objects.size


@pytest.mark.parametrize("side", [0.37, 0.8, 2])
def test_real_ids_that_were_resized_smoothly_are_found(shared, side):
    mask = read_section(shared / "trakem2/expected/mitochondria.tif", 0)
    size = (int(mask.shape[1] * side), int(mask.shape[0] * side))
    image = PIL.Image.fromarray(mask.astype(np.float32))
    for how, found in ((PIL.Image.BILINEAR, True), (PIL.Image.NEAREST, False)):
        resized = np.rint(np.asarray(image.resize(size, how))).astype(np.uint16)
        values = measure(resized)
        assert (values.specks > 0.2) is found
        assert found or values.specks < 0.03


def save_simple_segmentation(path, mask):
    """As ilastik's Pixel Classification exports it: classes from 1, axes y, x and a channel."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["exported_data"] = mask
    else:
        tifffile.imwrite(path, mask)


@pytest.mark.parametrize("value", [1, 2])
@pytest.mark.parametrize("layout", ["folders", "beside", "named", "hdf5"])
def test_a_class_of_ilastik_is_taken_as_the_remedy_says(read_tree, tmp_path, value, layout):
    rng = np.random.default_rng(0)
    mask = np.full((48, 64), 3 - value, np.uint8)
    mask[10:20, 10:30] = mask[30:40, 40:60] = value
    settings = {"structures": f"{value}=mitochondria", "splits": "train=0;val=1"}
    for name in ("s0", "s1"):
        raw = rng.integers(0, 255, mask.shape, np.uint8)
        folders = {"folders": ("raw", "mitochondria")}.get(layout, ("", ""))
        for folder in folders:
            (tmp_path / "input" / folder).mkdir(parents=True, exist_ok=True)
        suffix = {"folders": ".tif", "beside": "_labels.tif", "hdf5": "_labels.h5"}.get(
            layout, "_mitochondria.tif"
        )
        tifffile.imwrite(tmp_path / "input" / folders[0] / f"{name}.tif", raw)
        save_simple_segmentation(tmp_path / "input" / folders[1] / f"{name}{suffix}", mask)
    dataset = write_prepared(read_tree(tmp_path / "input", **settings), tmp_path / "out")
    assert dataset.instances("train", "mitochondria") == 2
    np.testing.assert_array_equal(
        dataset.read_labels("train-s0", "mitochondria") > 0, mask == value
    )
