"""The instances of a label array, one after the other, each in its bounding box."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from bench.export.tracing import trace_outlines


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
    ids = np.arange(1, int(labels.max(initial=0)) + 1) if has_dense_ids(labels) else None
    if ids is None:
        # A box is found for every number up to the largest: count the ids that there are.
        ids = np.unique(labels[labels != 0])
        boxes = find_objects((np.searchsorted(ids, labels) + 1) * (labels != 0))
    else:
        boxes = find_objects(labels)
    for identifier, box in zip(ids.tolist(), boxes, strict=True):
        if box is not None:
            z, y, x = (side.start for side in box)
            yield Instance(identifier, (z, y, x), labels[box] == identifier)


def has_dense_ids(labels: np.ndarray) -> bool:
    """Whether the largest id is not beyond what one box per id can be kept for."""
    return int(labels.max(initial=0)) <= min(labels.size, np.iinfo(np.int32).max)
