"""The data set that a run worked with, as its inputs say."""

import json
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from bench.tracking.store import Store


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
