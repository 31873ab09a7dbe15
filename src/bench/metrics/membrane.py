"""Whether the membranes of what was found are dark, as models know them, or bright."""

from collections.abc import Mapping, Sequence
from math import pi, prod

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

# On either side of the surface of an instance.
_SEEN_NM = 15.0
# Where a model is sure; and a vesicle of 24 nm.
_SURE = 230
_SMALLEST_NM3 = 4 / 3 * pi * 12**3
# Weights of CryoVesNet give 0.54 and 0.46 in a phantom, and -0.53 and -0.06 in its inverse.
_INVERTED_BELOW = 0.1
# Instances that are looked at, from the first id to the last.
_LOOKED_AT = 200


def membrane_contrast(
    raw: np.ndarray, labels: np.ndarray, levels: np.ndarray, voxel_size_nm: Sequence[float]
) -> float | None:
    """How much more the grey values across the surfaces of instances dip than they peak.

    They are averaged by their distance from the surface, up to 15 nm inwards and outwards. Of an
    instance that counts which a model is sure of, where that is as large as a vesicle: specks are
    found in any contrast. A membrane is the dip or the peak of that profile, wherever it is:
    something may be found with a surface beside it.

    Args:
        raw: Volume (z, y, x) of any bit depth.
        labels: Its instance ids.
        levels: Probability of the foreground as uint8, 255 p.
        voxel_size_nm: Edges of a voxel along z, y, x.

    Returns:
        Above 0 where it dips more below both of its ends, inside and outside, than it peaks above
        them, as of dark membranes; its range is -1 to 1. None where nothing counts.
    """
    boxes = [(number, box) for number, box in enumerate(find_objects(labels), 1) if box]
    width, least = max(voxel_size_nm), _SMALLEST_NM3 / prod(voxel_size_nm)
    margins = [int(_SEEN_NM / edge) + 1 for edge in voxel_size_nm]
    bins = 2 * max(1, int(_SEEN_NM / width))
    sums, counts = np.zeros(bins), np.zeros(bins)
    for number, box in boxes[:: max(1, len(boxes) // _LOOKED_AT)]:
        seen = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        own = (labels[seen] == number) & (levels[seen] >= _SURE)
        if np.count_nonzero(own) < least:
            continue
        away = distance_transform_edt(~own, sampling=voxel_size_nm)
        away -= distance_transform_edt(own, sampling=voxel_size_nm)
        place = np.floor(away / width).astype(np.intp) + bins // 2
        taken = np.isin(labels[seen], (0, number)) & (place >= 0) & (place < bins)
        counts += np.bincount(place[taken], minlength=bins)
        sums += np.bincount(place[taken], raw[seen][taken].astype(np.float64), minlength=bins)
    profile = sums[counts > 0] / counts[counts > 0]
    if profile.size == 0 or profile.max() == profile.min():
        return None
    quarter = max(1, profile.size // 4)
    ends = float(np.median(profile[:quarter])), float(np.median(profile[-quarter:]))
    low, high = float(profile.min()), float(profile.max())
    return ((min(ends) - low) - (high - max(ends))) / (high - low)


def find_inverted(contrasts: Mapping[str, float]) -> list[str]:
    """Says of which volumes the contrast seems inverted, in one line; none where it is right.

    Args:
        contrasts: What `membrane_contrast` found, by volume.
    """
    bright = [name for name, value in contrasts.items() if value < _INVERTED_BELOW]
    if not bright:
        return []
    return [
        f"the contrast of {', '.join(bright)} seems inverted: the surfaces of what was found are "
        "bright, and the model knows dark membranes; invert the grey values, and segment again"
    ]
