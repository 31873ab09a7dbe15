"""Whether the membranes of what was found are darker than what lies around them."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

# As thick as a membrane is, and of what surrounds it.
_SHELL_NM = 4.5
_AROUND_NM = 9.0
# Instances that are looked at, from the first id to the last.
_LOOKED_AT = 200


def membrane_contrast(
    raw: np.ndarray, labels: np.ndarray, voxel_size_nm: Sequence[float]
) -> float | None:
    """How much darker the rim of instances is than their surroundings.

    The rim is the outermost 4.5 nm of an instance, the surroundings are the next 9 nm that are in
    no instance.

    Args:
        raw: Volume (z, y, x) of any bit depth.
        labels: Its instance ids.
        voxel_size_nm: Edges of a voxel along z, y, x.

    Returns:
        The mean over some instances, in standard deviations of the grey values around them: above
        0 where membranes are dark, as in micrographs of stained or frozen tissue. None where
        nothing was found.
    """
    boxes = [(number, box) for number, box in enumerate(find_objects(labels), 1) if box]
    step = max(1, len(boxes) // _LOOKED_AT)
    margins = [int(_AROUND_NM / edge) + 1 for edge in voxel_size_nm]
    darker, spread = [], []
    for number, box in boxes[::step]:
        seen = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        own = labels[seen] == number
        inwards = distance_transform_edt(own, sampling=voxel_size_nm)
        outwards = distance_transform_edt(~own, sampling=voxel_size_nm)
        rim = own & (inwards <= max(_SHELL_NM, *voxel_size_nm))
        around = (labels[seen] == 0) & (outwards <= max(_AROUND_NM, *voxel_size_nm))
        if around.any():
            grey = raw[seen].astype(np.float64)
            darker.append(float(grey[around].mean() - grey[rim].mean()))
            spread.append(float(grey.std()))
    deviation = float(np.mean(spread)) if spread else 0.0
    return float(np.mean(darker)) / deviation if deviation else None


def find_inverted(contrasts: Mapping[str, float]) -> list[str]:
    """Says of which volumes the contrast seems inverted, in one line; none where it is right.

    Args:
        contrasts: What `membrane_contrast` found, by volume.
    """
    bright = [name for name, value in contrasts.items() if value < 0]
    if not bright:
        return []
    return [
        f"the contrast of {', '.join(bright)} seems inverted: what was found has a rim that is "
        "brighter than its surroundings, and the model knows dark membranes; invert the grey "
        "values, and segment again"
    ]
