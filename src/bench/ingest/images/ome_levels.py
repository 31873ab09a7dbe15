"""The levels of a multiscale image by the metadata of OME-Zarr."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.ingest.images.axes import as_numbers

MOST_LEVELS = 100
UNIT_NM = {
    "picometer": 1e-3,
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "um": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
}


@dataclass(frozen=True)
class Level:
    """What OME metadata say of one array of a multiscale image; each tuple has all axes.

    Attributes:
        names: Names of the axes.
        scale: Edge of an element in the unit of the axis; empty if unknown.
        sides_nm: The same in nm, 0 where the unit is unknown.
        offset_nm: Place of the first element in nm.
    """

    names: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    sides_nm: tuple[float, ...] = ()
    offset_nm: tuple[float, ...] = ()


def find_levels(attributes: dict[str, Any], key: str) -> dict[str, Level]:
    """Returns the levels of the multiscale image that a group is by its attributes, by key."""
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not isinstance(multiscales, list) or not multiscales:
        return {}
    image = multiscales[0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", [])]
    names = tuple(str(axis.get("name")) for axis in axes)
    units = tuple(UNIT_NM.get(str(axis.get("unit", "")).lower(), 0.0) for axis in axes)
    levels = {}
    for dataset in image["datasets"][:MOST_LEVELS]:
        scale, offset = compose(
            [
                *dataset.get("coordinateTransformations", ()),
                *image.get("coordinateTransformations", ()),
            ],
            len(names),
        )
        levels["/".join(filter(None, [key, str(dataset["path"]).strip("/")]))] = Level(
            names,
            scale,
            tuple(side * unit for side, unit in zip(scale, units, strict=False)),
            tuple(place * unit for place, unit in zip(offset, units, strict=False)),
        )
    return levels


def compose(
    transforms: list[dict[str, Any]], axes: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the scale and translation of transforms applied in order; empty if unknown."""
    scale, offset, known = np.ones(axes), np.zeros(axes), False
    for transform in transforms:
        kind = transform.get("type")
        values = as_numbers(transform.get(str(kind), ()))
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or len(values) != axes:
            return (), ()
        known = True
        if kind == "scale":
            scale, offset = scale * values, offset * values
        else:
            offset = offset + values
    if not known or not np.isfinite([*scale, *offset]).all() or (scale <= 0).any():
        return (), ()
    return tuple(scale.tolist()), tuple(offset.tolist())
