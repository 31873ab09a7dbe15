"""Three planes through a volume that stand upright on each other, in one picture."""

from collections.abc import Mapping, Sequence

import numpy as np

from bench.core.pixels import stretch_contrast
from bench.report.figures.overlays import OKABE_ITO, find_outlines
from bench.report.figures.scale_bar import draw_scale_bar

_COLOURS = tuple(OKABE_ITO[name] for name in ("yellow", "sky blue", "vermillion", "bluish green"))
_GAP_PX = 4
# Pixels of the picture that a voxel becomes, so that the width is about a screen's.
_WIDTH_PX = 1200


def draw_planes(
    raw: np.ndarray,
    labels: Mapping[str, np.ndarray],
    *,
    voxel_nm: Sequence[float | None] = (None, None, None),
    at: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Draws the planes xy, zy (beside it) and xz (below it), without and with outlines.

    Voxels are drawn as cubes; the same contrast holds for all planes.

    Args:
        raw: Volume (z, y, x).
        labels: Ids (z, y, x) by structure; outlines take the colours in turn.
        voxel_nm: Edges of a voxel (z, y, x) in nm, for a scale bar; None where unknown.
        at: Voxel (z, y, x) through which the planes go; the middle where it is not given.

    Returns:
        RGB (y, x, 3), uint8.
    """
    z, y, x = at or tuple(n // 2 for n in raw.shape)
    planes = (raw[z], raw[:, :, x].T, raw[:, y])
    grey = stretch_contrast(np.concatenate([plane.ravel() for plane in planes])[None])[0]
    ends = np.cumsum([plane.size for plane in planes])[:-1]
    plain = [
        np.repeat(part.reshape(plane.shape)[..., None], 3, axis=2)
        for part, plane in zip(np.split(grey, ends), planes, strict=True)
    ]
    outlined = [picture.copy() for picture in plain]
    for number, ids in enumerate(labels.values()):
        cuts = (ids[z], ids[:, :, x].T, ids[:, y])
        for picture, cut in zip(outlined, cuts, strict=True):
            picture[find_outlines(cut)] = _COLOURS[number % len(_COLOURS)]
    sheets = [_join(*pictures) for pictures in (plain, outlined)]
    gap = np.full((len(sheets[0]), 2 * _GAP_PX, 3), 255, np.uint8)
    sheet = np.concatenate([sheets[0], gap, sheets[1]], axis=1)
    zoom = max(1, _WIDTH_PX // sheet.shape[1])
    sheet = sheet.repeat(zoom, axis=0).repeat(zoom, axis=1)
    width = planes[0].shape[1] * zoom
    bar = draw_scale_bar(sheet[: len(planes[0]) * zoom, :width], voxel_nm[2] and voxel_nm[2] / zoom)
    sheet[: len(bar), :width] = bar
    return sheet


def _join(middle: np.ndarray, beside: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Puts three planes on a white sheet."""
    (height, width), depth = middle.shape[:2], beside.shape[1]
    sheet = np.full((height + _GAP_PX + depth, width + _GAP_PX + depth, 3), 255, np.uint8)
    sheet[:height, :width] = middle
    sheet[:height, width + _GAP_PX :] = beside
    sheet[height + _GAP_PX :, :width] = below
    return sheet


def choose_planes(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int]:
    """The place (z, y, x) through which planes show most of what prediction and truth say apart.

    Each plane is the one with the most voxels that only one of the two has; where they agree, with
    the most of the truth; of equals the nearest to the middle.

    Args:
        truth: Ids (z, y, x).
        prediction: Ids (z, y, x).
    """
    differs = (truth != 0) != (prediction != 0)
    return find_fullest(differs if differs.any() else truth)


def find_fullest(volume: np.ndarray) -> tuple[int, int, int]:
    """The place (z, y, x) through which planes have most that is not 0; of equals the middlemost.

    Args:
        volume: Ids or a mask (z, y, x), of which a plane is looked at at a time.
    """
    counts = [np.zeros(side, np.int64) for side in volume.shape]
    for z, plane in enumerate(volume):
        filled = plane != 0
        counts[0][z] = np.count_nonzero(filled)
        counts[1] += np.count_nonzero(filled, axis=1)
        counts[2] += np.count_nonzero(filled, axis=0)
    place = []
    for found in counts:
        best = np.flatnonzero(found == found.max())
        middle = (found.size - 1) / 2
        place.append(int(best[np.argmin(np.abs(best - middle))]))
    z, y, x = place
    return z, y, x


def lay_out_planes(
    volume: np.ndarray, place: tuple[int, int, int], voxel_size_nm: tuple[float, ...]
) -> np.ndarray:
    """Lays the planes through a place side by side: along z (y, x), along y (z, x), along x (y, z).

    Planes are stretched along z to pixels of y and x by repeating them, so that ids stay ids, and
    filled up with the lowest value.

    Args:
        volume: Image or ids (z, y, x).
        place: Where the planes cross (z, y, x).
        voxel_size_nm: Edges of a voxel along z, y, x.

    Returns:
        One image, of the volume's type.
    """
    z, y, x = place
    stretch = voxel_size_nm[0] / voxel_size_nm[-1]
    count = max(1, round(volume.shape[0] * stretch))
    rows = np.minimum((np.arange(count) / stretch).astype(int), volume.shape[0] - 1)
    panels = [volume[z], volume[:, y][rows], volume[:, :, x][rows].T]
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + _GAP_PX * (len(panels) - 1)
    picture = np.full((height, width), volume.min(), volume.dtype)
    left = 0
    for panel in panels:
        picture[: panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP_PX
    return picture
