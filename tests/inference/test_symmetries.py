import numpy as np
import pytest

from bench.config.scoring import CompareConfig, EvaluateConfig
from bench.errors import BenchError
from bench.inference.symmetries import (
    AUGMENTATIONS,
    IDENTITY,
    SYMMETRIES,
    find_augmentations,
    find_symmetries,
    find_volume_augmentations,
)
from bench.words import NONE

IMAGE = np.array([[1, 2, 3], [4, 5, 6]])
# Worked by hand, from how the image is shown.
EXPECTED = {
    "identity": [[1, 2, 3], [4, 5, 6]],
    "rot90": [[3, 6], [2, 5], [1, 4]],
    "rot180": [[6, 5, 4], [3, 2, 1]],
    "rot270": [[4, 1], [5, 2], [6, 3]],
    "flip_y": [[4, 5, 6], [1, 2, 3]],
    "flip_x": [[3, 2, 1], [6, 5, 4]],
    "transpose": [[1, 4], [2, 5], [3, 6]],
    "antitranspose": [[6, 3], [5, 2], [4, 1]],
}


@pytest.mark.parametrize("name", SYMMETRIES)
def test_each_symmetry_does_what_it_is_called(name):
    np.testing.assert_array_equal(SYMMETRIES[name].forward(IMAGE), EXPECTED[name])
    assert SYMMETRIES[name].name == name


@pytest.mark.parametrize("name", SYMMETRIES)
def test_the_inverse_is_exact_for_any_shape(name):
    symmetry = SYMMETRIES[name]
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 9), (5, 5), *(tuple(rng.integers(1, 40, 2)) for _ in range(20))]
    for shape in shapes + [(3, *shape) for shape in shapes]:
        image = rng.integers(0, 2**16, shape)
        np.testing.assert_array_equal(symmetry.inverse(symmetry.forward(image)), image)
        np.testing.assert_array_equal(symmetry.forward(symmetry.inverse(image)), image)


def test_they_are_a_group_of_eight():
    """Any two, one after the other, are a third of the table."""
    images = {symmetry.forward(IMAGE).tobytes(): name for name, symmetry in SYMMETRIES.items()}
    assert len(images) == 8
    for first in SYMMETRIES.values():
        products = {
            images[second.forward(first.forward(IMAGE)).tobytes()] for second in SYMMETRIES.values()
        }
        assert products == set(SYMMETRIES)


def test_choices():
    assert find_augmentations(NONE) == (IDENTITY,)
    assert len(find_augmentations("paper")) == 7
    assert find_augmentations("all") == tuple(SYMMETRIES)
    # The first is the section itself, and none is counted twice.
    for names in AUGMENTATIONS.values():
        assert names[0] == IDENTITY
        assert len({symmetry.name for symmetry in find_symmetries(names)}) == len(names)
    for config in (EvaluateConfig, CompareConfig):
        field = config.__dataclass_fields__["augmentations"]
        assert field.metadata["choices"] == tuple(AUGMENTATIONS)
        assert field.default == NONE


def test_volumes_have_those_that_keep_a_missing_wedge():
    """A wedge around y or x in the plane of z is the same after each of them."""
    z, y, x = np.ogrid[-4:5, -4:5, -4:5]
    wedges = [np.abs(z) > 1.7 * np.abs(y) + 0 * x, np.abs(z) > 1.7 * np.abs(x) + 0 * y]
    keeping = [
        name
        for name, symmetry in SYMMETRIES.items()
        if all((symmetry.forward(wedge) == wedge).all() for wedge in wedges)
    ]
    cubes, serial = (2.2, 2.2, 2.2), (50.0, 5.0, 5.0)
    assert find_volume_augmentations("all", cubes) == tuple(keeping)
    assert find_volume_augmentations("none", cubes) == (IDENTITY,)
    assert find_volume_augmentations("all", serial) == tuple(SYMMETRIES)
    with pytest.raises(BenchError, match="choose one of all, none, paper"):
        find_volume_augmentations("some", cubes)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(BenchError, match="'some': choose one of all, none, paper"):
        find_augmentations("some")
    with pytest.raises(BenchError, match=r"unknown augmentation 'rot45'.*rot90"):
        find_symmetries(["identity", "rot45"])
