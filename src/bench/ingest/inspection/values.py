"""The values of a mask: how many pixels each has, and whether they lie as ids of objects do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.postprocess.instances import label_mask

# Pieces that count as objects: of a few px, and not far smaller than the largest of their id.
_FEWEST_PX = 4
_PIECE_SHARE = 0.1
# A mitochondrion that leaves the section and comes back is cut into two or three.
FEWEST_PIECES = 4
# 4 pi area / perimeter squared along pixel edges: 0.6 of a disc, 0.25 of a bar 10 times as long
# as wide. Networks such as membrane are in pieces by nature: less than 0.1 in EPFL6.
_LEAST_COMPACTNESS = 0.2


@dataclass(frozen=True, eq=False)
class MaskValues:
    """The values of one mask.

    Attributes:
        file: Its file.
        dtype: The type that they were stored in.
        values: Every value, ascending, 0 too where there is background.
        areas: Pixels of each.
        rims: How many values but 0 are rims: touched by other values more than by themselves.
        specks: Pixels that differ from all around, some of which is another object, as a share
            of the pixels at outlines.
        scattered: Pieces of each value that is in many compact ones.
    """

    file: str
    dtype: str
    values: np.ndarray
    areas: np.ndarray
    rims: int = 0
    specks: float = 0.0
    scattered: Mapping[int, int] = field(default_factory=dict)

    @property
    def objects(self) -> np.ndarray:
        """The values but 0."""
        return np.asarray(self.values[self.values != 0])


def measure_values(mask: np.ndarray, labels: np.ndarray, kind: str, file: str) -> MaskValues:
    """Measures the values of a mask.

    Args:
        mask: The mask (y, x) as it is stored.
        labels: Its instances (y, x).
        kind: What `read_instances` took it for.
        file: Its file.
    """
    dtype = str(mask.dtype)
    if kind != "ids":
        inside = int(np.count_nonzero(labels))
        found = ((0, labels.size - inside), (int(mask.max()), inside))
        kept = {value: area for value, area in found if area}
        return MaskValues(file, dtype, np.array(list(kept), np.int64), np.array([*kept.values()]))
    return _measure_ids(labels, file, dtype)


def _measure_ids(labels: np.ndarray, file: str, dtype: str) -> MaskValues:
    """Measures ids by their runs along rows, and by the edges where they end."""
    starts = np.ones(labels.shape, bool)
    right = labels[:, 1:] != labels[:, :-1]
    starts[:, 1:] = right
    down = labels[1:] != labels[:-1]
    places = np.flatnonzero(starts)
    lengths = np.diff(places, append=labels.size)
    values, index = np.unique(labels.ravel()[places], return_inverse=True)
    areas = np.bincount(index, lengths).astype(np.int64)
    runs = np.bincount(index) + _count(values, labels[0], labels[1:][down])
    touching = np.zeros(len(values), np.int64)
    for one, other in (
        (labels[:, 1:][right], labels[:, :-1][right]),
        (labels[1:][down], labels[:-1][down]),
    ):
        both = (one != 0) & (other != 0)
        touching += _count(values, one[both], other[both])
    # Of each value the neighbours that are of it too, to the right and below.
    together = 2 * areas - runs
    rims = int(np.count_nonzero((touching > together) & (values != 0)))
    # Each run has two ends, along rows as along columns.
    compact = 4 * math.pi * areas / (2.0 * runs) ** 2
    pieces = _count_pieces(labels, places, lengths, index)
    compact *= np.maximum(pieces, 1)
    chosen = (values != 0) & (pieces >= FEWEST_PIECES) & (compact >= _LEAST_COMPACTNESS)
    scattered = dict(zip(values[chosen].tolist(), pieces[chosen].tolist(), strict=True))
    outlines = _count_outlines(labels, right, down)
    specks = _count_specks(labels, places[lengths == 1]) / max(outlines, 1)
    return MaskValues(file, dtype, values.astype(np.int64), areas, rims, specks, scattered)


def _count_outlines(labels: np.ndarray, right: np.ndarray, down: np.ndarray) -> int:
    """Counts the pixels of objects beside another value, by where neighbours differ."""
    beside = np.zeros(labels.shape, bool)
    for part, differs in (
        (beside[:, 1:], right),
        (beside[:, :-1], right),
        (beside[1:], down),
        (beside[:-1], down),
    ):
        part |= differs
    return int(np.count_nonzero(beside & (labels != 0)))


def _count_specks(labels: np.ndarray, places: np.ndarray) -> int:
    """Counts, among pixels that are runs by themselves, those alone in their column as well."""
    rows, columns = np.divmod(places, labels.shape[1])
    height, width = labels.shape
    inner = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    rows, columns = rows[inner], columns[inner]
    pixels = labels[rows, columns]
    above, below = labels[rows - 1, columns], labels[rows + 1, columns]
    alone = (pixels != 0) & (above != pixels) & (below != pixels)
    beside = [above, below, labels[rows, columns - 1], labels[rows, columns + 1]]
    return int(np.count_nonzero(alone & np.any([pixel != 0 for pixel in beside], axis=0)))


def _count(values: np.ndarray, *found: np.ndarray) -> np.ndarray:
    """How often each of some sorted values is among others, all of which they contain."""
    counts = np.zeros(len(values), np.int64)
    for pixels in found:
        there, often = np.unique(pixels, return_counts=True)
        counts[np.searchsorted(values, there)] += often
    return counts


def _count_pieces(
    labels: np.ndarray, places: np.ndarray, lengths: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Counts the clear pieces of every value, which foreground of no value joins.

    Args:
        labels: Ids (y, x).
        places: First pixel of each run along a row.
        lengths: Its pixels.
        index: Its value's place among the values.
    """
    components = label_mask(labels != 0).ravel()[places].astype(np.int64)
    count = int(index.max()) + 1
    pairs, piece = np.unique(components * count + index, return_inverse=True)
    areas = np.bincount(piece, lengths)
    of_value = pairs % count
    largest = np.zeros(count)
    np.maximum.at(largest, of_value, areas)
    clear = (areas >= _FEWEST_PX) & (areas >= _PIECE_SHARE * largest[of_value])
    return np.bincount(of_value[clear], minlength=count)
