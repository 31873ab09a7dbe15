"""Every measure against another implementation, or one by hand."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import regionprops

from bench.measurement.contacts import distance_map, measure_contacts
from bench.measurement.objects import describe_objects, extent
from bench.measurement.outlines import circularities, feret_diameters


@pytest.fixture
def scene():
    """Blobs with gaps in their ids, a wall, and an image."""
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(90, 80)), 3)
    labels, _ = ndimage.label(smooth > 0.06)
    wall = np.zeros_like(labels)
    wall[40:43] = 7
    labels[wall > 0] = 0
    return 3 * labels, wall, rng.integers(0, 255, labels.shape).astype(np.uint8)


def test_sizes_are_those_of_scikit_image(scene):
    labels, _, raw = scene
    table = describe_objects(labels, raw, (4.0, 4.0))
    found = regionprops(labels, intensity_image=raw)
    assert len(found) > 8
    assert table["id"].tolist() == [each.label for each in found]
    assert table["area_nm2"].tolist() == [16.0 * each.area for each in found]
    np.testing.assert_allclose(table["perimeter_nm"], [4 * e.perimeter_crofton for e in found])
    np.testing.assert_allclose(table["mean_grey"], [each.intensity_mean for each in found])
    np.testing.assert_allclose(
        table["equivalent_diameter_nm"], [4 * each.equivalent_diameter_area for each in found]
    )
    rows, columns = labels.shape
    cut = [0 in e.bbox[:2] or e.bbox[2] == rows or e.bbox[3] == columns for e in found]
    assert table["cut"].tolist() == cut


def test_feret_is_the_longest_distance_of_two_corners(scene):
    labels, _, _ = scene
    for number, found in zip(np.unique(labels)[1:], feret_diameters(labels, 2.0), strict=True):
        pixels = np.argwhere(labels == number)
        corners = np.concatenate([pixels + each for each in ((0, 0), (0, 1), (1, 0), (1, 1))])
        assert found == pytest.approx(2 * cdist(corners, corners).max())
    assert feret_diameters(np.zeros((3, 3), int), 1.0).size == 0


def test_circularity_is_one_of_a_disk_and_not_defined_of_a_few_pixels():
    y, x = np.indices((101, 101)) - 50
    disk = (y**2 + x**2 <= 40**2).astype(int)
    bar = np.zeros_like(disk)
    bar[10:90, 40:44] = 1
    round_, long = (
        describe_objects(each, disk, (5.0, 5.0))["circularity"][0] for each in (disk, bar)
    )
    assert round_ == pytest.approx(1, abs=0.02)
    # 80 by 4: 4 pi 320 / 168^2, whose perimeter four directions underrate by 6 %.
    assert long == pytest.approx(0.142, abs=0.03)
    assert np.isnan(circularities(np.array([19.0]), np.array([16.0]), np.array([19])))[0]


def test_neighbours_and_distances_are_those_of_all_pairs(scene):
    labels, wall, raw = scene
    table = describe_objects(labels, raw, (4.0, 4.0), wall)
    centres = table[["centroid_y_nm", "centroid_x_nm"]].to_numpy()
    apart = cdist(centres, centres)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(table["neighbour_nm"], apart.min(axis=1))
    walls = np.argwhere(wall)
    expected = [4 * cdist(np.argwhere(labels == n), walls).min() for n in table["id"]]
    np.testing.assert_allclose(table["distance_nm"], expected, rtol=1e-6)
    # The wall is 3 px thick and the blobs were cut where it lies.
    assert table["in_contact"].tolist() == (table["distance_nm"] == 4).tolist()
    assert table["in_contact"].any()


def test_contacts_by_hand():
    """A block of 2 x 3 lies with its 3 px side on a wall of 2 px; one px away is another."""
    labels = np.array([[1, 1, 1, 0, 2], [1, 1, 1, 0, 2], [0, 0, 0, 0, 0]])
    wall = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    near = distance_map(wall, (5.0, 5.0))
    distances, touching = measure_contacts(labels, near, (5.0, 5.0), 0.0)
    assert distances.tolist() == pytest.approx([5, np.hypot(5, 15)])
    assert touching.tolist() == [10, 0]
    _, within = measure_contacts(labels, near, (5.0, 5.0), 5.0)
    # The third face below is beside a pixel that is 5 nm from the wall.
    assert within.tolist() == [15, 0]


def test_structures_that_overlap_touch_along_the_outline_inside():
    labels = np.array([[1, 1, 1, 0]])
    wall = np.array([[0, 0, 1, 0]])
    distances, touching = measure_contacts(labels, distance_map(wall, (2.0, 2.0)), (2.0, 2.0), 0.0)
    assert (distances.tolist(), touching.tolist()) == ([0.0], [2.0])


def test_a_volume_has_volumes_and_areas_of_contact():
    labels = np.zeros((4, 5, 6), int)
    labels[1:3, 1:3, 1:4] = 9
    wall = np.zeros_like(labels)
    wall[3] = 1
    table = describe_objects(labels, labels, (50.0, 5.0, 5.0), wall)
    assert table["volume_nm3"].tolist() == [12 * 50 * 25]
    assert table["distance_nm"].tolist() == [50]
    # Six faces of 5 x 5 nm along z.
    assert table["contact_nm2"].tolist() == [6 * 25]
    assert table["cut"].tolist() == [False]
    assert table["mean_grey"].tolist() == [9]
    assert extent(labels.shape, (50.0, 5.0, 5.0)) == pytest.approx(120 * 1250 / 1e9)


def test_sections_without_objects_or_without_the_other_structure():
    nothing = np.zeros((6, 6), int)
    one = nothing.copy()
    one[2:4, 2:4] = 1
    empty = describe_objects(nothing, nothing, (5.0, 5.0), one)
    full = describe_objects(one, one, (5.0, 5.0), nothing)
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert np.isnan(full["neighbour_nm"][0])
    assert np.isinf(full["distance_nm"][0])
    assert not full["in_contact"][0]
