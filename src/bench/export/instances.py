"""The instances of a label array one after the other, and their outlines along pixel edges."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Instance:
    """One instance through its sections.

    Attributes:
        id: Its id.
        corner: Section, row and column of its box's first corner.
        mask: Its pixels in the box (z, y, x).
    """

    id: int
    corner: tuple[int, int, int]
    mask: np.ndarray

    def outlines(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yields the number of each section that it has pixels in, and its outlines there.

        Outlines are rings (n, 2) as x, y of pixel corners in px from the corner of the box;
        filled by the even-odd rule they give the mask.
        """
        for number, section in enumerate(self.mask, start=self.corner[0]):
            if section.any():
                yield number, trace_outlines(section)

    def rings(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yields the same as `outlines`, in px from the corner of the image."""
        _, y, x = self.corner
        for number, outlines in self.outlines():
            yield number, [outline + np.array((x, y)) for outline in outlines]


def list_instances(labels: np.ndarray) -> Iterator[Instance]:
    """Yields the instances of an array of ids (z, y, x), in ascending order of id."""
    from scipy.ndimage import find_objects

    largest = int(labels.max(initial=0))
    if largest <= min(labels.size, np.iinfo(np.int32).max):
        ids = np.arange(1, largest + 1)
        boxes = find_objects(labels)
    else:
        # A box is found for every number up to the largest: count the ids that there are.
        ids = np.unique(labels[labels != 0])
        boxes = find_objects((np.searchsorted(ids, labels) + 1) * (labels != 0))
    for identifier, box in zip(ids.tolist(), boxes, strict=True):
        if box is not None:
            z, y, x = (side.start for side in box)
            yield Instance(identifier, (z, y, x), labels[box] == identifier)


def trace_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Traces the outlines of a mask (y, x), holes included.

    Filled under the even-odd rule at pixel centres they give back exactly the mask.

    Returns:
        Closed polygons, each (n, 2) as x, y of pixel corners, in px from the corner of the mask.
        None for an empty mask.
    """
    starts, ends = _list_edges(np.pad(mask.astype(bool), 1))
    # As many edges end as start at every corner: pair them in order.
    following = np.empty(len(starts), dtype=np.intp)
    following[np.argsort(ends, kind="stable")] = np.argsort(starts, kind="stable")
    straight = (ends - starts) == (ends - starts)[following]
    width = mask.shape[1] + 3
    outlines = []
    for loop in _list_cycles(following):
        corners = ends[loop[~straight[loop]]]
        outlines.append(np.column_stack([corners % width - 1, corners // width - 1]))
    return outlines


def _list_edges(padded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixel edges around a mask with an empty border, it on their right: corners by number."""
    width = padded.shape[1] + 1
    corner = np.arange((padded.shape[0] + 1) * width).reshape(-1, width)
    inner, shifted_y, shifted_x = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    here, right, below = corner[1:-1, 1:-1], corner[1:-1, 2:], corner[2:, 1:-1]
    sides = (
        (inner & ~shifted_y, here, right),
        (~inner & shifted_y, right, here),
        (inner & ~shifted_x, below, here),
        (~inner & shifted_x, here, below),
    )
    starts = np.concatenate([start[where] for where, start, _ in sides])
    ends = np.concatenate([end[where] for where, _, end in sides])
    return starts, ends


def _list_cycles(following: np.ndarray) -> list[np.ndarray]:
    """Splits a permutation into its cycles."""
    successor = following.tolist()
    seen = [False] * len(successor)
    cycles = []
    for first in range(len(successor)):
        cycle, step = [], first
        while not seen[step]:
            seen[step] = True
            cycle.append(step)
            step = successor[step]
        if cycle:
            cycles.append(np.array(cycle))
    return cycles
