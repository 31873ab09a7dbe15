"""What of a prepared dataset is not annotated, and counts for nothing.

A section has ``ignore/<structure>``, uint8 (y, x), where anything of a structure is: 1 where nobody
annotated, and 2 where an object is annotated of which more than half lies there. Labels are 0 under
a 1, whatever the files said, so that nobody reads them; a 2 is annotated as all else, but the
object is neither found nor missed. A dataset without it is as it always was.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.dataset.prepared import ORIGIN, PSEUDO, SPLITS, PreparedDataset, ignore_key
from bench.errors import BenchError
from bench.metrics.overlap import IS_OPEN

SHARE = "ignored"
_LISTED = 12


def read_ignore_levels(dataset: PreparedDataset, name: str, structure: str) -> np.ndarray | None:
    """Reads what of a structure in a section is not annotated, uint8 (y, x); None if nothing."""
    key = ignore_key(structure)
    return dataset.read(name, key) if key in dataset.find(name)["datasets"] else None


def read_ignored(
    dataset: PreparedDataset, name: str, structures: Iterable[str]
) -> np.ndarray | None:
    """Reads where a section is not annotated for one of some structures, bool (y, x).

    Returns:
        None where all of it is annotated for all of them.
    """
    found: np.ndarray | None = None
    for structure in structures:
        levels = read_ignore_levels(dataset, name, structure)
        if levels is not None:
            here = levels == IS_OPEN
            found = here if found is None else found | here
    return found


def is_partial(
    dataset: PreparedDataset, structures: Iterable[str], splits: Sequence[str] = SPLITS
) -> bool:
    """Whether anything of some structures is not annotated in some splits."""
    keys = {ignore_key(structure) for structure in structures}
    entries = dataset.manifest["sections"]
    return any(keys & entry["datasets"].keys() for entry in entries if entry["split"] in splits)


def refuse_partial(
    dataset: PreparedDataset,
    structures: Iterable[str],
    what: str,
    splits: Sequence[str] = SPLITS,
) -> None:
    """Raises BenchError where a row that reads labels alone is given a partly annotated dataset.

    Args:
        dataset: The dataset.
        structures: What is read of it.
        what: The row, for the message.
        splits: What it reads.
    """
    names = tuple(structures)
    if dataset.manifest.get(ORIGIN) != PSEUDO and is_partial(dataset, names, splits):
        raise BenchError(
            f"{what} takes what is not annotated for background, received {dataset.root}, of which "
            f"a part is not annotated (ignore) for {', '.join(names)}: choose another method "
            "(docs/partial.md), or prepare the annotated part alone"
        )


def count_open(levels: np.ndarray | None) -> int:
    """How many pixels nobody annotated, of what is not annotated in a section; 0 of None."""
    return 0 if levels is None else int(np.count_nonzero(levels == IS_OPEN))


def foreground_of_annotated(
    dataset: PreparedDataset, names: Iterable[str], structure: str
) -> float:
    """The share of what is annotated in some sections that is in a structure."""
    foreground = annotated = 0
    for name in names:
        labels = dataset.read_labels(name, structure)
        foreground += int(np.count_nonzero(labels))
        annotated += labels.size - count_open(read_ignore_levels(dataset, name, structure))
    return foreground / max(annotated, 1)


def check_partial(
    entries: Sequence[Mapping[str, Any]],
    structures: Mapping[str, Mapping[str, Any]],
    ignore: str,
    *,
    volumes: bool,
) -> list[str]:
    """Checks what is left open in the sections of a manifest.

    Args:
        entries: Its annotated sections.
        structures: By structure, what ``summarise_structure`` returns.
        ignore: What the user says is not annotated; empty where everything is.
        volumes: Whether sections are planes of volumes, of which some may be left open.

    Returns:
        A line for each structure that is partly annotated, and warnings.

    Raises:
        BenchError: If nothing is left open though the user says what is, a section that is scored
            is left open as a whole, or only foreground is annotated.
    """
    lines = []
    for structure, summary in structures.items():
        shares = ignored_shares(entries, structure)
        if not shares:
            continue
        units: dict[tuple[str, str], list[float]] = {}
        for entry in entries:
            name = str(entry["region"] if volumes else entry["name"])
            units.setdefault((entry["split"], name), []).append(shares.get(entry["name"], 0.0))
        for (split, name), parts in units.items():
            if min(parts) == 1:
                lines += _judge_whole(split, name, structure)
        for split, fraction in summary["foreground_fraction"].items():
            if fraction == 1 and summary["ignored"][split]:
                raise BenchError(
                    f"background must be annotated in {split} for {structure}, received foreground "
                    "alone beside what is ignored: label some background as well, as a value or "
                    "class of its own (docs/partial.md)"
                )
        listed = ", ".join(
            f"{100 * share:.3g} % of {split}" for split, share in summary["ignored"].items()
        )
        lines.append(
            f"{structure} is partly annotated, what is ignored counts for nothing: {listed}"
        )
    if ignore and not lines:
        raise BenchError(
            f"ignore must say what is not annotated, received ignore={ignore}, of which no section "
            "has a pixel: correct it, or leave it out"
        )
    return lines


def _judge_whole(split: str, name: str, structure: str) -> list[str]:
    if split != "train":
        raise BenchError(
            f"a section of {split} must have annotated pixels, received {name}, all of "
            f"which is ignored for {structure}: leave it out, or annotate some of it"
        )
    return [f"section {name} is ignored as a whole for {structure}: it teaches nothing of it"]


def ignored_shares(entries: Iterable[Mapping[str, Any]], structure: str) -> dict[str, float]:
    """The share of a section that is not annotated for a structure, by name; of those with any."""
    key = ignore_key(structure)
    return {
        str(entry["name"]): float(entry["datasets"][key][SHARE])
        for entry in entries
        if SHARE in entry["datasets"].get(key, {})
    }


def list_shares(shares: Mapping[str, float]) -> str:
    """Shares of sections that are not annotated, as people read them: a few, and how many more."""
    listed = [f"{100 * share:.3g} % of {name}" for name, share in shares.items()]
    more = len(listed) - _LISTED
    return ", ".join([*listed[:_LISTED], *([f"and {more} more"] if more > 0 else [])])
