"""Data sets as runs know them: which one a run worked with, and from which others one came."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from bench.tracking.searching import search
from bench.tracking.store import Store

ADDITIONS_TAG = "bench.additions"


@dataclass(frozen=True)
class UsedDataset:
    """A data set as a run names it.

    Attributes:
        name: The name of its folder.
        digest: Start of its content hash.
        folder: Where it was.
    """

    name: str
    digest: str
    folder: Path


def find_used_dataset(store: Store, run_id: str) -> UsedDataset | None:
    """The first data set that a run has as an input; None if it has none, or is gone."""
    try:
        inputs = store.client.get_run(run_id).inputs
    except MlflowException:
        return None
    for used in inputs.dataset_inputs if inputs else []:
        found = used.dataset
        folder = Path(json.loads(found.source).get("uri", ""))
        return UsedDataset(found.name, found.digest, folder)
    return None


@dataclass(frozen=True)
class _Ancestor:
    """A dataset that another came from.

    Attributes:
        dataset: Its content hash.
        added: Sections that were added since.
        annotated_anew: Sections whose annotation was replaced since.
    """

    dataset: str
    added: int
    annotated_anew: int


def pack_additions(steps: Sequence[Mapping[str, Any]]) -> str:
    """Packs what a manifest says of additions, the oldest first, into a short text."""
    numbers = [[s["to"], len(s["sections"]), len(s["annotated_anew"])] for s in steps]
    return json.dumps(numbers, separators=(",", ":"))


def find_ancestors(store: Store, experiment_id: str, digest: str) -> dict[str, list[_Ancestor]]:
    """The datasets that those of an experiment came from, the last one first.

    Args:
        store: The tracking store.
        experiment_id: The experiment in which they were prepared.
        digest: Content hash of a dataset, or its start; empty for all.

    Returns:
        Ancestors by content hash, of datasets that have some.
    """
    found: dict[str, list[_Ancestor]] = {}
    for run in search(store, experiment_id, {"bench.step": "prepare"}, finished=True):
        tags = run.data.tags
        dataset = tags.get("bench.dataset", "")
        if ADDITIONS_TAG in tags and dataset.startswith(digest):
            found.setdefault(dataset, list_ancestors(tags[ADDITIONS_TAG]))
    return found


def list_ancestors(packed: str) -> list[_Ancestor]:
    """The ancestors, the last one first, of what `pack_additions` packed."""
    ancestors = []
    added = annotated_anew = 0
    for dataset, new, anew in reversed(json.loads(packed)):
        added, annotated_anew = added + new, annotated_anew + anew
        ancestors.append(_Ancestor(dataset, added, annotated_anew))
    return ancestors
