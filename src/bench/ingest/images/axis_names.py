"""What the axes of an array are called, by whatever program wrote it."""

import json
import math
from collections.abc import Sequence
from typing import Any

from bench.ingest.images.units import unit_by_word

# ilastik, OME and xarray say x, y and z; others what an axis counts.
_WORDS = {
    "z": ("z", "depth", "slice", "slices", "section", "sections", "plane", "planes"),
    "y": ("y", "row", "rows", "height"),
    "x": ("x", "col", "cols", "column", "columns", "width"),
    "c": ("c", "channel", "channels", "band", "bands", "rgb", "sample", "samples"),
    "t": ("t", "time"),
}
_KNOWN = {word: axis for axis, words in _WORDS.items() for word in words}
_LARGEST_TEXT = 64 * 2**10


def known_axes(names: Sequence[Any], rank: int) -> tuple[str, ...]:
    """Returns what the axes of an array are: z, y, x, c, t, or empty where a name says nothing.

    Args:
        names: A name for each axis, in the order of the stored array.
        rank: How many axes the array has.

    Returns:
        As many as there are axes; none if the names do not fit or none of them says a direction.
    """
    # The field's volume readers mark channels with a hat.
    axes = tuple(_KNOWN.get(str(name).strip().rstrip("^").lower(), "") for name in names)
    return axes if len(axes) == rank and set(axes) & {"z", "y", "x"} else ()


def read_axistags(value: Any) -> list[str]:
    """Returns the names in the attribute ``axistags`` of ilastik and vigra; none in another one.

    It lists axes in the order of the stored array: vigra turns an array to that order before it
    writes it, ilastik stores as it tags.
    """
    return [str(axis.get("key", "")) for axis in _list_tags(value)]


def read_tagged_sides(value: Any, units: Any) -> tuple[float, ...]:
    """Returns the sides of voxels in nm by ``axistags`` and ``axis_units``, for each axis.

    ilastik notes both where its input said them; 0 is a side that nothing is known of.
    """
    named = _parse(units)
    sides = []
    for axis in _list_tags(value):
        unit = named.get(str(axis.get("key"))) if isinstance(named, dict) else None
        side = axis.get("resolution")
        known = isinstance(side, int | float) and math.isfinite(side)
        sides.append(float(side or 0) * (unit_by_word(str(unit)) or 0.0) if known else 0.0)
    return tuple(sides)


def _list_tags(value: Any) -> list[dict[str, Any]]:
    tags = _parse(value)
    axes = tags.get("axes") if isinstance(tags, dict) else None
    if not isinstance(axes, list):
        return []
    return [axis if isinstance(axis, dict) else {} for axis in axes]


def _parse(value: Any) -> Any:
    """Returns JSON that an attribute holds as text, or as what it is already; else None."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if len(value) <= _LARGEST_TEXT else None
    except (ValueError, RecursionError):
        return None
