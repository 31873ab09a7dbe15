"""A correction: the image, the labels of every structure, what is done to them, what is saved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.correction.changes import Change, EditCounts
from bench.correction.fitting import fit_vesicle
from bench.correction.label_edits import LabelEdits, PaintedObject
from bench.correction.sphere_edits import SphereEdits
from bench.export.label_images import as_label_type, viewable, write_label_tiff, write_tiff
from bench.export.mrc import write_mrc
from bench.export.sphere_table import SPHERES_FILE, SphereRow, write_spheres
from bench.export.spheres import find_balls
from bench.export.stack import VESICLES, LabelStack

# Ids below this leave room for more in uint16.
_ROOMY = 60_000
_LARGEST_OF_MRC = np.iinfo(np.uint16).max
# What `Correction.list_changes` says of an object.
CHANGE_COLUMNS = (
    *("structure", "id", "change", "z", "y", "x", "p"),
    *("radius_before", "radius_after", "pixels_before", "pixels_after"),
)
_MRC_TYPES = ("int8", "int16", "uint16", "float32")


@dataclass(frozen=True, eq=False)
class Correction:
    """What is corrected, and how.

    Attributes:
        stack: The image, with the labels as they are now; the first row is that on top.
        balls: The edits of structures whose objects are balls, by structure.
        painted: Those of the others.
        bottom_first: Whether the image came with its last row first, as MRC has it.
    """

    stack: LabelStack
    balls: Mapping[str, SphereEdits]
    painted: Mapping[str, LabelEdits]
    bottom_first: bool

    @classmethod
    def begin(cls, stack: LabelStack, *, bottom_first: bool = False) -> "Correction":
        """Begins to correct a stack, whose arrays are left as they are.

        Vesicles of a volume, and what else has spheres, are corrected as balls.
        """
        labels = {name: _with_room(ids) for name, ids in stack.labels.items()}
        stack = replace(stack, labels=labels)
        round_ones = [
            name for name in labels if stack.volume and name in (VESICLES, *stack.spheres)
        ]
        return cls(
            stack,
            {name: _edit_balls(stack, name) for name in round_ones},
            {name: LabelEdits(ids) for name, ids in labels.items() if name not in round_ones},
            bottom_first,
        )

    @property
    def unsaved(self) -> bool:
        """Whether something was done since it was saved."""
        return any(edits.unsaved for edits in self._edits().values())

    def counts(self) -> dict[str, EditCounts]:
        """What was done, by structure."""
        return {name: edits.count() for name, edits in self._edits().items()}

    def _edits(self) -> dict[str, SphereEdits | LabelEdits]:
        return {**self.balls, **self.painted}

    def list_changes(self) -> list[dict[str, object]]:
        """A row for every object that is otherwise than before: where, and how large."""
        return [
            *(_ball_change(name, change)
              for name, edits in self.balls.items() for change in edits.list_changes()),
            *(_painted_change(name, change)
              for name, edits in self.painted.items() for change in edits.list_changes()),
        ]  # fmt: skip

    def write(self, folder: Path) -> None:
        """Writes an annotation that prepare reads.

        Single images become ``<structure>/<name>.tif`` and ``raw/<name>.tif``. A volume becomes a
        stack of each, and spheres.csv: an MRC where it came from one, or lies at an origin.
        """
        if self.stack.volume:
            self._write_volume(folder)
        else:
            write_label_tiff(self.stack, folder)

    def mark_saved(self) -> None:
        """Takes what is there as saved."""
        for edits in self._edits().values():
            edits.mark_saved()

    def _write_volume(self, folder: Path) -> None:
        stack, raw = self.stack, self.stack.raw
        images = dict(stack.labels) | ({} if raw is None else {"raw": raw})
        fits = raw is None or str(raw.dtype) in _MRC_TYPES
        fits = fits and all(ids.max(initial=0) <= _LARGEST_OF_MRC for ids in stack.labels.values())
        as_mrc = fits and (self.bottom_first or stack.origin_nm is not None)
        for name, pixels in images.items():
            shown = viewable(pixels) if name == "raw" else as_label_type(pixels)
            path = folder / name / f"{stack.volume}{'.mrc' if as_mrc else '.tif'}"
            if as_mrc:
                kept = pixels if name == "raw" else shown
                write_mrc(stack, np.ascontiguousarray(kept[:, ::-1]), path)
            else:
                sizes = {"pixel_size_nm": stack.pixel_size_nm, "section_nm": stack.section_nm}
                write_tiff(path, shown, **sizes)
        rows = [row for edits in self.balls.values() for row in edits.table()]
        if as_mrc:
            rows = [replace(row, y=stack.shape[1] - 1 - row.y) for row in rows]
        if self.balls:
            write_spheres(folder / SPHERES_FILE, rows)


def _with_room(ids: np.ndarray) -> np.ndarray:
    """A copy in a type that has room for more objects."""
    return ids.astype(np.uint16 if ids.max(initial=0) < _ROOMY else np.uint32)


def _edit_balls(stack: LabelStack, structure: str) -> SphereEdits:
    """The edits of a structure that is balls: those of its table, else measured."""
    labels, listed = stack.labels[structure], stack.spheres.get(structure, ())
    balls = find_balls(labels, listed, section_px=stack.section_px, volume=stack.volume)
    size_nm = stack.pixel_size_nm
    rows = [
        replace(row, radius_nm=row.radius * size_nm)
        if size_nm and math.isnan(row.radius_nm)
        else row
        for row in (*balls, *(row for row in listed if not row.kept))
    ]
    raw = stack.raw
    fit = None if raw is None else partial(fit_vesicle, raw, section_px=stack.section_px)
    return SphereEdits(
        labels,
        rows,
        section_px=stack.section_px,
        pixel_size_nm=size_nm,
        volume=stack.volume,
        fit=fit,
    )


def _ball_change(structure: str, change: Change[SphereRow]) -> dict[str, object]:
    there = change.after or change.before
    assert there is not None
    return {
        "structure": structure,
        "id": change.id,
        "change": change.kind,
        "z": there.z,
        "y": there.y,
        "x": there.x,
        "radius_before": change.before.radius if change.before else None,
        "radius_after": change.after.radius if change.after else None,
        "p": None if math.isnan(there.p) else there.p,
    }


def _painted_change(structure: str, change: Change[PaintedObject]) -> dict[str, object]:
    there = change.after or change.before
    assert there is not None
    z, y, x = there.place
    return {
        "structure": structure,
        "id": change.id,
        "change": change.kind,
        "z": z,
        "y": y,
        "x": x,
        "pixels_before": change.before.size if change.before else 0,
        "pixels_after": change.after.size if change.after else 0,
    }
