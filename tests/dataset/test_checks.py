import numpy as np
import pytest

from bench.dataset.checks import check_foreground, check_raw, instance_areas, read_instances
from bench.dataset.section_file import MaskCounts, summarise_structure, warn_of_instances
from bench.errors import BenchError


@pytest.mark.parametrize("foreground", [True, 1, 255, 7, 65535, 1.0])
def test_binary_mask_becomes_4_connected_components(foreground):
    mask = np.zeros((4, 5), np.asarray(foreground).dtype)
    mask[0, 0] = mask[1, 1] = mask[1, 2] = foreground
    labels, kind = read_instances(mask, "a.png")
    assert kind == "binary"
    assert labels.dtype == np.uint8
    assert labels[0, 0] != labels[1, 1] == labels[1, 2] != 0
    assert len(np.unique(labels)) == 3


def test_ids_are_kept():
    mask = np.zeros((4, 5), np.int32)
    mask[0, 0] = mask[3, 4] = 300
    mask[0, 1] = 4
    labels, kind = read_instances(mask, "a.tif")
    assert kind == "ids"
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, mask)
    assert instance_areas(labels).tolist() == [1, 2]


def test_empty_mask_is_neither():
    labels, kind = read_instances(np.zeros((4, 5), bool), "a.png")
    assert kind == "empty"
    assert instance_areas(labels).size == 0


def test_areas_of_large_ids():
    labels = np.array([[0, 4_000_000_000], [4_000_000_000, 7]], np.uint32)
    assert instance_areas(labels).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", "must hold finite numbers, received NaN or infinity in 1 px"),
        (np.inf, "float16", "NaN or infinity in 1 px"),
        (0.5, "float32", r"whole numbers, received 0\.5"),
        (-1, "int16", "must not be negative, received -1"),
        (-2, "float64", "must not be negative, received -2"),
        (2**32, "uint64", "fit in 32 bits, received 4294967296"),
    ],
)
def test_mask_that_holds_no_ids(value, dtype, message):
    mask = np.zeros((4, 5), dtype)
    mask[1, 1] = value
    with pytest.raises(BenchError, match=f"val/mito/a.tif.*{message}"):
        read_instances(mask, "val/mito/a.tif")


def test_raw_needs_contrast_and_finite_numbers():
    with pytest.raises(BenchError, match=r"raw/a.png must have contrast, received 9 in every"):
        check_raw(np.full((4, 5), 9, np.uint8), "raw/a.png")
    raw = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert check_raw(raw, "a.tif") is raw
    raw[2, 2] = np.nan
    with pytest.raises(BenchError, match=r"a.tif must hold finite .* in 1 px"):
        check_raw(raw, "a.tif")


def mask_counts(split, areas, kind="binary"):
    return MaskCounts(split, np.array(areas, int), 1000, kind)


def test_suspicious_is_above_three_times_the_training_median():
    summary = summarise_structure(
        [
            mask_counts("train", [10, 10, 30, 31]),
            mask_counts("train", [10]),
            mask_counts("val", [30, 100], "ids"),
            mask_counts("test", [], "empty"),
        ]
    )
    assert summary["median_area_px"] == 10
    assert summary["instances"] == {"train": 5, "val": 2, "test": 0}
    assert summary["suspicious"] == {"train": 1, "val": 1, "test": 0}
    assert summary["foreground_fraction"] == {"train": 91 / 2000, "val": 0.13, "test": 0.0}
    assert summary["masks"] == {"binary": 2, "ids": 1, "empty": 1}
    warnings = warn_of_instances("vesicles", summary)
    assert "2 of 7 instances are larger than 3 times" in warnings[0]
    assert "2 masks have one value" in warnings[1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_structure_without_foreground_is_an_error(split):
    masks = [mask_counts(name, [] if name == split else [5]) for name in ("train", "val", "test")]
    with pytest.raises(BenchError, match=f"mitochondria must have foreground in {split}"):
        check_foreground({"mitochondria": summarise_structure(masks)})


def test_foreground_warnings():
    masks = [mask_counts("train", [501]), mask_counts("val", [5]), mask_counts("test", [])]
    empty, inverted = sorted(check_foreground({"membrane": summarise_structure(masks)}))[::-1]
    assert empty == "membrane has no foreground in test: its scores mean nothing"
    assert inverted == "membrane fills 50% of train: are its masks inverted?"
