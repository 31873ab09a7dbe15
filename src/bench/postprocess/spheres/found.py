"""What is found: spheres, and what was removed and why."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FittedSpheres:
    """Vesicles as spheres, of sections as circles. Lengths are in voxels.

    Attributes:
        ids: Their ids in the image of labels, 1 .. n.
        centres: Float64 (n, axes), along z, y, x or y, x.
        radii: To the outer edge of the membrane, float64 (n,).
        thickness: Of the membrane, float64 (n,); NaN where none was seen.
        density: Grey value of the membrane, in the image's unit, float64 (n,); NaN likewise.
        p: Share of vesicles that are odder in radius, thickness and density, if these are normally
            distributed, float64 (n,): small is doubtful. NaN where too few are left to compare.
        status: What happened to it: "", "missed by the mask", "refitted" and "shrunk", with "+".
    """

    ids: np.ndarray
    centres: np.ndarray
    radii: np.ndarray
    thickness: np.ndarray
    density: np.ndarray
    p: np.ndarray
    status: tuple[str, ...]


@dataclass(frozen=True)
class RemovedSphere:
    """An object that is not among the spheres.

    Attributes:
        id: Goes on after the ids of the spheres.
        centre: Along z, y, x or y, x, in voxels.
        radius: In voxels.
        thickness: See ``FittedSpheres``.
        density: See there.
        p: See there.
        reason: Why it was removed, a few words.
    """

    id: int
    centre: tuple[float, ...]
    radius: float
    thickness: float
    density: float
    p: float
    reason: str


@dataclass(frozen=True, eq=False)
class SphereResult:
    """What came of looking for spheres.

    Attributes:
        labels: The spheres painted, ids 1 .. n, 0 background, int32.
        spheres: The spheres.
        removed: What was removed, in the order of the stages.
        threshold_level: Level (0 to 255) from which a voxel belonged to the mask.
        specks: Objects of the mask of under half the smallest radius, which are not listed.
        notes: What a person should know, a sentence each.
    """

    labels: np.ndarray
    spheres: FittedSpheres
    removed: tuple[RemovedSphere, ...]
    threshold_level: int
    specks: int
    notes: tuple[str, ...]
