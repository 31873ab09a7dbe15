"""A rule of splits that fits the sections that are there, for messages."""

from collections import Counter
from collections.abc import Collection, Sequence

from bench.ingest.sources import SourceSection

# A sixth each for validation and test.
_PART = 6
_MOST_FOLDS = 5


def describe_rules(sections: Collection[SourceSection]) -> str:
    """Returns how to give a rule that splits sections, and what other rules would fit them."""
    if len(sections) < 2:
        return "give two sections or more"
    regions = Counter(section.region for section in sections)
    others = []
    if len(sections) > 2:
        folds = len(regions) if len(regions) > 2 else len(sections)
        others.append(f"kfold={min(folds, _MOST_FOLDS)}/0")
    if max(regions.values()) > 2:
        others.append("paper")
    more = f" (or {', '.join(others)})" if others else ""
    return f"give -P 'splits={suggest_splits(sections)}'{more}"


def suggest_splits(sections: Collection[SourceSection]) -> str:
    """Returns a rule that splits sections: whole regions if there are enough, else by number."""
    regions = {section.region for section in sections}
    numbers = number_sections(list(sections))
    if "" not in regions and (len(regions) > 2 or (len(regions) == 2 and len(set(numbers)) < 3)):
        return f"regions:{suggest_numbers(range(len(regions)))}"
    return suggest_numbers(sorted(set(numbers)))


def number_sections(found: Sequence[SourceSection]) -> list[int]:
    """The numbers that a rule has for sections: those in their regions, else among all."""
    if any(section.number is None for section in found):
        return list(range(len(found)))
    return [int(section.number or 0) for section in found]


def suggest_numbers(numbers: Sequence[int]) -> str:
    """Returns a rule that gives numbers, in order, to training, validation and test."""
    part = max(1, len(numbers) // _PART)
    held = 2 * part if len(numbers) > 2 else part
    parts = {
        "train": numbers[: max(1, len(numbers) - held)],
        "val": numbers[max(1, len(numbers) - held) :][:part],
        "test": numbers[len(numbers) - part :] if len(numbers) > 2 else (),
    }
    return ";".join(f"{split}={_list_runs(part)}" for split, part in parts.items() if part)


def _list_runs(numbers: Sequence[int]) -> str:
    """Numbers in ascending order as a rule writes them: ``0-3,5``."""
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run))
        for run in find_runs(numbers)
    )


def find_runs(numbers: Sequence[int]) -> list[list[int]]:
    """Parts numbers in ascending order where one is left out."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
