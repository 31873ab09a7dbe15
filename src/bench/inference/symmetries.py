"""The symmetries of the square: what may be done to a section before it is predicted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bench.errors import unknown_name
from bench.words import NONE

# The symmetry that changes nothing.
IDENTITY = "identity"


@dataclass(frozen=True)
class _Symmetry:
    """One symmetry, of images (.., y, x) of any height and width.

    Attributes:
        name: Its name in prediction files.
        forward: Transforms an image; returns a view.
        inverse: Undoes it, exactly.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


def _keep(image: np.ndarray) -> np.ndarray:
    """Returns the image as it is."""
    return image


def _turn(image: np.ndarray) -> np.ndarray:
    """Rotates by 90 degrees, counter-clockwise as the image is shown."""
    return np.rot90(image, 1, axes=(-2, -1))


def _turn_half(image: np.ndarray) -> np.ndarray:
    """Rotates by 180 degrees."""
    return image[..., ::-1, ::-1]


def _turn_back(image: np.ndarray) -> np.ndarray:
    """Rotates by 90 degrees, clockwise as the image is shown."""
    return np.rot90(image, -1, axes=(-2, -1))


def _flip_y(image: np.ndarray) -> np.ndarray:
    """Exchanges top and bottom."""
    return image[..., ::-1, :]


def _flip_x(image: np.ndarray) -> np.ndarray:
    """Exchanges left and right."""
    return image[..., ::-1]


def _transpose(image: np.ndarray) -> np.ndarray:
    """Exchanges y and x."""
    return image.swapaxes(-2, -1)


def _antitranspose(image: np.ndarray) -> np.ndarray:
    """Mirrors at the other diagonal."""
    return image[..., ::-1, ::-1].swapaxes(-2, -1)


SYMMETRIES: dict[str, _Symmetry] = {
    row.name: row
    for row in (
        _Symmetry(IDENTITY, _keep, _keep),
        _Symmetry("rot90", _turn, _turn_back),
        _Symmetry("rot180", _turn_half, _turn_half),
        _Symmetry("rot270", _turn_back, _turn),
        _Symmetry("flip_y", _flip_y, _flip_y),
        _Symmetry("flip_x", _flip_x, _flip_x),
        _Symmetry("transpose", _transpose, _transpose),
        _Symmetry("antitranspose", _antitranspose, _antitranspose),
    )
}

# What users choose. The paper counts "original + 6 geometric transforms" and does not name them;
# taken here are the rotations, the flips and the transpose.
AUGMENTATIONS: dict[str, tuple[str, ...]] = {
    NONE: (IDENTITY,),
    "paper": tuple(name for name in SYMMETRIES if name != "antitranspose"),
    "all": tuple(SYMMETRIES),
}


def find_augmentations(choice: str) -> tuple[str, ...]:
    """Returns the names of the symmetries of a choice.

    Raises:
        BenchError: If there is no such choice.
    """
    if choice not in AUGMENTATIONS:
        raise unknown_name("augmentations", choice, AUGMENTATIONS)
    return AUGMENTATIONS[choice]


def find_symmetries(names: Iterable[str]) -> list[_Symmetry]:
    """Returns the symmetries of these names.

    Raises:
        BenchError: If there is no such symmetry.
    """
    found = []
    for name in names:
        if name not in SYMMETRIES:
            raise unknown_name("augmentation", name, SYMMETRIES)
        found.append(SYMMETRIES[name])
    return found
