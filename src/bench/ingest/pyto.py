"""Label volumes of Pyto that export wrote: which value is which structure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.ingest.classes import ClassMap
from bench.ingest.images.formats import MRC_SUFFIXES
from bench.ingest.images.mrc import has_label
from bench.ingest.sources import SourceImage
from bench.structures import find_structure
from bench.words import FIRST_PYTO_VESICLE, PYTO_LABEL, PYTO_VALUES

_REGION, _ZONE = PYTO_VALUES


def is_pyto(path: Path) -> bool:
    """Whether an image is such a volume, which its header says."""
    return path.suffix.lower() in MRC_SUFFIXES and has_label(path, PYTO_LABEL)


def split_pyto(masks: Sequence[SourceImage], classes: ClassMap) -> dict[str, list[SourceImage]]:
    """Takes the structures of a volume apart, those that the user wants.

    Vesicles have the ids that they had before. The active zone is there if a voxel has its value,
    the region if one lies outside of it; what lies over the region is part of it.

    Args:
        masks: The sections of the volume.
        classes: What is wanted.
    """
    vesicles = find_structure("vesicles").name
    readers: dict[str, Callable[[SourceImage], np.ndarray]] = {
        vesicles: _read_vesicles,
        _ZONE: _read_zone,
        _REGION: _read_region,
    }
    found = {name: _read_by(masks, read) for name, read in readers.items()}
    if not any(mask.read().any() for mask in found[_ZONE]):
        del found[_ZONE]
    if all(mask.read().all() for mask in found[_REGION]):
        del found[_REGION]
    return {
        name: [replace(mask, ids=name == vesicles) for mask in images]
        for name, images in found.items()
        if classes.everything or classes.find(name)
    }


def _read_by(
    masks: Sequence[SourceImage], read: Callable[[SourceImage], np.ndarray]
) -> list[SourceImage]:
    return [replace(mask, read=partial(read, mask)) for mask in masks]


def _read_vesicles(mask: SourceImage) -> np.ndarray:
    values = mask.read().astype(np.int64)
    return np.maximum(values - (FIRST_PYTO_VESICLE - 1), 0).astype(np.uint16)


def _read_zone(mask: SourceImage) -> np.ndarray:
    return np.asarray(mask.read() == PYTO_VALUES[_ZONE], np.uint8)


def _read_region(mask: SourceImage) -> np.ndarray:
    return np.asarray(mask.read() != 0, np.uint8)
