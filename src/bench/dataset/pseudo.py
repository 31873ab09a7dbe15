"""Datasets of pseudo-masks: objects that a model found and nobody drew, to learn from only."""

import numpy as np

from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError

# How the manifest of one is known; no other dataset has the key.
_ORIGIN, _PSEUDO = "origin", "pseudo"


def is_pseudo(dataset: PreparedDataset) -> bool:
    """Whether the labels of a dataset are a model's."""
    return dataset.manifest.get(_ORIGIN) == _PSEUDO


def check_annotated(dataset: PreparedDataset) -> None:
    """Raises BenchError where the labels of a dataset are no truth to validate or score by."""
    if is_pseudo(dataset):
        raise BenchError(
            f"models are chosen and scored by annotated sections, received the pseudo-masks "
            f"{dataset.root}: give the annotated dataset, and these as pseudo= of a training"
        )


def read_unsure(dataset: PreparedDataset, name: str, structure: str) -> np.ndarray:
    """Reads where nobody is sure what a section shows, bool (y, x); nowhere if it does not say."""
    key = f"ignore/{structure}"
    if key not in dataset.find(name)["datasets"]:
        return np.zeros(dataset.shape(name), dtype=bool)
    return np.asarray(dataset.read(name, key) != 0)
