from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from bench.errors import BenchError
from bench.postprocess.instances import clean_mask, label_mask
from bench.postprocess.segmentation import paper_settings, settings_from_annotations
from bench.structures import find_structure

SHARED = Path(__file__).parents[3] / "shared" / "data"


def squares(*sides):
    """One row of squares, each its own instance, three pixels apart."""
    labels = np.zeros((max(sides) + 4, sum(sides) + 3 * len(sides) + 3), np.uint32)
    x = 3
    for instance, side in enumerate(sides, start=1):
        labels[2 : 2 + side, x : x + side] = 10 * instance
        x += side + 3
    return labels


def test_paper_settings_are_the_table():
    with pytest.raises(BenchError, match="settings for vesicles, mitochondria, membrane only"):
        paper_settings(find_structure("ribbon"))
    settings = paper_settings(find_structure("mito"))
    assert (settings.opening_radius_px, settings.min_area_px) == (2, 5000)
    assert "paper" in settings.origin
    assert "5000 px" in settings.origin


@pytest.mark.parametrize(("side", "radius"), [(60, 2), (24, 1), (6, 0)])
def test_opening_is_the_largest_that_keeps_99_percent(side, radius):
    # A disk of 1 cuts 4 pixels off a square and one of 2 cuts 12: of 3600 px both keep 99 %, of
    # 576 px only the first (0.993, 0.979), of 36 px neither.
    assert settings_from_annotations([squares(side)]).opening_radius_px == radius


def test_largest_radius_bounds_the_opening():
    settings = settings_from_annotations([squares(60)], largest_radius_px=1)
    assert settings.opening_radius_px == 1


def test_min_area_is_half_of_what_holds_1_percent():
    # 19 x 400 + 9 + 64 px = 7673 px, of which 1 % is 76.7 px: the two small ones hold 73 px, so
    # the smallest that is needed has 400 px.
    images = [squares(*([20] * 10)), squares(3, 8), squares(*([20] * 9))]
    settings = settings_from_annotations(iter(images), pixel_size_nm=5.0)
    assert settings.min_area_px == 200
    assert "21 annotated instances in 3 training sections" in settings.origin
    assert "minimum area 200 px (5000 nm²)" in settings.origin
    assert settings_from_annotations(images).origin.count("nm²") == 0
    # With one more of 2 x 2 px they hold 77 of 7677 px: the largest of the small is needed.
    assert settings_from_annotations([*images, squares(2)]).min_area_px == 32


def test_touching_instances_are_measured_apart():
    labels = np.ones((20, 40), np.uint16)
    labels[:, 20:] = 2
    assert settings_from_annotations([labels]).min_area_px == 200


def test_parts_of_an_instance_are_measured_apart():
    labels = squares(10, 10)
    labels[labels > 0] = 7
    assert settings_from_annotations([labels]).min_area_px == 50
    corners = np.kron(np.eye(2, dtype=np.uint8), np.full((10, 10), 7, np.uint8))
    assert settings_from_annotations([corners]).min_area_px == 50


def test_min_area_is_at_least_one_pixel():
    assert settings_from_annotations([squares(1)]).min_area_px == 1


def cubes(*sides):
    """One row of cubes, each its own instance, three voxels apart."""
    plane = squares(*sides)
    labels = np.zeros((max(sides) + 4, *plane.shape), np.uint32)
    for instance, side in enumerate(sides, start=1):
        labels[2 : 2 + side, plane == 10 * instance] = 10 * instance
    return labels


@pytest.mark.parametrize(
    ("side", "voxel_size_nm", "radius"),
    [
        (60, (5, 5, 5), 2),
        (40, (5, 5, 5), 1),
        (10, (5, 5, 5), 0),
        (40, (50, 5, 5), 0),
        (40, None, 0),
    ],
)
def test_volumes_are_opened_where_voxels_are_cubes(side, voxel_size_nm, radius):
    # A ball of 1 cuts the edges off: 12 (n - 2) + 8 of n^3 voxels, 0.7 % at 40 and 10 % at 10; one
    # of 2 about three times as much, 1 % at 60.
    settings = settings_from_annotations([cubes(side)], voxel_size_nm=voxel_size_nm)
    assert settings.opening_radius_px == radius
    assert settings.min_area_px == side**3 // 2


def test_sizes_of_volumes_are_voxels_and_nm3():
    settings = settings_from_annotations([cubes(10, 2), cubes(10)], voxel_size_nm=(4.0, 2.0, 2.0))
    assert settings.min_area_px == 500
    assert "3 annotated instances in 2 training volumes" in settings.origin
    assert "minimum volume 500 voxels (8000 nm³), half of 1000 voxels, below" in settings.origin
    assert "nm³" not in settings_from_annotations([cubes(10)]).origin
    corners = np.zeros((4, 4, 4), np.uint8)
    corners[:2, :2, :2] = corners[2:, 2:, 2:] = 7
    assert settings_from_annotations([corners]).min_area_px == 4
    with pytest.raises(BenchError, match="received 1 training volumes without any"):
        settings_from_annotations([np.zeros((2, 3, 4), np.uint8)])


@pytest.mark.parametrize("images", [[], [np.zeros((8, 8), np.uint8)] * 2])
def test_nothing_annotated_is_refused(images):
    with pytest.raises(BenchError, match=f"received {len(images)} training sections without any"):
        settings_from_annotations(images)


@pytest.mark.parametrize(
    ("dataset", "structure"),
    [
        ("epfl6", "vesicles"),
        ("epfl6", "mitochondria"),
        ("epfl6", "membrane"),
        ("vnc", "mitochondria"),
        ("vnc", "membrane"),
    ],
)
def test_rule_leaves_real_annotations_intact(dataset, structure):
    folder = SHARED / dataset / "train" / structure
    if not folder.is_dir():
        pytest.skip(f"needs the shared data set {dataset}")
    masks = [imread(path) for path in sorted(folder.iterdir())]
    settings = settings_from_annotations(label_mask(mask) for mask in masks)
    cleaned = [
        clean_mask(
            mask,
            opening_radius_px=settings.opening_radius_px,
            min_area_px=settings.min_area_px,
        )
        for mask in masks
    ]
    after = sum(section.foreground_after_px for section in cleaned)
    before = sum(section.foreground_before_px for section in cleaned)
    assert 1 - after / before < 0.01
    kept = [section.foreground_after_px / section.foreground_before_px for section in cleaned]
    assert min(kept) > 0.98
