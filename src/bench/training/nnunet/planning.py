"""Sections in the folders that nnU-Net reads, and the plans that it makes of them."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tifffile

from bench.core.files import write_json
from bench.models.outside.nnunet import CONFIGURATION, STRUCTURE_LABEL, silence_nnunet

# Raw and labels (y, x).
_Section = tuple[np.ndarray, np.ndarray]
_DATASET = "Dataset001_sections"
_NUMBER = 1
# nnU-Net's label of what nobody annotated, which must be the highest.
_IGNORE_LABEL = STRUCTURE_LABEL + 1
_ENDING = ".tif"
_PLANS = "nnUNetPlans"
# Images are read and written by so many processes, each of which takes seconds to start.
_MOST_PROCESSES, _SECTIONS_PER_PROCESS = 4, 16
_RAW, _PREPROCESSED, _RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
# Written last: whoever finds it finds all.
_DONE = "planned.json"


@dataclass(frozen=True)
class Planned:
    """A data set as nnU-Net takes it.

    Attributes:
        folder: The folder of nnU-Net's three folders.
        plans: Its plans.
        dataset_json: What it was told of the data set.
    """

    folder: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @property
    def configuration(self) -> dict[str, Any]:
        """What was planned for sections."""
        found: dict[str, Any] = self.plans["configurations"][CONFIGURATION]
        return found

    @property
    def preprocessed(self) -> Path:
        """The folder of its preprocessed sections."""
        return self.folder / _PREPROCESSED / _DATASET

    @property
    def files(self) -> tuple[Path, ...]:
        """What says how it was planned."""
        names = (f"{_PLANS}.json", "dataset_fingerprint.json", "splits_final.json", "dataset.json")
        return tuple(self.preprocessed / name for name in names)


def plan_sections(
    folder: Path,
    train: Iterable[_Section],
    val: Iterable[_Section],
    structure: str,
    ignored: Mapping[str, Sequence[np.ndarray]] = MappingProxyType({}),
    gpu_gb: float | None = None,
) -> Planned:
    """Writes sections as nnU-Net's raw data, and lets it plan and preprocess; once in a folder.

    It plans by sizes and grey values of all of them, and trains on its fold 0: on ``train``.

    Args:
        folder: An empty folder, or one in which this was begun or done.
        train: Sections to train on: raw of any bit depth, and ids, 0 is background.
        val: Sections of its validation.
        structure: Name of the structure.
        ignored: Of ``train`` and ``val`` where nobody annotated each section, bool (y, x), which is
            nnU-Net's label ``ignore``; empty where all is annotated.
        gpu_gb: GPU memory that it plans for; None is its own.
    """
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        raw = folder / _RAW / _DATASET
        splits = {
            split: _write_sections(raw, split, sections, ignored.get(split, ()))
            for split, sections in (("train", train), ("val", val))
        }
        dataset_json: dict[str, Any] = {
            # nnU-Net normalises every section by itself, but for channels that it knows by name.
            "channel_names": {"0": "electrons"},
            "labels": {
                "background": 0,
                structure: STRUCTURE_LABEL,
                **({"ignore": _IGNORE_LABEL} if any(ignored.values()) else {}),
            },
            "numTraining": sum(map(len, splits.values())),
            "file_ending": _ENDING,
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        }
        # Where it finds files by itself, it forks processes, which hang where this one has threads.
        files = {name: _files_of(name) for names in splits.values() for name in names}
        write_json(raw / "dataset.json", dataset_json | {"dataset": files})
        with nnunet_folders(folder, workers=1), silence_nnunet():
            _plan(dataset_json["numTraining"], gpu_gb)
        write_json(folder / _PREPROCESSED / _DATASET / "splits_final.json", [splits])
        write_json(folder / _DONE, dataset_json)
    plans = (folder / _PREPROCESSED / _DATASET / f"{_PLANS}.json").read_text(encoding="utf-8")
    told = (folder / _DONE).read_text(encoding="utf-8")
    return Planned(folder, json.loads(plans), json.loads(told))


def _write_sections(
    raw: Path, split: str, sections: Iterable[_Section], ignored: Sequence[np.ndarray]
) -> list[str]:
    """Writes images and masks; returns the names of the cases."""
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    names = []
    for number, (image, labels) in enumerate(sections):
        names.append(f"{split}_{number:04d}")
        files = _files_of(names[-1])
        tifffile.imwrite(raw / files["images"][0], image)
        mask = np.where(labels > 0, STRUCTURE_LABEL, 0).astype(np.uint8)
        if ignored:
            mask[ignored[number]] = _IGNORE_LABEL
        tifffile.imwrite(raw / files["label"], mask)
    return names


def _files_of(name: str) -> dict[str, Any]:
    """The files of a case, of which there is one image for each channel."""
    return {"images": [f"imagesTr/{name}_0000{_ENDING}"], "label": f"labelsTr/{name}{_ENDING}"}


def _plan(sections: int, gpu_gb: float | None) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    most = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    processes = max(1, min(most, sections // _SECTIONS_PER_PROCESS))
    extract_fingerprints([_NUMBER], num_processes=processes, show_progress_bar=False)
    plan_experiments([_NUMBER], gpu_memory_target_in_gb=gpu_gb)
    preprocess(
        [_NUMBER],
        configurations=(CONFIGURATION,),
        num_processes=(processes,),
        show_progress_bar=False,
    )


@contextlib.contextmanager
def nnunet_folders(folder: Path, *, workers: int) -> Iterator[None]:
    """Says to nnU-Net, in the only way that it listens to, where its folders are.

    Args:
        folder: The folder that they are in.
        workers: Processes that augment patches; 0 is none but this one.
    """
    said = {name: str((folder / name).absolute()) for name in (_RAW, _PREPROCESSED, _RESULTS)}
    # A compiled network has other names of tensors, and takes minutes to begin.
    said |= {"nnUNet_n_proc_DA": str(workers), "nnUNet_compile": "false"}
    said |= {"nnUNet_wandb_enabled": "0"}
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
