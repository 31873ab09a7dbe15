"""What a network of volumes is fed: planes on one scale, at its voxel size, one after the other.

A volume is never held as a whole. Each stage takes planes in order of z, keeps the few that later
ones need, and gives planes in order of z: resampled, smoothed, normalised.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter

from bench.inference.feeding import Moments, Places, interpolate

# (z, y, x)
Shape3d = tuple[int, int, int]
# Voxels that are read at a time.
_READ_VOXELS = 2**22
# Gaussians are cut off at so many deviations.
_TRUNCATE = 4.0


@dataclass(frozen=True, eq=False)
class VolumeFeed:
    """A volume as a network sees it.

    Attributes:
        read_planes: From the first plane and the one after the last to raw values (z, y, x).
        shape: Shape of the volume.
        fed_shape: Shape at which it is fed.
        smoothing_px: Deviation of a Gaussian in fed voxels; 0 for none.
        normalisation: ``volume`` or ``section``, of NORMALISATIONS.
    """

    read_planes: Callable[[int, int], np.ndarray]
    shape: Shape3d
    fed_shape: Shape3d
    smoothing_px: float
    normalisation: str

    def planes(self) -> Iterator[np.ndarray]:
        """Yields the planes (y, x), float32; a whole pass before the very first measures them."""
        if self.normalisation == "section":
            yield from (Moments.of(plane).apply(plane) for plane in self._smoothed())
            return
        yield from map(self._moments.apply, self._smoothed())

    @cached_property
    def _moments(self) -> Moments:
        return measure_planes(self._smoothed())

    def _smoothed(self) -> Iterator[np.ndarray]:
        planes = resize_planes(self._raw(), self.shape, self.fed_shape)
        return blur_planes(planes, self.fed_shape[0], (self.smoothing_px,) * 3)

    def _raw(self) -> Iterator[np.ndarray]:
        depth, height, width = self.shape
        step = max(1, _READ_VOXELS // (height * width))
        for start in range(0, depth, step):
            for plane in self.read_planes(start, min(depth, start + step)):
                yield plane.astype(np.float32)


def measure_planes(planes: Iterable[np.ndarray]) -> Moments:
    """Mean and deviation of all planes together, in double precision, plane by plane.

    Each plane's squares are about its own mean, so that a small range far from 0 loses nothing.
    """
    count, mean, squares = 0, 0.0, 0.0
    for plane in planes:
        own = float(plane.mean(dtype=np.float64))
        apart, total = own - mean, count + plane.size
        squares += float(np.square(plane - np.float64(own)).sum())
        squares += apart**2 * count * plane.size / total
        mean += apart * plane.size / total
        count = total
    return Moments(mean, float(np.sqrt(squares / max(1, count))))


def resize_planes(planes: Iterable[np.ndarray], old: Shape3d, new: Shape3d) -> Iterator[np.ndarray]:
    """Resizes a volume: linear between voxel centres, mirrored, smoothed first where it shrinks.

    It is what scikit-image's ``resize`` does with ``order=1``.

    Args:
        planes: The planes (y, x) in order of z.
        old: Shape of the volume.
        new: Shape of the result.

    Yields:
        The planes of the result, float32; those that were given where the shapes are the same.
    """
    if old == new:
        yield from planes
        return
    deviations = tuple(max(0.0, (o / n - 1) / 2) for o, n in zip(old, new, strict=True))
    z, rows, columns = (Places.of(o, n) for o, n in zip(old, new, strict=True))
    coming = blur_planes(planes, old[0], deviations)
    held: dict[int, np.ndarray] = {}
    read = 0
    for lower, upper, weight in zip(z.lower.tolist(), z.upper.tolist(), z.weight, strict=True):
        while read <= upper:
            held[read] = interpolate(next(coming), rows, columns)
            read += 1
        for passed in [place for place in held if place < lower]:
            del held[passed]
        yield held[lower] + (held[upper] - held[lower]) * weight


def blur_planes(
    planes: Iterable[np.ndarray], count: int, deviations: tuple[float, ...]
) -> Iterator[np.ndarray]:
    """Smooths a volume by a Gaussian, mirrored at its border.

    Args:
        planes: The planes (y, x) in order of z.
        count: How many there are.
        deviations: Of the Gaussian along z, y, x in voxels; 0 for none.

    Yields:
        The smoothed planes, float32; those that were given where nothing is smoothed.
    """
    coming = iter(planes)
    if any(deviations[1:]):
        coming = (
            gaussian_filter(
                plane.astype(np.float32, copy=False),
                deviations[1:],
                mode="mirror",
                truncate=_TRUNCATE,
            )
            for plane in coming
        )
    radius = int(_TRUNCATE * deviations[0] + 0.5)
    if radius == 0:
        yield from coming
        return
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / deviations[0]) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    places = np.pad(np.arange(count), radius, mode="reflect")
    held: dict[int, np.ndarray] = {}
    for z in range(count):
        wanted = places[z : z + 2 * radius + 1].tolist()
        while len(held) == 0 or max(held) < max(wanted):
            held[max(held, default=-1) + 1] = next(coming)
        found = weights[radius] * held[wanted[radius]]
        for step in range(1, radius + 1):
            found += weights[radius + step] * (
                held[wanted[radius - step]] + held[wanted[radius + step]]
            )
        yield found
        # What is mirrored at the end lies no further back than what is seen there.
        if count > 2 * radius:
            held.pop(z - radius, None)
