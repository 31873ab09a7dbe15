"""What the axes of an array are called, by whatever program wrote it."""

import json
from collections.abc import Sequence
from typing import Any

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
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and len(value) <= _LARGEST_TEXT:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    axes = value.get("axes") if isinstance(value, dict) else None
    if not isinstance(axes, list):
        return []
    return [str(axis.get("key", "")) if isinstance(axis, dict) else "" for axis in axes]
