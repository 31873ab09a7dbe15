"""What is segmented: the structures, their names and the paper's settings for each."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.errors import BenchError, unknown_name


@dataclass(frozen=True)
class Structure:
    """One structure.

    Attributes:
        name: The name used in folders, tags and tables.
        aliases: Other names that people type.
        foreground_weight: Weight of foreground pixels in the focal term (Table in the paper's
            Methods, after class frequency).
        paper_opening_radius_px: Radius of the morphological opening under ``protocol=paper``.
        paper_min_area_px: Smallest instance kept under ``protocol=paper``.
    """

    name: str
    aliases: tuple[str, ...]
    foreground_weight: float
    paper_opening_radius_px: int
    paper_min_area_px: int


# A new structure is one row: its masks then go into a folder of its name.
STRUCTURES: dict[str, Structure] = {
    "vesicles": Structure("vesicles", ("vesicle", "sv"), 20.0, 2, 50),
    "mitochondria": Structure("mitochondria", ("mito", "mitos", "mitochondrion"), 5.0, 2, 5000),
    "membrane": Structure("membrane", ("membranes",), 2.0, 2, 50000),
}


def find_structure(name: str) -> Structure:
    """Returns the structure of a name or alias.

    Raises:
        BenchError: If the table has no such name.
    """
    wanted = name.strip().lower()
    for structure in STRUCTURES.values():
        if wanted == structure.name or wanted in structure.aliases:
            return structure
    raise unknown_name("structure", name, STRUCTURES)


def find_structures(names: str) -> tuple[Structure, ...]:
    """Returns the structures of a comma-separated list; ``all`` is every row of the table."""
    if names.strip().lower() == "all":
        return tuple(STRUCTURES.values())
    found = tuple(find_structure(name) for name in split_names(names))
    if not found:
        raise BenchError(f"no structure named, received {names!r}: name one, or 'all'")
    return tuple(dict.fromkeys(found))


def split_names(names: str) -> Iterable[str]:
    """Splits a comma-separated list, without blanks and empty entries."""
    return [name.strip() for name in names.split(",") if name.strip()]
