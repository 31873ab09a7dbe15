"""An image of ids as runs: stretches of one id along its rows, without the background.

A section of a montage has a hundred million pixels and some ten thousand runs. They are found in
one reading; sums over instances, neighbours and hashes then take no other.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.core.pixels import BLOCK_PX, Block


@dataclass(frozen=True, eq=False)
class LabelRuns:
    """The runs of an image of ids, by row and from left to right.

    Attributes:
        shape: Height and width of the image in px.
        first_of_row: The first run of each row, and the number of runs at the end (rows + 1).
        spans: First column of each run, and the column after its last (runs, 2), int32.
        ids: Its id, none 0 (runs), uint32.
    """

    shape: tuple[int, int]
    first_of_row: np.ndarray
    spans: np.ndarray
    ids: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Row of each run."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.first_of_row))

    @property
    def lengths(self) -> np.ndarray:
        """Pixels of each run, int64."""
        return np.asarray(self.spans[:, 1] - self.spans[:, 0], dtype=np.int64)

    @cached_property
    def by_id(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids in ascending order, and of each run the place of its id among them."""
        ids, places = np.unique(self.ids, return_inverse=True)
        return ids, places

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids in ascending order, and the pixels of each, int64."""
        ids, places = self.by_id
        return ids, np.bincount(places, self.lengths, len(ids)).astype(np.int64)

    def blocks(self) -> list[Block]:
        """The square blocks that hold a run, as `occupied_blocks` finds them."""
        height, width = self.shape
        across = -(-width // BLOCK_PX)
        first, last = self.spans[:, 0] // BLOCK_PX, (self.spans[:, 1] - 1) // BLOCK_PX
        lines = self.rows // BLOCK_PX * across
        found = np.unique(lines + first)
        # A run of several blocks is rare: one after the other is looked at.
        for more in range(1, int((last - first).max(initial=0)) + 1):
            longer = last - first >= more
            found = np.union1d(found, lines[longer] + first[longer] + more)
        corners = ((int(n) // across * BLOCK_PX, int(n) % across * BLOCK_PX) for n in found)
        return [
            (slice(top, min(top + BLOCK_PX, height)), slice(left, min(left + BLOCK_PX, width)))
            for top, left in corners
        ]


def find_label_runs(labels: np.ndarray) -> LabelRuns:
    """Finds the runs of an image of ids (y, x), unsigned of up to 32 bits; 0 is background."""
    # numba is imported where runs are found, and not by all that imports this module.
    from bench.postprocess.run_kernels import find_runs_of_ids

    height, width = labels.shape
    first_of_row, spans, ids = find_runs_of_ids(np.ascontiguousarray(labels))
    return LabelRuns((height, width), first_of_row, spans, ids)


def join_runs(runs: LabelRuns) -> np.ndarray:
    """Finds which runs lie in one 4-connected piece of foreground, whatever their ids.

    Returns:
        Of each run the first one of its piece (runs), int64.
    """
    from bench.postprocess.run_kernels import join_spans

    parent: np.ndarray = join_spans(runs.first_of_row, runs.spans)
    return parent


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """What lies beside the pixels of ids, to the four sides and within the image.

    Attributes:
        same_below: By id, pixels with a pixel of it below.
        touching: By id, sides at which its pixels meet another id.
        outlines: Pixels of any id that meet another one, or background.
        specks: Pixels not at the image's edge that differ from all around, some of which is not
            background.
    """

    same_below: np.ndarray
    touching: np.ndarray
    outlines: int
    specks: int


def count_neighbours(runs: LabelRuns) -> _Neighbours:
    """Looks at the neighbours of all pixels of an image of ids."""
    from bench.postprocess.run_kernels import count_beside

    ids, places = runs.by_id
    count = len(ids)
    return _Neighbours(*count_beside(*runs.shape, runs.first_of_row, runs.spans, places, count))
