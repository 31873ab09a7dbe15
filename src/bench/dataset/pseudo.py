"""Pseudo-masks: a prepared dataset whose labels a model made, and which can only be trained on.

Beside what every prepared dataset has, the manifest says ``origin: pseudo`` and under ``pseudo``
which model made it. A section has ``ignore/<structure>``: 1 where something was found of which the
model is not sure, so that nobody learns that it is background.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.dataset.partial import read_ignored
from bench.dataset.prepared import (
    KIND,
    ORIGIN,
    PSEUDO,
    SCHEMA,
    PreparedDataset,
    hash_array,
    hash_dataset,
    hash_section,
    ignore_key,
)
from bench.dataset.section_file import (
    SUSPICIOUS_RULE,
    MaskCounter,
    summarise_structure,
    write_section_file,
)
from bench.errors import BenchError
from bench.postprocess.label_runs import find_label_runs

_INSTANCES_RULE = "masks of boxes that a detector found, where detector and SAM were sure"
_SPLIT = "train"
OBJECTS_FILE = "objects.csv"


def is_pseudo(dataset: PreparedDataset) -> bool:
    """Whether a model made the labels of a dataset."""
    return bool(dataset.manifest.get(ORIGIN) == PSEUDO)


def check_annotated(dataset: PreparedDataset) -> None:
    """Raises BenchError where the labels of a dataset are no truth to validate or score by."""
    if is_pseudo(dataset):
        raise BenchError(
            f"models are chosen and scored by annotated sections, received the pseudo-masks "
            f"{dataset.root}: give the annotated dataset, and these as pseudo= of a training"
        )


def read_unsure(dataset: PreparedDataset, name: str, structure: str) -> np.ndarray:
    """Reads where nobody is sure what a section shows, bool (y, x); nowhere if it does not say."""
    unsure = read_ignored(dataset, name, [structure])
    return np.zeros(dataset.shape(name), dtype=bool) if unsure is None else unsure


def write_pseudo_section(
    folder: Path,
    entry: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    structure: str,
    pixel_size_nm: float | None,
) -> dict[str, Any]:
    """Writes the file of a section with pseudo-masks, and returns its entry of the manifest.

    Args:
        folder: The dataset's folder, in which ``sections`` is there.
        entry: What a manifest says of the image: name, shape, region, number, its raw's source.
        arrays: ``raw``, ``labels`` (ids) and ``ignore`` (0 or 1), all (y, x).
        structure: What was found.
        pixel_size_nm: Edge of a pixel; None where it is not known.
    """
    name = str(entry["name"])
    stored = {
        "raw": arrays["raw"],
        f"labels/{structure}": arrays["labels"],
        ignore_key(structure): arrays["ignore"],
    }
    datasets: dict[str, dict[str, Any]] = {
        key: {"dtype": str(pixels.dtype)} for key, pixels in stored.items()
    }
    datasets["raw"] = {**entry["datasets"]["raw"], **datasets["raw"]}
    datasets[f"labels/{structure}"]["mask"] = "ids"
    described = {
        **{key: entry[key] for key in ("name", "shape", "region", "number")},
        "split": _SPLIT,
        "file": f"sections/{name}.h5",
        "datasets": datasets,
    }
    runs = {key: find_label_runs(pixels) for key, pixels in stored.items() if key != "raw"}
    hashes = {key: hash_array(key, pixels, runs=runs.get(key)) for key, pixels in stored.items()}
    described["content_hash"] = hash_section(name, _SPLIT, hashes)
    write_section_file(folder / described["file"], described, stored, pixel_size_nm, runs)
    return described


def make_pseudo_manifest(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    pixel_size_nm: float | None,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of sections with pseudo-masks.

    Args:
        folder: The dataset's folder, whose sections are written.
        entries: Their entries.
        pixel_size_nm: Edge of their pixels; None where it is not known.
        origin: Which model made the masks, how sure it was, how many were kept of how many.
    """
    structure = str(origin["structure"])
    manifest: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "content_hash": hash_dataset([e["content_hash"] for e in entries], pixel_size_nm),
        "pixel_size_nm": pixel_size_nm,
        "splits_rule": PSEUDO,
        "instances_rule": _INSTANCES_RULE,
        "suspicious_rule": SUSPICIOUS_RULE,
        "section_nm": None,
        "sections": list(entries),
        "unlabelled": [],
        "structures": {structure: {}},
        "warnings": [],
        ORIGIN: PSEUDO,
        PSEUDO: dict(origin),
    }
    written, counter = PreparedDataset(folder, manifest), MaskCounter(volumes=False)
    for entry in entries:
        runs = find_label_runs(written.read_labels(entry["name"], structure))
        counter.add(structure, _SPLIT, str(entry["region"]), runs, "ids")
    manifest["structures"] = {structure: summarise_structure(counter.counts()[structure])}
    return manifest
