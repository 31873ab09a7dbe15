"""What is measured: each quantity is one sum over objects divided by another, or by the tissue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.measurement.objects import CUT

NM2_PER_UM2, NM3_PER_UM3 = 1e6, 1e9
# What a sum over objects may be divided by, in place of the number of objects.
_SECTIONS, EXTENT = "sections", "extent"


@dataclass(frozen=True)
class Quantity:
    """A quantity of sections, regions and groups.

    Attributes:
        name: Its name in tables.
        label: What people call it.
        unit: Of its values.
        column: Of the table of objects; empty counts objects.
        over: ``sections`` (or volumes), ``extent`` (µm² or µm³), or empty for the objects that
            have a value: a mean.
        whole: Whether objects that the border cuts are left out.
        scale: The sum is divided by it.
        high: The largest value that can be.
    """

    name: str
    label: str
    unit: str
    column: str
    over: str = ""
    whole: bool = False
    scale: float = 1.0
    high: float = np.inf


def _mean(name: str, label: str, unit: str, column: str, **rest: bool | float) -> Quantity:
    return Quantity(name, label, unit, column, **rest)  # type: ignore[arg-type]


_COUNT = Quantity("count", "Objects", "per section", "", _SECTIONS)
_NEIGHBOUR = _mean("neighbour_nm", "Nearest neighbour", "nm", "neighbour_nm")
_GREY = _mean("mean_grey", "Mean grey value", "", "mean_grey", whole=True)
_DIAMETER = _mean("diameter_nm", "Diameter", "nm", "equivalent_diameter_nm", whole=True)
_OTHER = (
    _mean("distance_nm", "Distance to the other structure", "nm", "distance_nm"),
    _mean("in_contact", "Share in contact", "", "in_contact", high=1.0),
)
# By the number of axes, in the order of tables.
QUANTITIES: dict[int, tuple[Quantity, ...]] = {
    2: (
        _COUNT,
        Quantity("density_per_um2", "Density", "per µm²", "", EXTENT),
        Quantity(
            "area_fraction", "Area fraction", "", "area_nm2", EXTENT, scale=NM2_PER_UM2, high=1.0
        ),
        _mean("area_nm2", "Area", "nm²", "area_nm2", whole=True),
        _DIAMETER,
        _mean("perimeter_nm", "Perimeter", "nm", "perimeter_nm", whole=True),
        _mean("circularity", "Circularity", "", "circularity", whole=True, high=1.0),
        _mean("feret_nm", "Feret diameter", "nm", "feret_nm", whole=True),
        _GREY,
        _NEIGHBOUR,
        *_OTHER,
        _mean("contact_nm", "Contact of an object", "nm", "contact_nm"),
    ),
    3: (
        Quantity("count", "Objects", "per volume", "", _SECTIONS),
        Quantity("density_per_um3", "Density", "per µm³", "", EXTENT),
        Quantity(
            "volume_fraction",
            "Volume fraction",
            "",
            "volume_nm3",
            EXTENT,
            scale=NM3_PER_UM3,
            high=1.0,
        ),
        _mean("volume_nm3", "Volume", "nm³", "volume_nm3", whole=True),
        _DIAMETER,
        _GREY,
        _NEIGHBOUR,
        *_OTHER,
        _mean("contact_nm2", "Contact of an object", "nm²", "contact_nm2"),
    ),
}


def list_quantities(axes: int, columns: Sequence[str]) -> tuple[Quantity, ...]:
    """The quantities that tables of objects with these columns have."""
    return tuple(q for q in QUANTITIES[axes] if not q.column or q.column in columns)


def object_values(quantity: Quantity, objects: pd.DataFrame) -> np.ndarray:
    """What each object adds to the upper sum; NaN where it has no such value."""
    if not quantity.column:
        return np.ones(len(objects))
    values = objects[quantity.column].to_numpy(float) / quantity.scale
    values[~np.isfinite(values)] = np.nan
    if quantity.whole:
        values[objects[CUT].to_numpy(bool)] = np.nan
    return values


def divide(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Divides; NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lower > 0, upper / lower, np.nan)
