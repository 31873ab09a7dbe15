"""Instances found in overlapping windows of a section, put together to those of the section.

micro_sam's own tiling holds every mask at the size of the whole image (a batch of 64 points on a
montage of 7000 px: 9 GB) and drops masks that touch a tile's border. Here a mask has the size of
its bounding box, and the parts of an instance that neighbouring windows see are joined.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from skimage.measure import label

# Masks of two windows are the same instance if they agree so well where both windows see.
_SAME_IOU = 0.5
# The edge of a window that an object has for itself, of the object's longer side.
_ROOM = 1.25


@dataclass(frozen=True)
class Box:
    """A rectangle of a section in px, the end excluded."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """What cuts it out of a section."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def overlap(self, other: "Box") -> "Box":
        """The rectangle shared with another; of no or negative size if there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, x0, min(self.y1, other.y1), min(self.x1, other.x1))

    def around(self, other: "Box") -> "Box":
        """The smallest rectangle around both."""
        y0, x0 = min(self.y0, other.y0), min(self.x0, other.x0)
        return Box(y0, x0, max(self.y1, other.y1), max(self.x1, other.x1))

    def scale(self, rows: float, columns: float) -> "Box":
        """The same in an image that is larger by a factor along y and one along x."""
        y0, y1 = (round(side * rows) for side in (self.y0, self.y1))
        x0, x1 = (round(side * columns) for side in (self.x0, self.x1))
        return Box(y0, x0, max(y1, y0 + 1), max(x1, x0 + 1))

    def is_empty(self) -> bool:
        """Whether it has no pixels."""
        return self.y1 <= self.y0 or self.x1 <= self.x0


def whole_box(shape: tuple[int, ...]) -> Box:
    """All of a section (y, x)."""
    height, width = shape
    return Box(0, 0, height, width)


@dataclass(frozen=True, eq=False)
class Mask:
    """An instance, or the part of it that a window sees.

    Attributes:
        box: Its bounding box in the section.
        bits: Its pixels in the box, packed eight to a byte.
        area: Number of its pixels.
        score: How good it is, 0 to 1.
    """

    box: Box
    bits: np.ndarray
    area: int
    score: float

    @classmethod
    def pack(cls, pixels: np.ndarray, y0: int, x0: int, score: float) -> "Mask":
        """Packs pixels (y, x) whose corner is at (y0, x0) of the section."""
        height, width = pixels.shape
        area = int(np.count_nonzero(pixels))
        return cls(Box(y0, x0, y0 + height, x0 + width), np.packbits(pixels), area, score)

    def pixels(self) -> np.ndarray:
        """Its pixels in its box, boolean."""
        height, width = self.box.shape
        flat = np.unpackbits(self.bits, count=height * width)
        return flat.reshape(height, width).astype(bool)

    def move(self, dy: int, dx: int) -> "Mask":
        """The same mask so many px further down and to the right."""
        return replace(self, box=_shift(self.box, Box(-dy, -dx, 0, 0)))

    def cut(self, box: Box) -> np.ndarray:
        """Its pixels in another box, which reaches beyond its own."""
        pixels = np.zeros(box.shape, dtype=bool)
        shared = self.box.overlap(box)
        if not shared.is_empty():
            pixels[_shift(shared, box).slices] = self.pixels()[_shift(shared, self.box).slices]
        return pixels


def _shift(box: Box, origin: Box) -> Box:
    """A box in the coordinates of another one's corner."""
    dy, dx = origin.y0, origin.x0
    return Box(box.y0 - dy, box.x0 - dx, box.y1 - dy, box.x1 - dx)


def place_windows(shape: tuple[int, ...], *, tile_px: int, halo_px: int) -> list[Box]:
    """Covers a section with windows of one size that overlap by at least twice the halo.

    Windows have the edge tile_px + 2 halo_px and lie within the section; a side that is shorter
    is covered by one.
    """
    edge = tile_px + 2 * halo_px
    starts = [
        sorted({min(start, max(side - edge, 0)) for start in range(0, side, tile_px)})
        for side in shape
    ]
    return [
        Box(y, x, min(y + edge, shape[0]), min(x + edge, shape[1]))
        for y in starts[0]
        for x in starts[1]
    ]


def windows_around(boxes: np.ndarray, windows: Sequence[Box], shape: tuple[int, ...]) -> list[Box]:
    """The window in which each of some objects is looked at, which holds it whole.

    It is, of the windows that hold the object whole, the one whose middle is nearest, or, where
    none does, one of its own around it: as large as the others, or larger where the object is.
    It follows from the object's own box alone, so that the same object is seen the same way
    whatever else was found.

    Args:
        boxes: x0, y0, x1, y1 of every object (n, 4), in px of the section.
        windows: The windows of the section.
        shape: Of the section (y, x).

    Returns:
        A window for each object, in their order.
    """
    sides = np.array([[w.x0, w.y0, w.x1, w.y1] for w in windows])
    middles = (sides[:, :2] + sides[:, 2:]) / 2
    found = []
    for box in np.asarray(boxes, np.float64).clip(0, np.tile(shape[::-1], 2)):
        apart = (((box[:2] + box[2:]) / 2 - middles) ** 2).sum(axis=1)
        whole = (sides[:, :2] <= box[:2]).all(axis=1) & (box[2:] <= sides[:, 2:]).all(axis=1)
        apart[~whole] = np.inf
        own = not whole.any()
        found.append(_own_window(box, windows[0], shape) if own else windows[int(apart.argmin())])
    return found


def _own_window(box: np.ndarray, usual: Box, shape: tuple[int, ...]) -> Box:
    x0, y0, x1, y1 = (float(side) for side in box)
    half = max(*usual.shape, _ROOM * max(y1 - y0, x1 - x0)) / 2
    y, x = (y0 + y1) / 2, (x0 + x1) / 2
    return Box(
        max(0, min(int(y - half), math.floor(y0))),
        max(0, min(int(x - half), math.floor(x0))),
        min(shape[0], max(int(y + half), math.ceil(y1))),
        min(shape[1], max(int(x + half), math.ceil(x1))),
    )


def join_masks(windows: Sequence[Box], masks: Sequence[Sequence[Mask]]) -> list[Mask]:
    """Joins the masks of all windows that are the same instance.

    Args:
        windows: The windows.
        masks: The masks that each of them found.

    Returns:
        One mask per instance; its score is the mean over its parts, weighted by their areas.
    """
    flat = [mask for found in masks for mask in found]
    starts = np.cumsum([0, *(len(found) for found in masks)])
    parent = list(range(len(flat)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first in range(len(windows)):
        for second in range(first + 1, len(windows)):
            shared = windows[first].overlap(windows[second])
            if shared.is_empty():
                continue
            for i, j in _match_masks(masks[first], masks[second], shared):
                parent[find(int(starts[second]) + j)] = find(int(starts[first]) + i)
    groups: dict[int, list[Mask]] = {}
    for index, mask in enumerate(flat):
        groups.setdefault(find(index), []).append(mask)
    return [_unite(group) for group in groups.values()]


def _match_masks(
    first: Sequence[Mask], second: Sequence[Mask], shared: Box
) -> list[tuple[int, int]]:
    """Finds the pairs of two windows' masks that agree within the rectangle both windows see."""
    cuts = [
        [
            (index, mask.box.overlap(shared), mask.cut(shared))
            for index, mask in enumerate(masks)
            if not mask.box.overlap(shared).is_empty()
        ]
        for masks in (first, second)
    ]
    pairs = []
    for i, box_i, pixels_i in cuts[0]:
        for j, box_j, pixels_j in cuts[1]:
            if box_i.overlap(box_j).is_empty():
                continue
            both = _shift(box_i.around(box_j), shared).slices
            union = np.count_nonzero(pixels_i[both] | pixels_j[both])
            common = np.count_nonzero(pixels_i[both] & pixels_j[both])
            if union and common >= _SAME_IOU * union:
                pairs.append((i, j))
    return pairs


def _unite(group: Sequence[Mask]) -> Mask:
    if len(group) == 1:
        return group[0]
    box = group[0].box
    for mask in group[1:]:
        box = box.around(mask.box)
    pixels = np.zeros(box.shape, dtype=bool)
    for mask in group:
        pixels[_shift(mask.box, box).slices] |= mask.pixels()
    weights = [mask.area for mask in group]
    score = float(np.average([mask.score for mask in group], weights=weights))
    return Mask.pack(pixels, box.y0, box.x0, score)


def paint_masks(
    masks: Sequence[Mask], shape: tuple[int, ...], *, min_area_px: int, max_area_px: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Paints masks into a section, small ones over large ones, and filters them by area.

    Parts of a mask that do not touch are instances of their own, as in micro_sam. The area is
    looked at twice: of the whole mask, so that what is too large does not cover anything, and of
    what is left of it between the smaller ones.

    Args:
        masks: The instances.
        shape: Of the section (y, x).
        min_area_px: Area of the smallest instance kept.
        max_area_px: Area of the largest; None for any.

    Returns:
        Ids 1, 2 .. (y, x) int32, 0 background, and the score of every id, float32; that of 0 is 0.
    """
    kept = [m for m in masks if _is_within(m.area, min_area_px, max_area_px)]
    kept.sort(key=lambda mask: mask.area, reverse=True)
    painted = np.zeros(shape, dtype=np.int32)
    for number, mask in enumerate(kept, start=1):
        painted[mask.box.slices][mask.pixels()] = number
    # Within the box of each, so that no more of the size of the section is held. Ids follow the
    # places of first pixels, whatever the order of the masks.
    parts: list[tuple[int, int, int]] = []
    new_ids = []
    for number, mask in enumerate(kept, start=1):
        found = _list_parts(painted, mask.box, number)
        new_ids.append(np.zeros(len(found) + 1, dtype=np.int32))
        for first, part, area in found:
            if _is_within(area, min_area_px, max_area_px):
                parts.append((first, number, part))
    for new_id, (_, number, part) in enumerate(sorted(parts), start=1):
        new_ids[number - 1][part] = -new_id
    for number, mask in enumerate(kept, start=1):
        _number_parts(painted, mask.box, number, new_ids[number - 1])
    np.negative(painted, out=painted)
    scores = [kept[number - 1].score for _, number, _ in sorted(parts)]
    return painted, np.array([0.0, *scores], dtype=np.float32)


def _list_parts(painted: np.ndarray, box: Box, number: int) -> list[tuple[int, int, int]]:
    """The 4-connected parts of what is left of a mask: first pixel in the section, number, area."""
    labelled = label(painted[box.slices] == number, connectivity=1).reshape(-1)
    areas = np.bincount(labelled)
    firsts = np.zeros(areas.size, dtype=np.intp)
    # The last that is written is the first of each.
    firsts[labelled[::-1]] = np.arange(labelled.size)[::-1]
    y, x = np.divmod(firsts, box.shape[1])
    places = (box.y0 + y) * painted.shape[1] + box.x0 + x
    return [(int(places[part]), part, int(areas[part])) for part in range(1, areas.size)]


def _number_parts(painted: np.ndarray, box: Box, number: int, new_ids: np.ndarray) -> None:
    """Writes over the number of a mask what its parts become, by the number of each part."""
    window = painted[box.slices]
    mine = window == number
    if new_ids.size <= 2:
        window[mine] = new_ids[-1]
    else:
        window[mine] = new_ids[label(mine, connectivity=1)[mine]]


def _is_within(area: int, min_area_px: int, max_area_px: int | None) -> bool:
    return area >= max(min_area_px, 1) and (max_area_px is None or area <= max_area_px)
