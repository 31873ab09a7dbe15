"""What a person does to the vesicles of a volume: one removed, added, resized; done and undone."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.correction.changes import Change, EditCounts, count_changes
from bench.errors import BenchError
from bench.export.instances import Instance, list_instances
from bench.export.sphere_table import SphereRow
from bench.export.spheres import ball_in_box

# From a centre (z, y, x) and a radius that are about right to the ball that fits the image, whose
# volume and id nobody reads; None where nothing there looks like a vesicle.
_FitVesicle = Callable[[tuple[float, float, float], float], SphereRow | None]

# Steps of the keys, and what a vesicle is made where none is there to go by.
_SMALLEST_RADIUS, _DEFAULT_RADIUS = 1.0, 8.0
# Makes the median deviation of a normal distribution its standard deviation.
_MAD_TO_DEVIATION = 1.4826
# How different radii are where all are the same.
_LEAST_DEVIATION = 0.25


@dataclass(frozen=True, eq=False)
class _Edit:
    """An edit of one vesicle, with the voxels that it changed.

    Attributes:
        id: The vesicle.
        box: Where labels changed.
        before: What was there.
        after: What is there.
    """

    id: int
    box: tuple[slice, ...]
    before: "_State"
    after: "_State"


@dataclass(frozen=True, eq=False)
class _State:
    """A vesicle at a time.

    Attributes:
        row: What it is; None where it is not there.
        removed: What can be put back of it; None where nothing can.
        pixels: The labels in the edit's box.
    """

    row: SphereRow | None
    removed: SphereRow | None
    pixels: np.ndarray


class SphereEdits:
    """The vesicles of a volume and their label image, with everything that was done to them.

    A vesicle that nobody touches keeps the voxels that it has. One that is resized or added is
    painted as a ball where no other vesicle lies.

    Attributes:
        labels: The ids (z, y, x); changed in place by every edit.
        rows: The vesicles that are there, by id.
        removed: Those that are not: found and left out by the program, or removed by the person.
    """

    def __init__(
        self,
        labels: np.ndarray,
        rows: Iterable[SphereRow],
        *,
        section_px: float = 1.0,
        pixel_size_nm: float | None = None,
        volume: str = "",
        fit: _FitVesicle | None = None,
    ) -> None:
        """Begins with what was found.

        Args:
            labels: Ids (z, y, x), in a type with room for more of them.
            rows: The vesicles of this volume; those with ``kept`` false are offered again.
            section_px: Distance of two sections in px.
            pixel_size_nm: Edge of a pixel in nm; None if not known.
            volume: Name of the volume.
            fit: Fits the centre and radius of a vesicle that is added; None takes the click.
        """
        listed = list(rows)
        self.labels = labels
        self.rows = {row.id: row for row in listed if row.kept}
        self._section_px, self._pixel_size_nm, self._volume = section_px, pixel_size_nm, volume
        self._fit = fit
        self._next = 1 + max([int(labels.max(initial=0)), *(row.id for row in listed)])
        # Ids of what was left out may be those of what was kept.
        self.removed: dict[int, SphereRow] = {}
        for row in listed:
            if not row.kept:
                free = row.id not in self.rows and row.id not in self.removed
                self.removed[row.id if free else self._take_id()] = row
        self._first = dict(self.rows)
        self._left_out = dict(self.removed)
        self._doubts = _estimate_doubts(listed)
        self._boxes = {found.id: _box_of(found) for found in list_instances(labels)}
        self._done: list[_Edit] = []
        self._undone: list[_Edit] = []
        self._saved: _Edit | None = None

    def _take_id(self) -> int:
        self._next += 1
        return self._next - 1

    @property
    def unsaved(self) -> bool:
        """Whether something was done since it was saved."""
        return self._saved is not self._last

    def mark_saved(self) -> None:
        """Takes what is there as saved."""
        self._saved = self._last

    @property
    def _last(self) -> _Edit | None:
        """The edit that made what is there; None in the beginning."""
        return self._done[-1] if self._done else None

    def doubt(self, row: SphereRow) -> float:
        """How likely a vesicle is: p, or how far its radius is off the others; NaN if unknown."""
        return row.p if not math.isnan(row.p) else self._doubts.get(row.id, math.nan)

    def list_by_doubt(self) -> list[SphereRow]:
        """The vesicles, the most doubtful first; then those that nobody doubts, by id."""
        return sorted(self.rows.values(), key=self._rank)

    def list_removed(self) -> list[tuple[int, SphereRow]]:
        """What is not there, by the id to `restore` it by; the most likely first."""
        ranked = [(-_or_zero(self.doubt(row)), key) for key, row in self.removed.items()]
        return [(key, self.removed[key]) for _, key in sorted(ranked)]

    def _rank(self, row: SphereRow) -> tuple[bool, float, int]:
        doubt = self.doubt(row)
        return math.isnan(doubt), 0.0 if math.isnan(doubt) else doubt, row.id

    def find(self, place: tuple[float, float, float]) -> int | None:
        """The id of the vesicle at a place (z, y, x) in voxels; None where there is none."""
        voxel = tuple(math.floor(value + 0.5) for value in place)
        if not all(0 <= v < side for v, side in zip(voxel, self.labels.shape, strict=True)):
            return None
        found = int(self.labels[voxel])
        return found if found in self.rows else None

    def remove(self, id: int) -> tuple[slice, ...]:
        """Removes a vesicle.

        Returns:
            The box in which labels changed, as all edits do.
        """
        row = self._get(id)
        return self._do(id, row, None)

    def restore(self, key: int) -> tuple[slice, ...]:
        """Puts back what was left out or removed, under its key of `list_removed`."""
        if key not in self.removed:
            raise BenchError(
                f"what is put back must have been removed, received id {key}: choose a removed one"
            )
        row = replace(self.removed[key], id=key, kept=True, reason="", status="restored")
        return self._do(key, None, row)

    def add(self, place: tuple[float, float, float]) -> int:
        """Adds a vesicle at a place (z, y, x) in voxels, with centre and radius as they fit there.

        Returns:
            Its id.

        Raises:
            BenchError: If the place is outside of the volume, or in another vesicle.
        """
        inside = all(
            -0.5 <= v < side - 0.5 for v, side in zip(place, self.labels.shape, strict=True)
        )
        if not inside or self.find(place) is not None:
            what = f"vesicle {self.find(place)}" if inside else "the outside of the volume"
            raise BenchError(
                f"a vesicle must be added where none is, received a place in {what}: click "
                "elsewhere, or remove that first"
            )
        radii = [row.radius for row in self.rows.values()]
        radius = float(np.median(radii)) if radii else _DEFAULT_RADIUS
        fitted = self._fit(place, radius) if self._fit else None
        ball = fitted or SphereRow(self._volume, 0, *map(float, place), radius=radius)
        status = "added" if fitted else "added, not fitted"
        row = replace(ball, volume=self._volume, id=self._take_id(), status=status)
        self._do(row.id, None, self._in_nm(row))
        return row.id

    def resize(self, id: int, by: float) -> tuple[slice, ...]:
        """Changes the radius of a vesicle by so many voxels; it stays one voxel at least."""
        row = self._get(id)
        radius = max(_SMALLEST_RADIUS, row.radius + by)
        status = row.status if row.status.startswith("added") else "resized"
        return self._do(id, row, self._in_nm(replace(row, radius=radius, status=status)))

    def undo(self) -> int | None:
        """Takes the last edit back; returns the vesicle, or None where nothing was done."""
        if not self._done:
            return None
        edit = self._done.pop()
        self._undone.append(edit)
        self._apply(edit.id, edit.box, edit.before)
        return edit.id

    def redo(self) -> int | None:
        """Does what was undone last; returns the vesicle, or None where nothing was undone."""
        if not self._undone:
            return None
        edit = self._undone.pop()
        self._done.append(edit)
        self._apply(edit.id, edit.box, edit.after)
        return edit.id

    def last_box(self) -> tuple[slice, ...]:
        """Where the last edit, done or undone, changed labels; whole where there was none."""
        edits = [*self._done[-1:], *self._undone[-1:]]
        return edits[-1].box if edits else tuple(map(slice, self.labels.shape))

    def list_changes(self) -> list[Change[SphereRow]]:
        """What is otherwise than in the beginning, by id."""
        first, now = self._first, self.rows
        pairs = [Change(key, first.get(key), now.get(key)) for key in sorted(first.keys() | now)]
        return [change for change in pairs if not _same(change.before, change.after)]

    def count(self) -> EditCounts:
        """How many were added, removed and changed since the beginning."""
        return count_changes(self.list_changes())

    def table(self) -> Iterator[SphereRow]:
        """The rows to be saved: the vesicles, then what is left out."""
        yield from sorted(self.rows.values(), key=lambda row: row.id)
        for key, row in sorted(self.removed.items()):
            reason = row.reason if key in self._left_out else "removed by hand"
            yield replace(row, id=key, kept=False, reason=reason)

    def _get(self, id: int) -> SphereRow:
        if id not in self.rows:
            raise BenchError(f"a vesicle must be there, received id {id}: choose one of the list")
        return self.rows[id]

    def _in_nm(self, row: SphereRow) -> SphereRow:
        size = self._pixel_size_nm
        return replace(row, radius_nm=math.nan if size is None else row.radius * size)

    def _do(self, id: int, before: SphereRow | None, after: SphereRow | None) -> tuple[slice, ...]:
        """Paints an edit, and notes it."""
        rows = [row for row in (before, after) if row is not None]
        boxes = [ball_in_box(row, self.labels.shape, self._section_px)[0] for row in rows]
        boxes += [self._boxes[id]] if id in self._boxes else []
        box = tuple(
            slice(min(s.start for s in sides), max(s.stop for s in sides))
            for sides in zip(*boxes, strict=True)
        )
        self._boxes[id] = box
        old = self.labels[box].copy()
        new = np.where(old == id, 0, old).astype(old.dtype)
        if after is not None:
            inside = _within(ball_in_box(after, self.labels.shape, self._section_px), box)
            new[inside & (new == 0)] = id
        gone = None
        if after is None and before is not None and not before.status.startswith("added"):
            gone = self._left_out.get(id, before)
        edit = _Edit(id, box, _State(before, self.removed.get(id), old), _State(after, gone, new))
        self._done.append(edit)
        self._undone.clear()
        self._apply(id, box, edit.after)
        return box

    def _apply(self, id: int, box: tuple[slice, ...], state: _State) -> None:
        self.labels[box] = state.pixels
        for listed, row in ((self.rows, state.row), (self.removed, state.removed)):
            listed.pop(id, None)
            if row is not None:
                listed[id] = row


def _box_of(instance: Instance) -> tuple[slice, ...]:
    sides = zip(instance.corner, instance.mask.shape, strict=True)
    return tuple(slice(start, start + side) for start, side in sides)


def _within(ball: tuple[tuple[slice, ...], np.ndarray], box: tuple[slice, ...]) -> np.ndarray:
    """A ball's voxels in a larger box."""
    own, inside = ball
    found = np.zeros([side.stop - side.start for side in box], bool)
    place = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(own, box, strict=True))
    found[place] = inside
    return found


def _estimate_doubts(rows: list[SphereRow]) -> dict[int, float]:
    """Where no vesicle has a p: how likely a radius is, by the median and deviation of all."""
    kept = [row for row in rows if row.kept]
    if not kept or not all(math.isnan(row.p) for row in kept):
        return {}
    radii = np.array([row.radius for row in kept])
    away = np.abs(radii - np.median(radii))
    deviation = max(_LEAST_DEVIATION, _MAD_TO_DEVIATION * float(np.median(away)))
    return {
        row.id: math.erfc(float(distance) / deviation / math.sqrt(2))
        for row, distance in zip(kept, away, strict=True)
    }


def _same(before: SphereRow | None, after: SphereRow | None) -> bool:
    """Whether a vesicle lies where it lay; NaN is no reason to differ, nor is its status."""
    if before is None or after is None:
        return before is after
    return (before.centre, before.radius) == (after.centre, after.radius)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
