import numpy as np
import pytest

from bench.postprocess.spheres.touching import find_doubles, paint_balls, shrink_touching


def shrink(distance, first, second, *, whole_voxels):
    centres = np.array([[5.0, 5, 5], [5, 5, 5 + distance]])
    return shrink_touching(
        centres, np.array([first, second], float), whole_voxels=whole_voxels
    ).tolist()


def test_known_answers_of_what_was_published():
    assert shrink(15, 10, 10, whole_voxels=True) == [6, 6]
    assert shrink(15, 10, 5, whole_voxels=True) == [9, 4]
    assert shrink(14.2, 10, 10, whole_voxels=True) == [6, 6]
    assert shrink(15.1, 10, 5, whole_voxels=True) == [10, 5]


def test_by_default_radii_add_up_to_the_distance():
    assert shrink(15, 10, 10, whole_voxels=False) == [7.5, 7.5]
    assert shrink(15, 10, 5, whole_voxels=False) == [10, 5]
    assert shrink(12, 10, 5, whole_voxels=False) == [8, 4]


@pytest.mark.parametrize("whole_voxels", [True, False])
def test_in_any_order_none_overlaps_afterwards(whole_voxels):
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(0, 60, (60, 3)), rng.uniform(4, 12, 60)
    found = shrink_touching(centres, radii, whole_voxels=whole_voxels)
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) + 100 * np.eye(60)
    alive = found > 0
    sums = (found[:, None] + found)[np.ix_(alive, alive)]
    assert (sums <= apart[np.ix_(alive, alive)] + 1e-6).all()
    assert (found <= radii).all()
    order = rng.permutation(60)
    again = shrink_touching(centres[order], radii[order], whole_voxels=whole_voxels)
    np.testing.assert_allclose(again, found[order], atol=1e-12)


def test_few_spheres_touch_nothing():
    for count in (0, 1):
        radii = np.full(count, 5.0)
        assert shrink_touching(np.zeros((count, 3)), radii, whole_voxels=True).size == count
        assert find_doubles(np.zeros((count, 3)), radii, radii).tolist() == [-1] * count


def test_of_spheres_on_one_vesicle_the_best_stays():
    centres = np.array([[0.0, 0, 0], [0, 0, 2], [0, 0, 4], [0, 0, 30]])
    found = find_doubles(centres, np.array([8.0, 8, 8, 8]), np.array([0.5, 0.9, 0.7, 0.1]))
    assert found.tolist() == [1, -1, 1, -1]
    # The one in between goes, and with it the reason to let go of the third.
    far = np.array([[0.0, 0, 0], [0, 0, 6], [0, 0, 12]])
    assert find_doubles(far, np.full(3, 8.0), np.array([0.9, 0.8, 0.7])).tolist() == [-1, 0, -1]


def paint(shape, *balls):
    labels = np.zeros(shape, np.int32)
    table = np.array(balls, float)
    paint_balls(labels, table[:, :3].copy(), table[:, 3].copy())
    return labels


def test_digital_balls_overlap_as_known():
    """Equal balls of radius 10 at that distance: Dice 0.3135, IoU 0.186."""
    first, second = (paint((40, 40, 40), (20, 20, x, 10)) > 0 for x in (15, 25))
    both = np.count_nonzero(first & second)
    assert np.count_nonzero(first) == np.count_nonzero(second)
    assert both / np.count_nonzero(first) == pytest.approx(0.3135, abs=5e-5)
    assert both / np.count_nonzero(first | second) == pytest.approx(0.186, abs=5e-4)


def test_balls_are_what_lies_within_the_radius_also_beyond_the_border():
    labels = paint((12, 15, 20), (1.3, 7.2, 18.9, 5.4))
    z, y, x = np.indices(labels.shape)
    inside = (z - 1.3) ** 2 + (y - 7.2) ** 2 + (x - 18.9) ** 2 <= 5.4**2
    np.testing.assert_array_equal(labels, inside)


def test_a_voxel_of_two_balls_is_of_that_in_which_it_lies_deeper():
    labels = paint((1, 21, 60), (0, 10, 20, 15), (0, 10, 40.1, 10))
    swapped = paint((1, 21, 60), (0, 10, 40.1, 10), (0, 10, 20, 15))
    np.testing.assert_array_equal(np.array([0, 2, 1])[swapped], labels)
    # Shares of the radius are equal at 20 + 15 / 25 * 20.1.
    assert labels[0, 10, 32] == 1
    assert labels[0, 10, 33] == 2
    equal = paint((1, 21, 60), (0, 10, 20, 15), (0, 10, 40, 10))
    assert equal[0, 10, 32] == 1
