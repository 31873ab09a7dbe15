"""Which class of an annotation is which structure."""

import fnmatch
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.core.names import natural_key
from bench.errors import BenchError
from bench.structures import STRUCTURES, find_structure, split_names

EXAMPLE = "structures='vesicle=vesicles,mito*=mitochondria'"
LISTED_CLASSES = 20


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
        listed = ", ".join(repr(kind) for kind in kinds[:LISTED_CLASSES]) or "none"
        missing = [name for name in self.wanted or () if name not in taken]
        if missing or not any(taken):
            wanted = ", ".join(missing) if missing else "any structure"
            raise BenchError(
                f"{where} must have a class for {wanted}, received the classes {listed}: "
                f"map them as in -P {EXAMPLE}"
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
        return ClassMap(known_classes(STRUCTURES))
    rules: list[tuple[str, str]] = []
    wanted: list[str] = []
    for part in split_names(text):
        pattern, sign, name = (piece.strip() for piece in part.rpartition("="))
        structure = find_structure(name).name
        wanted.append(structure)
        if sign:
            rules.append((pattern.lower(), structure))
        else:
            rules += known_classes([structure])
    if not wanted:
        raise BenchError(f"structures must name a structure, received {text!r}: use all, or names")
    return ClassMap(tuple(rules), tuple(dict.fromkeys(wanted)))


def known_classes(structures: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The rules that take a structure's own name and aliases."""
    return tuple((kind, name) for name in structures for kind in (name, *STRUCTURES[name].aliases))
