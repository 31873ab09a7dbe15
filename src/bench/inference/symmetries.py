"""The symmetries of the square: what may be done to a section before it is predicted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.errors import unknown_name
from bench.words import NONE

# The symmetry that changes nothing.
IDENTITY = "identity"


@dataclass(frozen=True)
class _Symmetry:
    """One symmetry of images (.., y, x) of any height and width; both ways return views."""

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


# Counter-clockwise as the image is shown, and clockwise.
_turn = partial(np.rot90, k=1, axes=(-2, -1))
_turn_back = partial(np.rot90, k=-1, axes=(-2, -1))


def _own_inverse(name: str, change: Callable[[np.ndarray], np.ndarray]) -> _Symmetry:
    return _Symmetry(name, change, change)


SYMMETRIES: dict[str, _Symmetry] = {
    row.name: row
    for row in (
        _own_inverse(IDENTITY, lambda image: image),
        _Symmetry("rot90", _turn, _turn_back),
        _own_inverse("rot180", lambda image: image[..., ::-1, ::-1]),
        _Symmetry("rot270", _turn_back, _turn),
        _own_inverse("flip_y", lambda image: image[..., ::-1, :]),
        _own_inverse("flip_x", lambda image: image[..., ::-1]),
        _own_inverse("transpose", lambda image: image.swapaxes(-2, -1)),
        _own_inverse("antitranspose", lambda image: image[..., ::-1, ::-1].swapaxes(-2, -1)),
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
