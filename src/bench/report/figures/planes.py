"""A volume as one picture: three planes through a place, side by side."""

import numpy as np

# Between the planes, px: narrow, and without labels.
_GAP_PX = 6


def choose_planes(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int]:
    """The place (z, y, x) through which planes show most of what prediction and truth say apart.

    Each plane is the one with the most voxels that only one of the two has; where they agree, with
    the most of the truth; of equals the nearest to the middle.

    Args:
        truth: Ids (z, y, x).
        prediction: Ids (z, y, x).
    """
    differs = (truth != 0) != (prediction != 0)
    shown = differs if differs.any() else truth != 0
    place = []
    for axis in range(3):
        counts = shown.sum(axis=tuple(other for other in range(3) if other != axis))
        best = np.flatnonzero(counts == counts.max())
        middle = (counts.size - 1) / 2
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
    panels = [volume[z], volume[rows][:, y], volume[rows][:, :, x].T]
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + _GAP_PX * (len(panels) - 1)
    picture = np.full((height, width), volume.min(), volume.dtype)
    left = 0
    for panel in panels:
        picture[: panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP_PX
    return picture
