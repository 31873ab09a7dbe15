"""The reader that napari asks about a file or folder (napari.yaml beside this file names it)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py

from bench.dataset.prepared import KIND, MANIFEST
from bench.inference.prediction_file import PREDICTION_FORMAT
from bench.viewing.layers import ViewLayer, dataset_layers, prediction_layers, segmentation_layers
from bench.words import SEGMENTATION_FILE

# What reads a folder or file into layers.
_Read = Callable[[Path], list[ViewLayer]]
# Of several files that are dropped at once napari hands on a list.
_Paths = str | Sequence[str]


def get_reader(path: _Paths) -> Callable[[_Paths], list[tuple[Any, dict[str, Any], str]]] | None:
    """What reads a path; None where it is none of this suite's, for napari to ask others.

    Args:
        path: A prepared dataset or its manifest.json, an output of segment or its
            segmentation.json, or a prediction file (``predictions.h5``).
    """
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        (path,) = path
    read, place = _choose(Path(path))
    if read is None:
        return None
    return lambda _: [layer.as_tuple() for layer in read(place)]


def _choose(path: Path) -> tuple[_Read | None, Path]:
    """What reads a path, and the folder or file that it reads."""
    folder = path.parent if path.name in (MANIFEST, SEGMENTATION_FILE) else path
    if folder.is_dir():
        if _is_dataset(folder / MANIFEST):
            return dataset_layers, folder
        if (folder / SEGMENTATION_FILE).is_file():
            return segmentation_layers, folder
        return None, path
    return (prediction_layers if _is_prediction(path) else None), path


def _is_dataset(path: Path) -> bool:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == KIND


def _is_prediction(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == PREDICTION_FORMAT)
    except OSError:
        return False
