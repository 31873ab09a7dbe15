"""Stored predictions: probability per section and augmentation, from which scores are made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.errors import BenchError
from bench.inference.blends import mean_prediction
from bench.inference.prediction import SectionPrediction
from bench.inference.symmetries import IDENTITY, SYMMETRIES
from bench.words import TORCH

PREDICTION_FORMAT = "synapse-bench-prediction"
_VERSION = 1
# The attribute that says what computed it; files of before there was a choice have none.
ENGINE = "engine"
# Beside the probability of the structure a model may say more of a section.
_BOUNDARY = ".boundary"
_INSTANCES = ".instances"
_CLASSES = ".classes"


@dataclass(frozen=True)
class PredictionWriter:
    """A prediction file that is being filled."""

    file: h5py.File

    def write(self, section: str, augmentation: str, prediction: SectionPrediction) -> None:
        """Stores the maps of one section: the foreground, and what else the model says.

        Args:
            section: Name of the section in the prepared dataset.
            augmentation: What was done to the image before; the maps are back in the section's
                geometry.
            prediction: The maps (y, x).
        """
        maps = {
            "": prediction.foreground,
            _BOUNDARY: prediction.boundary,
            _INSTANCES: prediction.instances,
            _CLASSES: prediction.classes,
        }
        for kind, pixels in maps.items():
            if pixels is not None:
                self.file.create_dataset(
                    f"{section}/{augmentation}{kind}",
                    data=pixels,
                    chunks=tuple(min(side, 512) for side in pixels.shape),
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
        file.attrs.update({"format": PREDICTION_FORMAT, "version": _VERSION, **attributes})
        yield PredictionWriter(file)


def read_prediction(path: Path, section: str, augmentation: str = IDENTITY) -> SectionPrediction:
    """Reads the maps of a section.

    Raises:
        BenchError: If the file has none of it.
    """
    name = f"{section}/{augmentation}"
    with h5py.File(path, "r") as file:
        if name not in file:
            raise BenchError(
                f"{path} must hold section {section} with augmentation {augmentation}, it does "
                "not: evaluate the model again"
            )
        others = (
            np.asarray(file[name + kind]) if name + kind in file else None
            for kind in (_BOUNDARY, _INSTANCES)
        )
        return SectionPrediction(np.asarray(file[name]), *others)


def list_stored(path: Path) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The shape of every section of a file, and the augmentations that all of them have.

    Raises:
        BenchError: If the file is none of ours, or broken.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != PREDICTION_FORMAT:
                raise BenchError(f"{path} must be a prediction file of this suite: evaluate again")
            shapes = {name: next(iter(group.values())).shape for name, group in file.items()}
            stored = [set(group) for group in file.values()]
    except (OSError, StopIteration) as error:
        raise BenchError(
            f"{path} is not a whole prediction file ({error}): evaluate the model again"
        ) from error
    shared = tuple(name for name in SYMMETRIES if all(name in group for group in stored))
    return shapes, shared


def read_mean(path: Path, section: str, augmentations: Sequence[str]) -> SectionPrediction:
    """Reads the mean of a section's maps over augmentations.

    Raises:
        BenchError: If the file lacks one of them.
    """
    return mean_prediction(read_prediction(path, section, name) for name in augmentations)


def read_classes(path: Path, section: str, augmentations: Sequence[str]) -> np.ndarray:
    """Reads the most probable class of every pixel, by the mean over augmentations.

    Of classes that are stored as equally probable it is the first, the background before all.

    Returns:
        uint8 (y, x): 0 background, k the k-th structure of the model.

    Raises:
        BenchError: If the file is not of a model of classes, or lacks an augmentation.
    """
    with h5py.File(path, "r") as file:
        names = [f"{section}/{name}{_CLASSES}" for name in augmentations]
        if missing := [name for name in names if name not in file]:
            raise BenchError(
                f"{path} must hold the probabilities of all classes, it lacks {missing[0]}: "
                "evaluate the model again"
            )
        total = sum(np.asarray(file[name], dtype=np.uint16) for name in names)
    return np.asarray(np.argmax(total, axis=0), dtype=np.uint8)


def read_engine(path: Path) -> str:
    """What computed the predictions of a file."""
    with h5py.File(path, "r") as file:
        return str(file.attrs.get(ENGINE, TORCH))


def copy_predictions(source: Path, target: Path, channel: int, attributes: dict[str, Any]) -> None:
    """Writes what a file of a model of classes says of another of its structures.

    Args:
        source: The file.
        target: The new file.
        channel: The class of the structure.
        attributes: What the new file is, as of ``write_predictions``.
    """
    with h5py.File(source, "r") as file, write_predictions(target, attributes) as writer:
        for section, group in file.items():
            for name in (name for name in group if not name.endswith(_CLASSES)):
                classes = np.asarray(group[name + _CLASSES])
                writer.write(section, name, SectionPrediction(classes[channel], classes=classes))
