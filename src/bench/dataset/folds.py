"""Folds of a prepared dataset: every annotated section is once what a model has not seen."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.files import write_json
from bench.core.hashing import json_sha256
from bench.core.names import natural_key
from bench.dataset.partial import count_open, read_ignore_levels
from bench.dataset.prepared import MANIFEST, VOLUMES, PreparedDataset
from bench.dataset.section_file import MaskCounter, summarise_structure
from bench.errors import BenchError
from bench.postprocess.label_runs import find_label_runs

# The test split is looked at by evaluate alone.
_FOLDED = ("train", "val")
# One part is judged, one chooses the threshold, one is learned from.
_FEWEST = 3


@dataclass(frozen=True)
class Fold:
    """A way to divide the annotated sections.

    Attributes:
        number: From 0 on.
        of: How many there are.
        judged: Sections that its model never sees.
        val: Sections that choose its threshold and its best checkpoint.
        train: Sections that it learns from.
    """

    number: int
    of: int
    judged: tuple[str, ...]
    val: tuple[str, ...]
    train: tuple[str, ...]


def divide_sections(dataset: PreparedDataset, structure: str, folds: int) -> list[Fold]:
    """Divides the training and validation sections into parts of neighbours.

    Neighbours are alike, so a part is a run of sections in the order of their names. The part after
    the one that is judged is validation.

    Args:
        dataset: The dataset.
        structure: What must be annotated in a section.
        folds: Parts, at most; fewer where there are fewer sections.

    Raises:
        BenchError: If fewer than three sections are annotated.
    """
    names = sorted(
        (
            entry["name"]
            for entry in dataset.manifest["sections"]
            if entry["split"] in _FOLDED and f"labels/{structure}" in entry["datasets"]
        ),
        key=natural_key,
    )
    if len(names) < _FEWEST:
        raise BenchError(
            f"folds need {_FEWEST} sections of train and val that are annotated for {structure}, "
            f"received {len(names)} in {dataset.root}: annotate more"
        )
    count = min(folds, len(names))
    ends = [round(n * len(names) / count) for n in range(count + 1)]
    parts = [tuple(names[a:b]) for a, b in itertools.pairwise(ends)]
    return [_fold_of(parts, number) for number in range(count)]


def _fold_of(parts: Sequence[tuple[str, ...]], number: int) -> Fold:
    after = (number + 1) % len(parts)
    others = [part for place, part in enumerate(parts) if place not in (number, after)]
    train = tuple(name for part in others for name in part)
    return Fold(number, len(parts), parts[number], parts[after], train)


def write_fold(dataset: PreparedDataset, structure: str, fold: Fold, folder: Path) -> None:
    """Writes a fold as a prepared dataset that has a manifest only: its files are the dataset's.

    Its sections are those that are learned from and chosen by. Planes of volumes are sections of
    it, as a volume may be divided.
    """
    splits = dict.fromkeys(fold.train, "train") | dict.fromkeys(fold.val, "val")
    entries, counter = [], MaskCounter(volumes=False)
    for name, split in splits.items():
        entry = dataset.find(name)
        path = str((dataset.root / entry["file"]).absolute())
        entries.append(entry | {"split": split, "file": path})
        runs = find_label_runs(dataset.read_labels(name, structure))
        kind = str(entry["datasets"][f"labels/{structure}"]["mask"])
        opened = count_open(read_ignore_levels(dataset, name, structure))
        counter.add(structure, split, str(entry.get("region", "")), runs, kind, opened)
    manifest: dict[str, Any] = {k: v for k, v in dataset.manifest.items() if k != VOLUMES}
    manifest |= {
        "content_hash": json_sha256([dataset.content_hash, structure, fold.number, fold.of]),
        "sections": sorted(entries, key=lambda entry: str(entry["split"])),
        "unlabelled": [],
        "structures": {structure: summarise_structure(counter.counts()[structure])},
        "warnings": [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, manifest)
