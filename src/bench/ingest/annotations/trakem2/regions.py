"""The annotated regions of a project: boxes around objects, followed through layers."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.rasterise import clip, find_bounds
from bench.ingest.annotations.trakem2.placing import Layer
from bench.ingest.annotations.trakem2.project import TrakEM2Project

# A step to the next layer that is longer than this many usual ones is a gap.
_LARGEST_STEP = 1.5


@dataclass(frozen=True)
class Region:
    """A box through layers.

    Attributes:
        left: First column in the layer set.
        top: The same of its first row.
        width: Columns.
        height: Rows.
        layers: Numbers of the layers in which something is drawn, ascending.
    """

    left: int
    top: int
    width: int
    height: int
    layers: tuple[int, ...]


@dataclass(frozen=True)
class _Box:
    """A box in the layer set, ends excluded, and the layers annotated in it."""

    left: int
    top: int
    right: int
    bottom: int
    layers: frozenset[int]


def find_regions(
    project: TrakEM2Project, objects: Sequence[DrawnObject], margin_px: int
) -> list[Region]:
    """Finds the regions that hold objects.

    An object has one box for all its layers, grown by the margin and clipped to the layer set.
    Boxes that overlap become the box around them, until none do; boxes that only touch stay. A
    gap in the series, where sections are missing and no object goes on, separates regions that
    lie over each other.

    Args:
        project: The project.
        objects: Objects of the project, or some of them.
        margin_px: What is added on each side, in px.

    Returns:
        The regions from gap to gap by their top, then by their left.
    """
    boxes = [box for item in objects if (box := _find_box(item, margin_px, project.size))]
    merged = []
    for run in _part_at_gaps(boxes, _find_gaps(project.layers)):
        before, after = run, _merge_boxes(run)
        while len(after) < len(before):
            before, after = after, _merge_boxes(after)
        merged += sorted(after, key=lambda box: (box.top, box.left))
    return [
        Region(b.left, b.top, b.right - b.left, b.bottom - b.top, tuple(sorted(b.layers)))
        for b in merged
    ]


def _find_gaps(layers: Sequence[Layer]) -> list[int]:
    """Numbers of the layers before which sections of the series are missing."""
    steps = np.diff([layer.z_px for layer in layers])
    usual = float(np.median(steps)) if len(steps) else 0.0
    return [number for number, step in enumerate(steps, start=1) if step > _LARGEST_STEP * usual]


def _part_at_gaps(boxes: Sequence[_Box], gaps: Sequence[int]) -> list[list[_Box]]:
    """Parts boxes at the gaps that none of them goes across, in the order of the layers."""
    real = [g for g in gaps if not any(min(b.layers) < g <= max(b.layers) for b in boxes)]
    runs: list[list[_Box]] = [[] for _ in range(len(real) + 1)]
    for box in boxes:
        runs[bisect_right(real, min(box.layers))].append(box)
    return runs


def _find_box(item: DrawnObject, margin_px: int, size: tuple[int, int]) -> _Box | None:
    """The box of an object in a layer set of a size (height, width); None if it is outside."""
    bounds = [find_bounds(shape) for shapes in item.shapes.values() for shape in shapes]
    if not bounds:
        return None
    low = np.min([low for low, _ in bounds], axis=0)
    high = np.max([high for _, high in bounds], axis=0)
    if not np.isfinite(low).all():
        return None
    low, high = np.floor(low) - margin_px, np.ceil(high) + margin_px
    left, right = clip(int(low[0]), int(high[0]), size[1])
    top, bottom = clip(int(low[1]), int(high[1]), size[0])
    if left >= right or top >= bottom:
        return None
    return _Box(left, top, right, bottom, frozenset(item.shapes))


def _merge_boxes(boxes: list[_Box]) -> list[_Box]:
    """Merges boxes that overlap, in one sweep to the right.

    Of the boxes that the sweep is over, no two share rows, so those that a new one overlaps are
    neighbours in a list by rows. A box that grows to the left of the sweep may come to overlap
    one that was left behind: then another sweep finds less boxes than this one.
    """
    done: list[_Box] = []
    active: list[_Box] = []
    tops: list[int] = []
    bottoms: list[int] = []
    for box in sorted(boxes, key=lambda box: box.left):
        first, last = bisect_right(bottoms, box.top), bisect_left(tops, box.bottom)
        grown = box
        for other in active[first:last]:
            if other.right > box.left:
                grown = _join(grown, other)
            else:
                done.append(other)
        active[first:last] = [grown]
        tops[first:last] = [grown.top]
        bottoms[first:last] = [grown.bottom]
    return done + active


def _join(one: _Box, other: _Box) -> _Box:
    return _Box(
        min(one.left, other.left),
        min(one.top, other.top),
        max(one.right, other.right),
        max(one.bottom, other.bottom),
        one.layers | other.layers,
    )
