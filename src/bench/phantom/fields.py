"""Smooth random functions of space, from which the tissue gets its curves."""

from dataclasses import dataclass

import numpy as np

# Variance of a cubic B-spline of unit white noise, per dimension, averaged over a lattice cell.
SPLINE_VARIANCE = 151 / 315


@dataclass(frozen=True)
class SmoothField:
    """A random function of (z, y, x) in nm: zero mean, unit variance, twice differentiable.

    It repeats after the lattice's length, so it is defined everywhere.

    Attributes:
        lattice: Spline coefficients (z, y, x).
        spacing_nm: Distance of the lattice's nodes in nm, about half a wave.
    """

    lattice: np.ndarray
    spacing_nm: float

    def plane(self, z_nm: float, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
        """Evaluates the function on the grid of y and x at one z; float32 (y, x)."""
        slab = blend(self.lattice, np.array([z_nm / self.spacing_nm]), axis=0)[0]
        rows = blend(slab, y_nm / self.spacing_nm, axis=0)
        return blend(rows, x_nm / self.spacing_nm, axis=1)


def make_field(
    rng: np.random.Generator, extent_nm: tuple[float, float, float], spacing_nm: float
) -> SmoothField:
    """Draws a function that does not repeat within an extent (z, y, x) in nm."""
    shape = [int(np.ceil(length / spacing_nm)) + 4 for length in extent_nm]
    lattice = rng.standard_normal(shape, dtype=np.float32) / np.float32(SPLINE_VARIANCE**1.5)
    return SmoothField(lattice, spacing_nm)


def blend(lattice: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Evaluates cubic B-splines along an axis; positions are in lattice steps."""
    base = np.floor(positions).astype(np.intp)
    t = positions - base
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    shape = [1] * lattice.ndim
    shape[axis] = len(positions)
    length = lattice.shape[axis]
    total = np.zeros(
        (*lattice.shape[:axis], len(positions), *lattice.shape[axis + 1 :]), np.float32
    )
    for tap, weight in enumerate(weights):
        nodes = np.take(lattice, (base + tap - 1) % length, axis=axis)
        total += nodes * weight.astype(np.float32).reshape(shape)
    return total
