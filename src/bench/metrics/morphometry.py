"""Size and place of instances, and how many there are."""

import numpy as np
import pandas as pd
from skimage.measure import regionprops_table

# By the name that they have in scikit-image: ours, and the power of length that it is.
_MEASURES = {
    "area": ("area", 2),
    "equivalent_diameter_area": ("equivalent_diameter", 1),
    "centroid-0": ("centroid_y", 1),
    "centroid-1": ("centroid_x", 1),
    "perimeter": ("perimeter", 1),
}
_NM2_PER_UM2 = 1e6


def measure_instances(labels: np.ndarray, pixel_size_nm: float | None) -> pd.DataFrame:
    """Measures every instance of a section.

    The centroid counts from the centre of the first pixel. The perimeter is that of a line
    through the centres of the outermost pixels, so that of a single pixel is 0.

    Args:
        labels: Instance ids (y, x), 0 background.
        pixel_size_nm: Edge of a pixel; None where it is not known.

    Returns:
        A row per instance: ``id``, then ``area_nm2``, ``equivalent_diameter_nm``,
        ``centroid_y_nm``, ``centroid_x_nm`` and ``perimeter_nm``, or the same in px.
    """
    properties = ["label", "area", "equivalent_diameter_area", "centroid", "perimeter"]
    found = regionprops_table(labels, properties=properties)
    unit, scale = ("px", 1.0) if pixel_size_nm is None else ("nm", pixel_size_nm)
    columns = {"id": found["label"].astype(np.int64)}
    for name, (ours, power) in _MEASURES.items():
        suffix = f"{unit}2" if power == 2 and unit != "px" else unit
        columns[f"{ours}_{suffix}"] = found[name] * scale**power
    return pd.DataFrame(columns)


def count_instances(labels: np.ndarray, pixel_size_nm: float | None) -> dict[str, float | int]:
    """Counts the instances of a section.

    Args:
        labels: Instance ids (y, x), 0 background.
        pixel_size_nm: Edge of a pixel; None where it is not known.

    Returns:
        ``instances``, ``foreground_fraction`` and, where the pixel size is known, ``area_um2``
        of the section and ``density_per_um2``.
    """
    instances = int(np.count_nonzero(np.bincount(labels.reshape(-1))[1:]))
    fraction = np.count_nonzero(labels) / labels.size
    counts: dict[str, float | int] = {"instances": instances, "foreground_fraction": fraction}
    if pixel_size_nm is not None:
        area = labels.size * pixel_size_nm**2 / _NM2_PER_UM2
        counts |= {"area_um2": area, "density_per_um2": instances / area}
    return counts
