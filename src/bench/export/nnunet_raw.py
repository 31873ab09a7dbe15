"""A data set of nnU-Net version 2: ``imagesTr``, ``labelsTr``, ``dataset.json`` and the splits.

A case is a section, as a TIFF that nnU-Net reads by NaturalImage2DIO, or a volume, which Tiff3DIO
reads with the spacing from a file beside it. Instances become classes.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.files import write_json
from bench.errors import BenchError
from bench.export.label_images import viewable, write_tiff
from bench.export.stack import LabelStack

log = logging.getLogger(__name__)

_DESCRIPTION, _SPLITS = "dataset.json", "splits_final.json"
_ENDING = ".tif"
_SECTIONS, _VOLUMES = "NaturalImage2DIO", "Tiff3DIO"
_MOST_LABELS = np.iinfo(np.uint8).max


def write_nnunet(stack: LabelStack, folder: Path) -> None:
    """Writes the cases of a stack, and adds them to what the folder has from others.

    Those of the split test go to ``imagesTs`` and ``labelsTs``, which nnU-Net does not train on.
    Where structures overlap, a pixel is of the last of them, and the overlap is told.

    Args:
        stack: Sections, or a volume, with their image.
        folder: The folder of the data set.

    Raises:
        BenchError: If there is no image, or more structures than fit.
    """
    if stack.raw is None:
        raise BenchError(
            "a data set of nnU-Net needs the image of every label, received labels alone: export "
            "what has images"
        )
    part = "Ts" if stack.split == "test" else "Tr"
    classes = _paint_classes(stack)
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    raw = viewable(stack.raw)
    if stack.volume:
        _write_case(images, labels, stack.volume, raw, classes)
        stack.warn_of_distance("nnU-Net")
        side = stack.pixel_size_nm or 1.0
        spacing = {"spacing": [stack.section_nm or side, side, side]}
        for place in (images, labels):
            write_json(place / f"{stack.volume}.json", spacing)
    else:
        for name, image, mask in zip(stack.names, raw, classes, strict=True):
            _write_case(images, labels, name, image, mask)
    cases = [stack.volume] if stack.volume else list(stack.names)
    _describe(folder, stack, [] if part == "Ts" else cases)


def _paint_classes(stack: LabelStack) -> np.ndarray:
    """The class of each voxel (z, y, x): 0 background, k the k-th structure."""
    if len(stack.labels) > _MOST_LABELS:
        raise BenchError(
            f"a data set of nnU-Net is written with at most {_MOST_LABELS} structures, received "
            f"{len(stack.labels)}: choose some by -P structure="
        )
    classes = np.zeros(stack.shape, np.uint8)
    overlap = 0
    for number, ids in enumerate(stack.labels.values(), start=1):
        inside = ids != 0
        overlap += int(np.count_nonzero(classes[inside]))
        classes[inside] = number
    if overlap:
        log.warning(
            "warning: nnU-Net has one class a pixel: %d pixels of several structures are of the "
            "last of %s; another order is chosen by -P structure=",
            overlap,
            ", ".join(stack.labels),
        )
    return classes


def _write_case(
    images: Path, labels: Path, name: str, image: np.ndarray, classes: np.ndarray
) -> None:
    for place, suffix, pixels in ((images, "_0000", image), (labels, "", classes)):
        write_tiff(place / f"{name}{suffix}{_ENDING}", pixels)


def _describe(folder: Path, stack: LabelStack, cases: list[str]) -> None:
    """Adds the cases that are trained on to the description and the splits."""
    reader = _VOLUMES if stack.volume else _SECTIONS
    described = _read_json(folder / _DESCRIPTION, {"numTraining": 0})
    write_json(
        folder / _DESCRIPTION,
        {
            "channel_names": {"0": "EM"},
            "labels": {
                "background": 0,
                **{structure: number for number, structure in enumerate(stack.labels, start=1)},
            },
            "numTraining": described["numTraining"] + len(cases),
            "file_ending": _ENDING,
            "overwrite_image_reader_writer": reader,
        },
    )
    if not cases:
        return
    splits = _read_json(folder / _SPLITS, [{"train": [], "val": []}])
    splits[0]["val" if stack.split == "val" else "train"] += cases
    write_json(folder / _SPLITS, splits)


def _read_json(path: Path, absent: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else absent
