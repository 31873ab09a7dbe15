"""The splits option: which section is for training, validation and test."""

import re
from collections import Counter
from dataclasses import replace

from bench.config import AUTO
from bench.data.names import first_names, natural_key
from bench.data.sources import SourceSection
from bench.errors import BenchError, unknown_name

SPLITS = ("train", "val", "test")
# The split of sections whose tree has no split folders.
NO_SPLIT = ""
EXAMPLE = "train=0-15;val=16,17;test=18-20"


def parse_splits(rule: str, count: int) -> dict[int, str]:
    """Reads a rule such as ``train=0-15;val=16,17;test=18-20``.

    Args:
        rule: Splits by section number; ranges include both ends.
        count: How many sections there are; they are numbered from 0.

    Returns:
        The split of each section named; sections may be left out.

    Raises:
        BenchError: If the rule does not parse, names an unknown split, a split twice or a split
            without sections, a section that does not exist or a section twice.
    """
    assigned: dict[int, str] = {}
    seen = set()
    for part in filter(None, (part.strip() for part in rule.split(";"))):
        split, equals, numbers = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise BenchError(f"splits must read like {EXAMPLE}, received {part!r}: correct it")
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if split in seen:
            raise BenchError(f"splits must name {split} once, received it again in {rule!r}")
        if not numbers:
            raise BenchError(
                f"split {split} must have sections, received none in {rule!r}: number them as in "
                f"{EXAMPLE}, or leave {split} out"
            )
        seen.add(split)
        for number in parse_numbers(numbers, count):
            if number in assigned:
                raise BenchError(
                    f"a section must be in one split, received section {number} in "
                    f"{assigned[number]} and {split}: take it out of one"
                )
            assigned[number] = split
    return assigned


def parse_numbers(numbers: str, count: int) -> list[int]:
    """Reads section numbers such as ``0-15,18``; each must be below count."""
    found: list[int] = []
    for piece in numbers.split(","):
        match = re.fullmatch(r"([0-9]+)(?:\s*-\s*([0-9]+))?", piece.strip())
        if match is None:
            raise BenchError(f"splits must read like {EXAMPLE}, received {piece!r}: correct it")
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise BenchError(f"a range must count up, received {piece.strip()!r}: swap its ends")
        if last >= count:
            raise BenchError(
                f"sections are numbered 0 to {count - 1} in the order of their names, received "
                f"{last} in splits: correct it"
            )
        found += range(first, last + 1)
    return found


def assign_splits(
    found: list[SourceSection], rule: str
) -> tuple[list[SourceSection], tuple[str, ...]]:
    """Gives every section its split.

    Args:
        found: The sections, with the splits of their folders.
        rule: ``auto`` keeps those; else a rule for `parse_splits`, by which the sections are
            numbered in natural order of their names.

    Returns:
        The sections by split, each in natural order; and warnings on sections left out.

    Raises:
        BenchError: If the rule does not fit, or two sections of a split have the same name.
    """
    if rule == AUTO:
        if any(section.split == NO_SPLIT for section in found):
            raise BenchError(
                "a tree without folders train and val must be split by section number, received "
                f"splits=auto for {len(found)} sections: give -P 'splits={EXAMPLE}'"
            )
        named, left_out = found, []
    else:
        found = sorted(found, key=lambda section: natural_key(section.stem))
        splits = parse_splits(rule, len(found))
        named = [replace(found[number], split=split) for number, split in splits.items()]
        left_out = [section.stem for i, section in enumerate(found) if i not in splits]
    names = Counter(section.name for section in named)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise BenchError(
            f"sections of a split must have different names, received {first_names(repeated)} "
            "more than once: rename the files"
        )
    named = sorted(named, key=lambda s: (SPLITS.index(s.split), natural_key(s.stem)))
    if not left_out:
        return named, ()
    return named, (f"{len(left_out)} sections are in no split: {first_names(left_out)}",)


def check_splits(sections: list[SourceSection], structures: tuple[str, ...]) -> tuple[str, ...]:
    """Checks that splits have sections and sections their masks; returns warnings on test.

    Raises:
        BenchError: If train or val has no sections, or a structure is missing in a section of
            train or val, or in some but not all of test.
    """
    warnings = []
    for split in SPLITS:
        members = [section for section in sections if section.split == split]
        if not members and split == "test":
            warnings.append("there is no test split: only train and val can be scored")
        elif not members:
            raise BenchError(
                f"splits train and val must have sections, received none for {split}: add a "
                f"folder {split}, or give -P 'splits={EXAMPLE}'"
            )
        for structure in structures if members else ():
            without = [section.stem for section in members if structure not in section.labels]
            if split == "test" and len(without) == len(members):
                warnings.append(f"{structure} is not annotated in test: it cannot be scored there")
            elif without:
                raise BenchError(
                    f"every section of {split} must have a mask of {structure}, received none for "
                    f"{first_names(without)}: add them, or leave it out with -P structures=..."
                )
    return tuple(warnings)
