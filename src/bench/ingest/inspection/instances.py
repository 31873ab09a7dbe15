"""Area, centre and contact with the image's edge of every instance in a mask."""

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError

# Rows are measured in bands of about so many pixels, which bounds the memory.
BAND_PX = 1 << 20
# The densest real annotation, vesicles of a whole montage, has some ten thousand.
MOST_INSTANCES = 1_000_000


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of a mask, ordered by id.

    Attributes:
        ids: Their ids.
        areas: Their areas in px.
        y: Row of their centres in px.
        x: Column of their centres in px.
        at_edge: Whether they touch the edge of the image, which may cut them.
    """

    ids: np.ndarray
    areas: np.ndarray
    y: np.ndarray
    x: np.ndarray
    at_edge: np.ndarray

    def marks(self, chosen: np.ndarray) -> tuple[tuple[float, float, float], ...]:
        """Centre y, x and radius in px of a circle with the area of each instance chosen."""
        radii = np.sqrt(self.areas[chosen] / np.pi)
        places = zip(self.y[chosen].tolist(), self.x[chosen].tolist(), radii.tolist(), strict=True)
        return tuple(places)


def measure_instances(labels: np.ndarray, file: str) -> Instances:
    """Measures the instances in an image of ids (y, x), whatever their size; 0 is background.

    Raises:
        BenchError: If there are more than any annotation has: noise, or a raw image.
    """
    height, width = labels.shape
    rows_in_band = max(1, BAND_PX // width)
    parts: list[np.ndarray] = []
    known = 0
    for top in range(0, height, rows_in_band):
        parts.append(sum_runs(labels[top : top + rows_in_band], top, height))
        known += parts[-1].shape[1]
        if known > MOST_INSTANCES:
            parts = [merge_sums(np.concatenate(parts, axis=1))]
            known = parts[0].shape[1]
        if known > MOST_INSTANCES:
            raise BenchError(
                f"mask {file} must hold at most {MOST_INSTANCES} instances, received more: is it "
                "a raw image, or a threshold of noise?"
            )
    ids, areas, y, x, at_edge = merge_sums(np.concatenate(parts, axis=1))
    return Instances(
        ids.astype(np.int64), areas.astype(np.int64), y / areas, x / areas, at_edge > 0
    )


def sum_runs(band: np.ndarray, top: int, height: int) -> np.ndarray:
    """Sums over the instances in a band of rows, by runs of one id along a row.

    Args:
        band: Ids (y, x).
        top: The band's first row in the image.
        height: Rows of the image.

    Returns:
        Id, pixels, sum of rows, sum of columns and runs at the image's edge (5, instances).
    """
    width = band.shape[1]
    starts_run = np.ones(band.shape, bool)
    starts_run[:, 1:] = band[:, 1:] != band[:, :-1]
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(starts, append=band.size)
    ids = band.ravel()[starts]
    inside = ids != 0
    starts, lengths, ids = starts[inside], lengths[inside], ids[inside]
    rows, columns = np.divmod(starts, width)
    rows += top
    at_edge = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns + lengths == width)
    middles = columns + (lengths - 1) / 2
    return merge_sums(np.stack([ids, lengths, rows * lengths, middles * lengths, at_edge]))


def merge_sums(sums: np.ndarray) -> np.ndarray:
    """Adds up the columns (5, n) of the same id, which is in the first row."""
    ids, place = np.unique(sums[0], return_inverse=True)
    totals = [np.bincount(place, row, minlength=len(ids)) for row in sums[1:]]
    return np.stack([ids, *totals])
