"""spheres.csv: the vesicles that were found in volumes, a row each, those removed as well."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from bench.core.files import write_text
from bench.errors import BenchError

# Beside labels that are spheres.
SPHERES_FILE = "spheres.csv"
# The same of sections, where vesicles are circles: for people.
CIRCLES_FILE = "circles.csv"
_UNKNOWN = math.nan


@dataclass(frozen=True)
class SphereRow:
    """A vesicle as a ball. Lengths are in voxels along x, as its label image has them.

    Attributes:
        volume: Name of its volume.
        id: Its id in the label image; of one that was removed, the id that it had.
        z: Section of its centre, where whole numbers are the middle of sections.
        y: Row of its centre in the label image beside the table, counted alike.
        x: Column of its centre.
        radius: Its radius, to the outer side of the membrane.
        radius_nm: The same in nm; NaN where the size of a voxel is not known.
        thickness: Of its membrane; NaN where nobody measured it.
        density: Grey value of its membrane; NaN where nobody measured it.
        p: Probability that a vesicle is so much unlike the others: small is doubtful. NaN where
            nobody measured it.
        status: What happened to it: refitted, shrunk, added; empty for nothing.
        kept: Whether it is in the label image.
        reason: Why it is not.
    """

    volume: str
    id: int
    z: float
    y: float
    x: float
    radius: float
    radius_nm: float = _UNKNOWN
    thickness: float = _UNKNOWN
    density: float = _UNKNOWN
    p: float = _UNKNOWN
    status: str = ""
    kept: bool = True
    reason: str = ""

    @property
    def centre(self) -> tuple[float, float, float]:
        """Its centre as z, y, x."""
        return self.z, self.y, self.x


_COLUMNS = tuple(field.name for field in fields(SphereRow))
_NUMBERS = tuple(field.name for field in fields(SphereRow) if field.type is float)


def write_spheres(path: Path, rows: Iterable[SphereRow]) -> None:
    """Writes a table of spheres; numbers come back as they were, unknown ones stay empty."""
    write_text(path, format_spheres(rows))


def format_spheres(rows: Iterable[SphereRow]) -> str:
    """The text of a table of spheres."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows([_write(getattr(row, name)) for name in _COLUMNS] for row in rows)
    return text.getvalue()


def read_spheres(path: Path) -> list[SphereRow]:
    """Reads a table of spheres.

    Args:
        path: The file. Columns may have any order, unknown ones are ignored, and those that a
            vesicle need not have may be missing.

    Raises:
        BenchError: If it is no such table, or a number is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            found = list(table)
            columns = table.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchError(
            f"{path} must be a readable table of spheres, received {error}: write it again"
        ) from error
    if missing := [name for name in ("volume", "id", "z", "y", "x", "radius")
                   if name not in columns]:  # fmt: skip
        raise BenchError(
            f"{path} must have the columns volume, id, z, y, x and radius, received none of "
            f"{', '.join(missing)}: add them"
        )
    return [_read(path, number, row) for number, row in enumerate(found, start=2)]


def _write(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return str(value)


def _read(path: Path, number: int, row: dict[str, str | None]) -> SphereRow:
    texts = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    try:
        numbers = {name: float(texts[name]) if texts[name] else _UNKNOWN for name in _NUMBERS}
        found = SphereRow(
            volume=texts["volume"],
            id=int(texts["id"]),
            **numbers,
            status=texts["status"],
            kept=texts["kept"] not in ("0", "False", "false"),
            reason=texts["reason"],
        )
    except ValueError as error:
        raise BenchError(
            f"numbers of {path} must be numbers, received {error} in line {number}: correct it"
        ) from error
    if not all(map(math.isfinite, found.centre)) or not 0 < found.radius < math.inf:
        raise BenchError(
            f"spheres of {path} must have a centre and a radius above 0, received "
            f"{found.centre} and {found.radius} in line {number}: correct or delete it"
        )
    return found
