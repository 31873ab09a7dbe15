"""The symmetries of the square: what may be done to a section before it is predicted.

A network of volumes sees those of the planes that keep the axis of the beam, z.
"""

from collections.abc import Callable, Iterable, Sequence
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

# What maps the wedge of directions that a tilt series does not see onto itself, whichever of y and
# x it was tilted around. A quarter turn and a transpose map the one axis onto the other.
_KEEP_WEDGE = (IDENTITY, "rot180", "flip_y", "flip_x")
# Planes that lie further apart than so many pixels are serial sections, which were seen from
# nowhere but above.
_SERIAL_SECTIONS = 2.0


def find_augmentations(choice: str) -> tuple[str, ...]:
    """Returns the names of the symmetries of a choice.

    Raises:
        BenchError: If there is no such choice.
    """
    if choice not in AUGMENTATIONS:
        raise unknown_name("augmentations", choice, AUGMENTATIONS)
    return AUGMENTATIONS[choice]


def find_volume_augmentations(choice: str, voxel_size_nm: Sequence[float]) -> tuple[str, ...]:
    """Returns the names of the symmetries of a choice that a network of volumes is averaged over.

    Those of the plane, of serial sections all of them; else those that keep a missing wedge.

    Args:
        choice: Row of AUGMENTATIONS.
        voxel_size_nm: Edges of a voxel along z, y, x.

    Raises:
        BenchError: If there is no such choice.
    """
    chosen = find_augmentations(choice)
    if are_serial_sections(voxel_size_nm):
        return chosen
    return tuple(name for name in chosen if name in _KEEP_WEDGE)


def are_serial_sections(voxel_size_nm: Sequence[float]) -> bool:
    """Whether the planes of a volume lie much further apart than pixels (z, y, x)."""
    z, _, x = voxel_size_nm
    return x > 0 and z > _SERIAL_SECTIONS * x


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
