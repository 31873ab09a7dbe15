"""The splits option: which section is for training, validation and test."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.core.names import first_names, natural_key
from bench.dataset.prepared import NO_SPLIT, PAPER, SPLITS, UNLABELLED
from bench.errors import BenchError, unknown_name
from bench.ingest.sources import SourceSection
from bench.ingest.suggestions import describe_rules, number_sections, suggest_numbers
from bench.words import AUTO


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
    example = suggest_numbers(range(max(count, 2)))
    seen = set()
    for part in filter(None, (part.strip() for part in rule.split(";"))):
        split, equals, numbers = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise BenchError(f"splits must read like {example}, received {part!r}: correct it")
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if split in seen:
            raise BenchError(f"splits must name {split} once, received it again in {rule!r}")
        if not numbers:
            raise BenchError(
                f"split {split} must have sections, received none in {rule!r}: number them as in "
                f"{example}, or leave {split} out"
            )
        seen.add(split)
        for number in _parse_numbers(numbers, count):
            if number in assigned:
                raise BenchError(
                    f"a section must be in one split, received section {number} in "
                    f"{assigned[number]} and {split}: take it out of one"
                )
            assigned[number] = split
    return assigned


def _parse_numbers(numbers: str, count: int) -> list[int]:
    """Reads section numbers such as ``0-15,18``; each must be below count."""
    found: list[int] = []
    for piece in numbers.split(","):
        match = re.fullmatch(r"([0-9]+)(?:\s*-\s*([0-9]+))?", piece.strip())
        if match is None:
            raise BenchError(f"splits must read like 0-15,18, received {piece!r}: correct it")
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
    found: list[SourceSection], rule: str, held: Sequence[SourceSection] = ()
) -> tuple[list[SourceSection], tuple[str, ...]]:
    """Gives every section its split.

    Args:
        found: The sections, with the splits of their folders.
        rule: ``auto`` keeps those; else a rule of `_RULES`.
        held: Further sections, which keep their split.

    Returns:
        The sections by split, each in natural order; and warnings.

    Raises:
        BenchError: If the rule does not fit, or two sections of a split have the same name.
    """
    warnings: tuple[str, ...] = ()
    if rule == AUTO:
        if any(section.split == NO_SPLIT for section in found):
            raise BenchError(
                "sections without folders train and val must be split by a rule, received "
                f"splits=auto for {len(found)} sections: {describe_rules(found)}"
            )
        named = found
    else:
        found = sorted(found, key=_series_order)
        name = next((name for name in _RULES if rule.startswith(name)), "")
        splits = _RULES[name](found, rule.removeprefix(name).strip())
        named = [
            replace(section, split=split)
            for section, of_section in zip(found, splits, strict=True)
            for split in of_section
        ]
        left_out = [s.stem for s, of_section in zip(found, splits, strict=True) if not of_section]
        if left_out:
            warnings = (f"{len(left_out)} sections are in no split: {first_names(left_out)}",)
    named = [*named, *held]
    names = Counter(section.name for section in named)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise BenchError(
            f"sections of a split must have different names, received {first_names(repeated)} "
            "more than once: rename the files"
        )
    named = sorted(named, key=lambda section: (SPLITS.index(section.split), _series_order(section)))
    return named, (*warnings, *_warn_of_sharing(named))


def _series_order(section: SourceSection) -> tuple[object, ...]:
    """The order of sections: by region, within it by number, else by name."""
    number = -1 if section.number is None else section.number
    return natural_key(section.region), number, natural_key(section.stem)


def _split_by_number(found: list[SourceSection], rule: str) -> list[tuple[str, ...]]:
    """``train=0-15;val=16``: by number of the section in its region, else among all."""
    numbers = number_sections(found)
    splits = parse_splits(rule, max(numbers, default=-1) + 1)
    return [(splits[number],) if number in splits else () for number in numbers]


def _split_by_region(found: list[SourceSection], rule: str) -> list[tuple[str, ...]]:
    """``regions:train=0,1;val=2``: by number of the region, or volume, in natural order.

    Where there are only single images, each is a region.
    """
    single = not any(section.region for section in found)
    names = [section.stem if single else section.region for section in found]
    regions = sorted(set(names), key=natural_key)
    splits = parse_splits(rule, len(regions))
    numbers = [regions.index(name) for name in names]
    return [(splits[number],) if number in splits else () for number in numbers]


def _split_in_folds(found: list[SourceSection], rule: str) -> list[tuple[str, ...]]:
    """``kfold=5/0``: of 5 parts of neighbours, part 0 is test, the next one val, the rest train.

    The parts are whole regions if there are enough of them, else runs of neighbouring sections.
    """
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", rule)
    folds, fold = (int(match[1]), int(match[2])) if match else (0, 0)
    if folds < 3 or fold >= folds:
        raise BenchError(
            f"kfold must read like kfold=5/0, at least 3 parts and the number of the test part "
            f"from 0, received {rule!r}: correct splits"
        )
    regions = sorted({section.region for section in found}, key=natural_key)
    units = [regions.index(s.region) if len(regions) >= folds else i for i, s in enumerate(found)]
    count = max(units, default=-1) + 1
    if count < folds:
        raise BenchError(
            f"kfold={folds} needs {folds} sections or more, received {count}: use fewer parts"
        )
    parts = [unit * folds // count for unit in units]
    named = {fold: "test", (fold + 1) % folds: "val"}
    return [(named.get(part, "train"),) for part in parts]


def _split_like_the_paper(found: list[SourceSection], rule: str) -> list[tuple[str, ...]]:
    """``paper``: sections 0 and 1 of a region train, 1 validates as well, the others test."""
    if rule:
        raise BenchError(f"splits=paper takes nothing more, received {rule!r}: remove it")
    first: dict[str, int] = Counter()
    splits = []
    for section in found:
        place = first[section.region]
        first[section.region] += 1
        splits.append([("train",), ("train", "val"), ("test",)][min(place, 2)])
    return splits


_Rule = Callable[[list[SourceSection], str], list[tuple[str, ...]]]
# By how a rule begins; it gets the sections in `_series_order`, and what follows. The empty name
# is last: every rule begins with it.
_RULES: dict[str, _Rule] = {
    "regions:": _split_by_region,
    "kfold=": _split_in_folds,
    PAPER: _split_like_the_paper,
    "": _split_by_number,
}


def _warn_of_sharing(sections: list[SourceSection]) -> tuple[str, ...]:
    splits: dict[str, set[str]] = {}
    for section in sections:
        image = section.raw.file + str(section.raw.page) + section.stem
        splits.setdefault(image, set()).add(section.split)
    shared = sum(len(found) > 1 for found in splits.values())
    if not shared:
        return ()
    return (
        f"{shared} sections train and validate: checkpoints and settings are chosen on what was "
        "learned by heart, as in the paper; use another rule for numbers that you trust",
    )


def warn_of_neighbours(
    sections: Sequence[SourceSection], section_nm: float | None, min_gap_nm: float
) -> tuple[str, ...]:
    """Says which neighbours of a series are in different splits.

    Args:
        sections: The sections with their splits.
        section_nm: Distance of two sections in nm; without it nothing can be said.
        min_gap_nm: Sections closer than that look alike.
    """
    if not section_nm:
        return ()
    placed = sorted(
        (section.region, place, section.name, section.split)
        for section in sections
        if (place := find_place(section)) is not None
    )
    close = [
        f"{first[2]} / {second[2]}"
        for first, second in itertools.pairwise(placed)
        if first[0] == second[0]
        and first[3] != second[3]
        and (second[1] - first[1]) * section_nm < min_gap_nm
    ]
    if not close:
        return ()
    return (
        f"{len(close)} pairs of sections in different splits are closer than {min_gap_nm:g} nm "
        f"and look alike, so that scores flatter: {first_names(close)}: leave out sections "
        "between the splits, or lower min_gap_nm",
    )


def find_place(section: SourceSection) -> int | None:
    """The place of a section in its series: its number, else the last number in its name."""
    if section.number is not None:
        return section.number
    numbers = re.findall(r"[0-9]+", section.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def may_share(rule: str, splits: set[str]) -> bool:
    """Whether sections of two splits may be one image."""
    if UNLABELLED in splits:
        return not splits & {"val", "test"}
    return rule == PAPER and "test" not in splits


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
            warnings.append(
                "there is no test split, so that methods cannot be compared on sections that chose "
                f"nothing: add a folder test, or {describe_rules(sections)}"
            )
        elif not members:
            raise BenchError(
                f"splits train and val must have sections, received none for {split}: add a "
                f"folder {split}, or {describe_rules(sections)}"
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
