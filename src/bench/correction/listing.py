"""What the list beside the image shows: objects, the doubtful first, and in which colour."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.correction.label_edits import LabelEdits
from bench.correction.sphere_edits import SphereEdits
from bench.export.sphere_table import SphereRow

# Red, green, blue, opacity: 0 to 1.
_Colour = tuple[float, float, float, float]
BALL_COLUMNS = ("id", "doubt p", "radius", "section", "remark")
PAINTED_COLUMNS = ("id", "pixels", "section")

# A p from which a vesicle is not doubtful, and one than which none is more so.
_SURE, _DOUBTFUL = 0.5, 1e-4
_ADDED: _Colour = (0.2, 0.9, 1.0, 1.0)
_UNKNOWN: _Colour = (0.75, 0.75, 0.75, 1.0)


@dataclass(frozen=True)
class ListedObject:
    """A line of the list.

    Attributes:
        key: By which edits know the object.
        cells: What its columns say.
        place: Where it is (z, y, x), in voxels.
        radius: Its radius in px; 0 where it is no ball.
        there: Whether it is there; else it can be put back.
        colour: Its colour in the image.
    """

    key: int
    cells: tuple[str, ...]
    place: tuple[float, float, float]
    radius: float
    there: bool
    colour: _Colour


def list_balls(edits: SphereEdits) -> list[ListedObject]:
    """The vesicles by doubt, below them what is left out or removed."""
    there = [_list_ball(edits, row.id, row, there=True) for row in edits.list_by_doubt()]
    gone = [_list_ball(edits, key, row, there=False) for key, row in edits.list_removed()]
    return there + gone


def list_painted(edits: LabelEdits) -> list[ListedObject]:
    """The objects of a label image, the smallest first."""
    return [
        ListedObject(
            found.id,
            (str(found.id), str(found.size), str(found.place[0])),
            found.place,
            0.0,
            True,
            _UNKNOWN,
        )
        for found in edits.list_objects()
    ]


def colours_of(edits: SphereEdits) -> Mapping[int, _Colour]:
    """The colours of the vesicles that are there."""
    return {key: colour_of_doubt(edits.doubt(row), row.status) for key, row in edits.rows.items()}


def colour_of_doubt(p: float, status: str = "") -> _Colour:
    """Red where a vesicle is doubtful, over yellow to green where it is not.

    Args:
        p: Its probability, on a logarithmic scale; grey where it is not known.
        status: What happened to it: what a person added is blue.
    """
    if status.startswith("added"):
        return _ADDED
    if math.isnan(p):
        return _UNKNOWN
    span = math.log(_SURE / _DOUBTFUL)
    share = math.log(min(_SURE, max(_DOUBTFUL, p)) / _DOUBTFUL) / span
    return min(1.0, 2 - 2 * share), min(1.0, 2 * share), 0.1, 1.0


def _list_ball(edits: SphereEdits, key: int, row: SphereRow, *, there: bool) -> ListedObject:
    doubt = edits.doubt(row)
    size = f"{row.radius:.1f} px" if math.isnan(row.radius_nm) else f"{row.radius_nm:.1f} nm"
    remark = row.status if there else f"removed: {row.reason or 'by hand'}"
    cells = (
        str(row.id if there else key),
        "" if math.isnan(doubt) else f"{doubt:.2g}",
        size,
        f"{row.z:.0f}",
        remark,
    )
    return ListedObject(
        key, cells, row.centre, row.radius, there, colour_of_doubt(doubt, row.status)
    )
