"""Stored predictions: probability per section and augmentation, from which scores are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FORMAT = "synapse-bench-prediction"
VERSION = 1
# The augmentation that changes nothing.
IDENTITY = "identity"


@dataclass(frozen=True)
class PredictionWriter:
    """An open prediction file."""

    file: h5py.File

    def write(self, section: str, augmentation: str, probability: np.ndarray) -> None:
        """Stores one map.

        Args:
            section: Name of the section in the prepared dataset.
            augmentation: What was done to the image before; the map is back in the section's
                geometry.
            probability: (y, x) uint8, round(255 p).
        """
        self.file.create_dataset(
            f"{section}/{augmentation}",
            data=probability,
            chunks=tuple(min(side, 512) for side in probability.shape),
            compression="gzip",
            compression_opts=1,
        )


@contextmanager
def write_predictions(path: Path, attributes: dict[str, Any]) -> Iterator[PredictionWriter]:
    """Opens a new prediction file, for a block that fills it.

    Args:
        path: The file.
        attributes: What it is: structure, run, dataset, split, pixel size.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, **attributes})
        yield PredictionWriter(file)


def read_probability(path: Path, section: str, augmentation: str = IDENTITY) -> np.ndarray:
    """Reads one map (y, x) as uint8."""
    with h5py.File(path, "r") as file:
        return np.asarray(file[f"{section}/{augmentation}"])
