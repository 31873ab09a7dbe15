"""What governs how vesicles become spheres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError, unknown_name
from bench.postprocess.ball_opening import are_cubes

SPHERE_STAGES = ("threshold", "separate", "grow", "refine", "outliers", "again", "touching")
_LEFT_OUT = "grow"
_PROTOCOLS = ("data", "paper")
# Squared distances above 16 of 3 features; what the paper takes for such a probability.
_OUTLIER_P, _PAPER_OUTLIER_P = 0.001, 0.3


@dataclass(frozen=True)
class SphereSettings:
    """How vesicles become spheres. All of it can be written as JSON and read back.

    Attributes:
        protocol: "data" is right; "paper" does what was published: centres on whole voxels, a
            radius that is off by a third of one, distances that are not squared.
        stages: Those of SPHERE_STAGES that are done. Growing is left out by default.
        threshold: Probability above which a voxel belongs to the mask, where the stage "threshold"
            is left out.
        lowest_threshold: The lowest probability that is tried there, in steps of 0.01 up to 0.99.
        min_radius_nm: Smallest radius of a vesicle.
        membrane_nm: Thickness of a membrane, as it is known before.
        max_radius_nm: Largest radius; what is longer is not looked at.
        smallest_extent: Share of its box that a vesicle fills at least, in 3D.
        largest_extent: Share of its box that a vesicle fills at most, in 3D.
        roundest_fill: Separation is tried where an object fills less than this share of the ball
            over the longest edge of its box.
        lowest_growth: Probability down to which a small object grows.
        most_growth: Volume that it may have then, in smallest vesicles.
        margin: Voxels around a vesicle that are looked at to find it.
        outlier_p: Objects that are less probable than this among the others are outliers; None is
            what the protocol says: 0.001 (four deviations), or 0.3 of what was published.
    """

    protocol: str = "data"
    stages: tuple[str, ...] = tuple(stage for stage in SPHERE_STAGES if stage != _LEFT_OUT)
    threshold: float = 0.5
    lowest_threshold: float = 0.8
    min_radius_nm: float = 12.0
    membrane_nm: float = 4.5
    max_radius_nm: float = 75.0
    smallest_extent: float = 0.25
    largest_extent: float = 0.75
    roundest_fill: float = 0.6
    lowest_growth: float = 0.7
    most_growth: float = 4.0
    margin: float = 5.0
    outlier_p: float | None = None

    def __post_init__(self) -> None:
        """Checks the settings; stages may come as a list, as JSON has them."""
        object.__setattr__(self, "stages", tuple(self.stages))
        for stage in self.stages:
            if stage not in SPHERE_STAGES:
                raise unknown_name("stage of spheres", stage, SPHERE_STAGES)
        if self.protocol not in _PROTOCOLS:
            raise unknown_name("protocol of spheres", self.protocol, _PROTOCOLS)
        for name in ("threshold", "lowest_threshold", "lowest_growth"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise BenchError(f"{name} must be a probability below 1, received {value}: use 0.8")
        for name in ("min_radius_nm", "membrane_nm", "max_radius_nm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BenchError(f"{name} must be above 0 nm, received {value}: use the default")

    @property
    def paper(self) -> bool:
        """Whether what was published is done."""
        return self.protocol == "paper"

    @property
    def summary(self) -> str:
        """The protocol, and which stages and radii it is of where they are not the usual, short."""
        usual = SphereSettings()
        said = [self.protocol]
        if self.stages != usual.stages:
            said.append(f"({', '.join(self.stages)})")
        if self.min_radius_nm != usual.min_radius_nm:
            said.append(f"from {self.min_radius_nm:g} nm")
        return " ".join(said)

    @property
    def least_p(self) -> float:
        """Probability below which an object is an outlier."""
        if self.outlier_p is not None:
            return self.outlier_p
        return _PAPER_OUTLIER_P if self.paper else _OUTLIER_P


def circle_settings(min_radius_nm: float, *, by_membranes: bool = False) -> SphereSettings:
    """How vesicles of sections become circles.

    A section cuts vesicles anywhere: their profiles have all radii down to none, and few pixels, so
    that nothing is removed for what it fills of its box. The threshold is that of the model.

    Args:
        min_radius_nm: Radius of the smallest profile that is kept.
        by_membranes: Whether circles are fitted to the membranes of the image, and what has none
            is removed; else they have centre and area of what was found.
    """
    fitted = ("refine", "outliers", "again") if by_membranes else ()
    return SphereSettings(
        stages=("separate", *fitted, "touching"),
        min_radius_nm=min_radius_nm,
        smallest_extent=0.0,
        largest_extent=1.0,
    )


def edge_of_cubes(voxel_size_nm: float | Sequence[float]) -> float:
    """Edge of cubic voxels, in nm.

    Raises:
        BenchError: If it is not known, or the voxels are no cubes.
    """
    edges = np.atleast_1d(np.asarray(voxel_size_nm, np.float64)).tolist()
    if not edges or not all(math.isfinite(edge) and edge > 0 for edge in edges):
        raise BenchError(
            f"spheres need a voxel size in nm, received {voxel_size_nm}: state it in prepare"
        )
    if not are_cubes(edges):
        shown = " x ".join(f"{edge:g}" for edge in edges)
        raise BenchError(
            f"spheres need voxels that are cubes, received {shown} nm: leave spheres out, or "
            "resample the volume to cubes"
        )
    return float(sum(edges) / len(edges))
