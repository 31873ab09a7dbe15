"""Which class of an annotation is which structure, and the names that objects carry."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.names import first_names, natural_key
from bench.errors import BenchError, nearest_name
from bench.structures import (
    STRUCTURES,
    Structure,
    find_structure,
    is_structure_name,
    normalise_name,
    order_structures,
    split_names,
)
from bench.words import BACKGROUND, NONE

# What classes stand for beside structures, none of which may be called so: what nobody annotated,
# and what is annotated as nothing that is wanted.
UNANNOTATED, OTHER = "(not annotated)", "(other)"
RESERVED = (UNANNOTATED, OTHER)
# As a setting: whatever has no label is not annotated.
_UNLABELLED = "unlabelled"

_EXAMPLE = "structures='vesicle=vesicles,mito*=mitochondria'"
_LISTED_CLASSES = 20
_ALL = "all"
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
        wanted: Structures that were named, which must be there.
        everything: Whether folders are taken whatever they are called.
        ignored: What the user says is not annotated: classes, folders or values.
        sparse: Whether what has no label is not annotated, unless a class of that name says so.
    """

    rules: tuple[tuple[str, str], ...]
    wanted: tuple[str, ...] = ()
    everything: bool = False
    ignored: tuple[str, ...] = ()
    sparse: bool = False

    def find(self, kind: str) -> str | None:
        """The structure of a class; None where it is not taken."""
        spellings = (kind.strip().lower(), normalise_name(kind))
        for pattern, structure in self.rules:
            if any(fnmatch.fnmatchcase(spelling, pattern) for spelling in spellings):
                return structure
        return None

    def class_of(self, kind: str, title: str) -> str:
        """The class of a drawn object: its own name where that says that nobody annotated it.

        Args:
            kind: What it is by its file.
            title: What it is called there; empty if that is its class.
        """
        called = class_of_name(title) or title
        ignored = replace(self, rules=tuple((n, UNANNOTATED) for n in self.ignored))
        return called if self.ignored and called and ignored.find(called) else kind

    def find_folder(self, name: str) -> str | None:
        """The structure of a folder, whose name is meant to say it; None where it is not taken.

        Raises:
            BenchError: If it is to be taken under a name that no structure may have.
        """
        found = self.find(name)
        return find_structure(name).name if found is None and self.everything else found

    def values_of(self, structure: str) -> list[int]:
        """The values of a label image that are a structure; none where all but 0 are."""
        return [int(p) for p, name in self.rules if name == structure and p.isdecimal()]

    def describe(self, counts: Counter[str]) -> tuple[str, ...]:
        """A line per class that was found: how many objects, and what becomes of them."""
        lines = []
        for kind in sorted(counts, key=natural_key):
            structure = self.find(kind)
            fate = f"taken as {structure}" if structure else "not taken"
            lines.append(f"{kind or '(no name)'}: {counts[kind]} objects, {fate}")
        return tuple(lines)

    def warn_of_others(self, kinds: Iterable[str], what: str = "classes") -> tuple[str, ...]:
        """The warning of what `all` leaves out because it is named like no known structure.

        Args:
            kinds: Everything that was found.
            what: What it is.
        """
        others = sorted({kind for kind in kinds if kind and not self.find(kind)}, key=natural_key)
        if not others or not self.everything:
            return ()
        return (f"{what} that are not taken: {first_names(others)}: {how_to_take(others)}",)

    def choose(self, found: Iterable[str], where: str) -> tuple[str, ...]:
        """The structures that classes stand for, in the order of `order_structures`.

        Args:
            found: All classes of an annotation.
            where: The annotation, for messages.

        Raises:
            BenchError: If they stand for no structure, or a wanted one is missing.
        """
        kinds = sorted(set(found), key=natural_key)
        taken = {structure for kind in kinds if (structure := self.find(kind))} - {*RESERVED}
        listed = ", ".join(repr(kind) for kind in kinds[:_LISTED_CLASSES]) or "none"
        missing = [name for name in self.wanted if name not in taken]
        if missing or not taken:
            wanted = ", ".join(missing) if missing else "any structure"
            nearest = nearest_name(missing[0], kinds) if missing else ""
            hint = f" (did you mean {nearest}?)" if nearest else ""
            raise BenchError(
                f"{where} must have a class for {wanted}, received the classes {listed}{hint}: "
                f"map them as in -P {_EXAMPLE}, or {how_to_take(kinds or ['ribbon'])}"
            )
        return order_structures(taken)


def parse_classes(text: str, ignore: str = NONE) -> ClassMap:
    """Reads the options ``structures`` and ``ignore``.

    Args:
        text: Comma-separated. ``all`` takes folders of every name, and classes that are named
            like a structure of STRUCTURES or its alias; a name takes the class of that name;
            ``pattern=structure`` maps other classes. A value of a label image is a class, too:
            ``1=vesicles,2=mitochondria``; it is looked for in files named as the structure as
            well.
        ignore: Comma-separated classes, folders or values that mean "not annotated";
            ``unlabelled`` is a class of that name or, where there is none, all that has no label;
            or none.

    Raises:
        BenchError: If it names what no structure may be called, or nothing, or what is not
            annotated is a structure that is wanted.
    """
    rules: list[tuple[str, str]] = []
    wanted: list[str] = []
    parts = split_names(text)
    for part in parts:
        pattern, sign, name = (piece.strip() for piece in part.rpartition("="))
        if not sign and name.lower() == _ALL:
            continue
        structure = find_structure(name)
        wanted.append(structure.name)
        rules += [(pattern.lower(), structure.name)] if sign else []
        # Of a value the label images must still be found, and those may be named as it.
        rules += [] if sign and not pattern.isdecimal() else _known_classes([structure])
    if not parts:
        raise BenchError(f"structures must name a structure, received {text!r}: use all, or names")
    everything = any(part.lower() == _ALL for part in parts)
    # What the user maps counts before what is known anyway.
    rules += _known_classes(STRUCTURES.values()) if everything else []
    classes = ClassMap(tuple(rules), tuple(dict.fromkeys(wanted)), everything)
    return classes if ignore.strip().lower() == NONE else _leave_open(classes, ignore)


def _leave_open(classes: ClassMap, ignore: str) -> ClassMap:
    """Adds which classes, folders and values mean that nobody annotated a place."""
    names = tuple(dict.fromkeys(name.lower() for name in split_names(ignore)))
    if not names:
        raise BenchError(
            f"ignore must name what is not annotated, received {ignore!r}: give a class, a folder, "
            f"a value of label images, {_UNLABELLED} or {NONE}"
        )
    known = len(_known_classes(STRUCTURES.values())) if classes.everything else 0
    typed = replace(classes, rules=classes.rules[: len(classes.rules) - known])
    for name in names:
        if taken := typed.find(name):
            raise BenchError(
                f"what is not annotated can be no structure, received ignore={name}, which is "
                f"taken as {taken} by structures: leave it out of one of both"
            )
    sparse = _UNLABELLED in names
    rules = [(name, UNANNOTATED) for name in names]
    rules += [(BACKGROUND, OTHER)] if sparse else []
    return replace(classes, rules=(*rules, *classes.rules), ignored=names, sparse=sparse)


def _known_classes(structures: Iterable[Structure]) -> list[tuple[str, str]]:
    return [(kind, row.name) for row in structures for kind in (row.name, *row.aliases)]


def how_to_take(kinds: Sequence[str]) -> str:
    """How to take classes, one at least, that are named like no known structure."""
    names = [normalise_name(kind) for kind in kinds if is_structure_name(kind)]
    taken = names[0] if names else f"{kinds[0]}=vesicles"
    return f"name what is to be taken, as in -P 'structures=all,{taken}'"


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
