"""Which class of an annotation is which structure, and the names that objects carry."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.core.names import first_names, natural_key
from bench.errors import BenchError
from bench.structures import STRUCTURES, find_structure, split_names

_EXAMPLE = "structures='vesicle=vesicles,mito*=mitochondria'"
_LISTED_CLASSES = 20
UNCLASSIFIED = "unclassified"
_LONGEST_NAME = 200
_NUMBERS_AT_END = re.compile(r"([\s_.#:-]+[0-9]+)+$")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class ClassMap:
    """Classes as annotation files name them, and the structures they stand for.

    Attributes:
        rules: Pattern and structure, the first that matches counts. Patterns ignore case and
            take ``*`` and ``?``.
        wanted: Structures named without a pattern, which must be there; None takes all.
    """

    rules: tuple[tuple[str, str], ...]
    wanted: tuple[str, ...] | None = None

    def find(self, kind: str) -> str | None:
        """The structure of a class; None where it is not taken."""
        name = kind.strip().lower()
        for pattern, structure in self.rules:
            if fnmatch.fnmatchcase(name, pattern):
                return structure
        return None

    def describe(self, counts: Counter[str]) -> tuple[str, ...]:
        """A line per class that was found: how many objects, and what becomes of them."""
        lines = []
        for kind in sorted(counts, key=natural_key):
            structure = self.find(kind)
            fate = f"taken as {structure}" if structure else "not taken"
            lines.append(f"{kind or '(no name)'}: {counts[kind]} objects, {fate}")
        return tuple(lines)

    def choose(self, found: Iterable[str], where: str) -> tuple[str, ...]:
        """The structures that classes stand for, in the order of STRUCTURES.

        Args:
            found: All classes of an annotation.
            where: The annotation, for messages.

        Raises:
            BenchError: If they stand for no structure, or a wanted one is missing.
        """
        kinds = sorted(set(found), key=natural_key)
        taken = {self.find(kind) for kind in kinds}
        listed = ", ".join(repr(kind) for kind in kinds[:_LISTED_CLASSES]) or "none"
        missing = [name for name in self.wanted or () if name not in taken]
        if missing or not any(taken):
            wanted = ", ".join(missing) if missing else "any structure"
            raise BenchError(
                f"{where} must have a class for {wanted}, received the classes {listed}: "
                f"map them as in -P {_EXAMPLE}"
            )
        return tuple(name for name in STRUCTURES if name in taken)


def parse_classes(text: str) -> ClassMap:
    """Reads the option ``structures``.

    Args:
        text: ``all`` takes classes that are named like a structure or its alias; names take
            those alone; ``pattern=structure`` maps other classes. A value of a label image is a
            class, too: ``1=vesicles,2=mitochondria``.

    Raises:
        BenchError: If it names an unknown structure, or nothing.
    """
    if text.strip().lower() == "all":
        return ClassMap(_known_classes(STRUCTURES))
    rules: list[tuple[str, str]] = []
    wanted: list[str] = []
    for part in split_names(text):
        pattern, sign, name = (piece.strip() for piece in part.rpartition("="))
        structure = find_structure(name).name
        wanted.append(structure)
        if sign:
            rules.append((pattern.lower(), structure))
        else:
            rules += _known_classes([structure])
    if not wanted:
        raise BenchError(f"structures must name a structure, received {text!r}: use all, or names")
    return ClassMap(tuple(rules), tuple(dict.fromkeys(wanted)))


def _known_classes(structures: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The rules that take a structure's own name and aliases."""
    return tuple((kind, name) for name in structures for kind in (name, *STRUCTURES[name].aliases))


def tidy_name(name: str) -> str:
    """Returns a name as one short line of characters that can be printed."""
    shortened = name[:_LONGEST_NAME]
    return " ".join("".join(c if c.isprintable() else " " for c in shortened).split())


def class_of_name(name: str) -> str:
    """Returns a name without the numbers at its end; empty where a program made it up.

    ImageJ's own names are positions (``0012-0345``), those of roifile are UUIDs.
    """
    text = _NUMBERS_AT_END.sub("", name).strip()
    return text if any(map(str.isalpha, text)) and not _UUID.fullmatch(name) else ""


def warn_of_left_out(path: Path, left_out: list[str]) -> tuple[str, ...]:
    """Returns the warning for what a file has besides areas; none where it has nothing else."""
    if not left_out:
        return ()
    return (f"{path}: {len(left_out)} without an area are left out: {first_names(left_out)}",)
