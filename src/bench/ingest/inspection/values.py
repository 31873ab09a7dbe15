"""The values of a mask: how many pixels each has, and whether they lie as ids of objects do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.postprocess.label_runs import LabelRuns, count_neighbours, join_runs

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


def measure_values(mask: np.ndarray, runs: LabelRuns, kind: str, file: str) -> MaskValues:
    """Measures the values of a mask.

    Args:
        mask: The mask (y, x) as it is stored.
        runs: The runs of its instances.
        kind: What `read_instances` took it for.
        file: Its file.
    """
    dtype = str(mask.dtype)
    if kind == "ids":
        return _measure_ids(runs, file, dtype)
    inside = int(runs.lengths.sum())
    found = ((0, mask.size - inside), (int(mask.max()), inside))
    kept = {value: area for value, area in found if area}
    return MaskValues(file, dtype, np.array(list(kept), np.int64), np.array([*kept.values()]))


def _measure_ids(runs: LabelRuns, file: str, dtype: str) -> MaskValues:
    """Measures ids by their runs along rows, and by the edges where they end."""
    ids, areas = runs.areas()
    _, places = runs.by_id
    beside = count_neighbours(runs)
    # Each run has two ends, along rows as along columns.
    ends = np.bincount(places, minlength=len(ids)) + areas - beside.same_below
    compact = 4 * math.pi * areas / (2.0 * ends) ** 2
    pieces = _count_pieces(runs)
    compact *= np.maximum(pieces, 1)
    chosen = (pieces >= FEWEST_PIECES) & (compact >= _LEAST_COMPACTNESS)
    # Of each value the neighbours that are of it too, to the right and below.
    rims = int(np.count_nonzero(beside.touching > 2 * areas - ends))
    background = runs.shape[0] * runs.shape[1] - int(areas.sum())
    return MaskValues(
        file,
        dtype,
        np.concatenate([[0] if background else [], ids]).astype(np.int64),
        np.concatenate([[background] if background else [], areas]).astype(np.int64),
        rims,
        beside.specks / max(beside.outlines, 1),
        dict(zip(ids[chosen].tolist(), pieces[chosen].tolist(), strict=True)),
    )


def _count_pieces(runs: LabelRuns) -> np.ndarray:
    """Counts the clear pieces of every value, which foreground of no value joins."""
    ids, places = runs.by_id
    count = len(ids)
    pairs, piece = np.unique(join_runs(runs) * count + places, return_inverse=True)
    areas = np.bincount(piece, runs.lengths, len(pairs))
    of_value = pairs % max(count, 1)
    largest = np.zeros(count)
    np.maximum.at(largest, of_value, areas)
    clear = (areas >= _FEWEST_PX) & (areas >= _PIECE_SHARE * largest[of_value])
    return np.bincount(of_value[clear], minlength=count)
