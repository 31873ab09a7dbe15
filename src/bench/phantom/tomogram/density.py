"""How dense a presynapse is: membranes, organelles and the grain of what fills the space."""

import numpy as np
from scipy.ndimage import gaussian_filter

from bench.phantom.tomogram.scene import MEMBRANE_NM, Mitochondrion, TomogramScene

# Density over that of a membrane, and the deviation of its grain.
_CYTOPLASM, _OUTSIDE, _LUMEN, _MATRIX = (0.30, 0.13), (0.14, 0.10), (0.20, 0.05), (0.42, 0.11)
_GRAIN_NM = 3.0
_CLEFT_NM = 18.0
_POSTSYNAPTIC_NM, _PRESYNAPTIC_NM, _DENSITY = 22.0, 9.0, 0.5
# The inner membrane, from the outside of the outer one; cristae are flat bags across the long axis.
_INNER_NM = 9.0
_CRISTA_PERIOD_NM, _CRISTA_HALF_NM, _CRISTA_WAVE_NM = 42.0, 7.0, 9.0
# Filaments between vesicles, and from docked ones to the membrane.
_FILAMENT_NM, _FILAMENT, _FILAMENT_SHARE = 2.0, 0.55, 0.5
_LONGEST_FILAMENT_NM = 12.0
_Box = tuple[slice, slice, slice]


def render_density(
    scene: TomogramScene, rng: np.random.Generator, *, shape: tuple[int, ...], corner: int
) -> np.ndarray:
    """Renders the density of a scene and what is around it; a membrane is 1.

    Args:
        scene: The scene.
        rng: Source of the grain.
        shape: Voxels (z, y, x).
        corner: Voxels that lie before the first one of the tomogram, on each axis.

    Returns:
        float32 (z, y, x).
    """
    grid = _Grid(scene.settings.voxel_nm, corner, shape)
    height = scene.zone.height(*grid.axes)
    density, grain = _fill(scene, grid, height, rng)
    _add_densities(density, scene, grid, height)
    behind = height + np.float32(MEMBRANE_NM + _CLEFT_NM)
    for distance in (height, behind):
        grid.lay(density, MEMBRANE_NM / 2 - np.abs(distance), 1.0)
    del height, behind
    _add_mitochondrion(density, grain, scene.mitochondrion, grid)
    _add_filaments(density, scene, grid, rng)
    _add_vesicles(density, grain, scene, grid)
    texture = _draw_texture(rng, density.shape, _GRAIN_NM / grid.voxel_nm)
    density += grain * texture
    return density


class _Grid:
    """Positions of voxels in nm."""

    def __init__(self, voxel_nm: float, corner: int, shape: tuple[int, ...]) -> None:
        self.voxel_nm, self.corner, self.shape = voxel_nm, corner, shape
        steps = [(np.arange(n, dtype=np.float32) - corner) * np.float32(voxel_nm) for n in shape]
        self.axes = (steps[0][:, None, None], steps[1][:, None], steps[2])

    def lay(self, density: np.ndarray, depth_nm: np.ndarray, level: float | np.ndarray) -> None:
        """Replaces the share of every voxel that is inside a surface by a level, in place."""
        share = np.clip(depth_nm / np.float32(self.voxel_nm) + np.float32(0.5), 0, 1)
        density += share.astype(np.float32) * (np.asarray(level, np.float32) - density)

    def around(self, low_nm: np.ndarray, high_nm: np.ndarray) -> _Box:
        """The voxels of a box given in nm, and two more on each side."""
        low = np.floor(low_nm / self.voxel_nm).astype(int) + self.corner - 2
        high = np.ceil(high_nm / self.voxel_nm).astype(int) + self.corner + 3
        z, y, x = (
            slice(max(0, a), max(0, min(b, n)))
            for a, b, n in zip(low.tolist(), high.tolist(), self.shape, strict=True)
        )
        return z, y, x

    def cut(self, box: _Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions of the voxels of a box."""
        z, y, x = self.axes
        return z[box[0]], y[box[1]], x[box[2]]


def _fill(
    scene: TomogramScene, grid: _Grid, height: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Density and deviation of the grain of cytoplasm and cleft."""
    cleft = (height < 0) & (height > -np.float32(MEMBRANE_NM + _CLEFT_NM))
    density = np.where(cleft, np.float32(_OUTSIDE[0]), np.float32(_CYTOPLASM[0]))
    grain = np.where(cleft, np.float32(_OUTSIDE[1]), np.float32(_CYTOPLASM[1]))
    return density, grain


def _add_densities(
    density: np.ndarray, scene: TomogramScene, grid: _Grid, height: np.ndarray
) -> None:
    """The dark material on both sides of the cleft, thick on the postsynaptic one."""
    fade = (np.float32(scene.zone.radius_nm) - scene.zone.distance(*grid.axes)) / np.float32(12)
    within = np.clip(fade + np.float32(0.5), 0, 1)
    behind = -height - np.float32(MEMBRANE_NM + _CLEFT_NM)
    for distance, reach in ((height, _PRESYNAPTIC_NM), (behind, _POSTSYNAPTIC_NM)):
        fall = np.exp(-np.maximum(distance, 0) / np.float32(reach)) * (distance > 0)
        density += within * fall * (np.float32(_DENSITY) - density)


def _draw_texture(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> np.ndarray:
    """Noise of unit deviation with more peaks than troughs, as molecules in water make it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(white, sigma_px, mode="wrap", truncate=3)
    smooth /= smooth.std()
    smooth += np.float32(0.4) * (smooth**2 - 1)
    smooth /= smooth.std()
    return np.asarray(smooth)


def _add_mitochondrion(
    density: np.ndarray, grain: np.ndarray, mitochondrion: Mitochondrion, grid: _Grid
) -> None:
    """Outer and inner membrane, a dense matrix, and cristae."""
    reach = mitochondrion.half_nm.max() * 1.1
    box = grid.around(mitochondrion.centre_nm - reach, mitochondrion.centre_nm + reach)
    density, grain, axes = density[box], grain[box], grid.cut(box)
    depth = mitochondrion.depth(*axes)
    grid.lay(density, depth, 1.0)
    grid.lay(density, depth - MEMBRANE_NM, _OUTSIDE[0])
    grid.lay(density, depth - _INNER_NM, 1.0)
    grid.lay(density, depth - (_INNER_NM + MEMBRANE_NM), _MATRIX[0])
    grain[depth > 0] = _MATRIX[1]
    along, across, third = mitochondrion.coordinates(*axes)
    wave = _CRISTA_WAVE_NM * (np.sin(across / 23) + np.sin(third / 31))
    phase = (along + wave.astype(np.float32)) / np.float32(_CRISTA_PERIOD_NM)
    number = np.rint(phase)
    line = np.abs(phase - number) * np.float32(_CRISTA_PERIOD_NM)
    # A crista hangs on one side and ends before the other.
    side = np.where(number % 2 == 0, np.float32(1), np.float32(-1))
    end = np.float32(0.55 * mitochondrion.half_nm[1]) - side * across
    inside = np.minimum(np.minimum(_CRISTA_HALF_NM - line, end), depth - _INNER_NM)
    grid.lay(density, inside, 1.0)
    grid.lay(density, inside - MEMBRANE_NM, _OUTSIDE[0])


def _add_filaments(
    density: np.ndarray, scene: TomogramScene, grid: _Grid, rng: np.random.Generator
) -> None:
    balls = scene.balls
    for row, (centre, radius) in enumerate(zip(balls.centres_nm, balls.radii_nm, strict=True)):
        steps = balls.centres_nm[row + 1 :] - centre
        gaps = np.linalg.norm(steps, axis=1) - radius - balls.radii_nm[row + 1 :]
        for step in steps[(gaps > 0) & (gaps < _LONGEST_FILAMENT_NM)]:
            if rng.random() < _FILAMENT_SHARE:
                _lay_filament(density, grid, centre, centre + step)
        if balls.docked[row]:
            foot = centre - scene.zone.height(*centre) * scene.zone.inward
            off = rng.normal(0, radius / 3, 2)
            _lay_filament(
                density, grid, centre, foot + off[0] * scene.zone.aside + off[1] * scene.zone.up
            )


def _lay_filament(density: np.ndarray, grid: _Grid, start: np.ndarray, end: np.ndarray) -> None:
    """Draws a straight filament; what lies in vesicles is drawn over later."""
    box = grid.around(np.minimum(start, end), np.maximum(start, end))
    span = end - start
    relative = [axis - origin for axis, origin in zip(grid.cut(box), start, strict=True)]
    place = sum(r * s for r, s in zip(relative, span, strict=True)) / (span @ span)
    place = np.clip(place, 0, 1)
    off = np.sqrt(sum((r - place * s) ** 2 for r, s in zip(relative, span, strict=True)))
    grid.lay(density[box], _FILAMENT_NM - off, _FILAMENT)


def _add_vesicles(
    density: np.ndarray, grain: np.ndarray, scene: TomogramScene, grid: _Grid
) -> None:
    """A dark membrane within the outer radius, around a grey lumen."""
    for centre, radius in zip(scene.balls.centres_nm, scene.balls.radii_nm, strict=True):
        box = grid.around(centre - radius, centre + radius)
        z, y, x = (axis - np.float32(c) for axis, c in zip(grid.cut(box), centre, strict=True))
        depth = np.float32(radius) - np.sqrt(z**2 + y**2 + x**2)
        grid.lay(density[box], depth, 1.0)
        grid.lay(density[box], depth - MEMBRANE_NM, _LUMEN[0])
        grain[box][depth > 0] = _LUMEN[1]
