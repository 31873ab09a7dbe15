"""Label images that a person paints in: which objects there are, and which are otherwise now."""

from dataclasses import dataclass

import numpy as np

from bench.correction.changes import Change, EditCounts, count_changes
from bench.errors import BenchError


@dataclass(frozen=True)
class PaintedObject:
    """An object of a label image.

    Attributes:
        id: Its id.
        size: Its pixels, in all sections.
        place: A pixel of it (z, y, x), in the section where its ids begin.
    """

    id: int
    size: int
    place: tuple[int, int, int]


class LabelEdits:
    """The labels of a structure (z, y, x), which others change in place.

    Attributes:
        labels: The ids.
    """

    def __init__(self, labels: np.ndarray) -> None:
        """Begins with what was found; a copy tells later what was changed."""
        self.labels = labels
        self._first = labels.copy()
        self._saved = self._first

    @property
    def unsaved(self) -> bool:
        """Whether something was painted since it was saved."""
        return not np.array_equal(self.labels, self._saved)

    def mark_saved(self) -> None:
        """Takes what is there as saved."""
        self._saved = self.labels.copy()

    def list_objects(self) -> list[PaintedObject]:
        """The objects, the smallest first: specks are what is wrong most often."""
        return sorted(_measure(self.labels).values(), key=lambda found: (found.size, found.id))

    def find_pixels(self, id: int) -> tuple[np.ndarray, ...]:
        """The indices of an object's pixels.

        Raises:
            BenchError: If there is no such object.
        """
        found = np.nonzero(self.labels == id) if id else ()
        if not id or not len(found[0]):
            raise BenchError(f"an object must be there, received id {id}: choose one of the list")
        return found

    def list_changes(self) -> list[Change[PaintedObject]]:
        """The objects with other pixels than in the beginning, by id."""
        other = self.labels != self._first
        touched = np.union1d(self.labels[other], self._first[other])
        before, after = _measure(self._first), _measure(self.labels)
        ids = [number for number in map(int, touched) if number]
        return [Change(number, before.get(number), after.get(number)) for number in ids]

    def count(self) -> EditCounts:
        """How many were added, removed and changed since the beginning."""
        return count_changes(self.list_changes())


def _measure(labels: np.ndarray) -> dict[int, PaintedObject]:
    """The objects of a label image by id."""
    places = np.flatnonzero(labels)
    ids, first, sizes = np.unique(labels.reshape(-1)[places], return_index=True, return_counts=True)
    at = np.column_stack(np.unravel_index(places[first], labels.shape))
    return {
        number: PaintedObject(number, size, (place[0], place[1], place[2]))
        for number, size, place in zip(ids.tolist(), sizes.tolist(), at.tolist(), strict=True)
    }
