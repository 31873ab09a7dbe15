"""Checks on the pixels of a section and of its masks."""

from typing import Any

import numpy as np

from bench.core.pixels import occupied_blocks
from bench.errors import BenchError
from bench.postprocess.instances import label_mask

_REPLACE = "replace it, or remove it and its masks"
_PERHAPS_IGNORED = (
    "if it marks what nobody annotated, save it as a value from 1 on and give -P ignore=VALUE, or "
    "name the values that count, as in -P structures=1=mitochondria"
)
_LARGEST_ID = np.uint32(np.iinfo(np.uint32).max)


def check_raw(raw: np.ndarray, file: str, remedy: str = _REPLACE) -> np.ndarray:
    """Checks a raw section (y, x) and returns it at its depth; a 1-bit image becomes 0 and 1.

    Args:
        raw: The section.
        file: Where it comes from, for messages.
        remedy: What to do if it is blank.

    Raises:
        BenchError: If it holds NaN or infinity, or has no contrast.
    """
    check_finite(raw, file)
    if raw.min() == raw.max():
        raise BenchError(
            f"raw image {file} must have contrast, received {raw.flat[0]} in every pixel: {remedy}"
        )
    return raw.astype(np.uint8) if raw.dtype == np.bool_ else raw


def read_instances(mask: np.ndarray, file: str, *, ids: bool = False) -> tuple[np.ndarray, str]:
    """Turns a mask into instance ids.

    A mask with a single foreground value, such as 0/255 or boolean, is binary: its instances are
    the 4-connected components. A mask with several values holds ids, which are kept; an id in
    two pieces stays one instance.

    Args:
        mask: Mask (y, x) of any depth; 0 is background.
        file: Its file, for messages.
        ids: Whether it holds ids even if there is a single one.

    Returns:
        Ids (y, x), 0 background, in the smallest unsigned type of up to 32 bits that holds them;
        and the kind of mask: ``binary``, ``ids`` or ``empty``.

    Raises:
        BenchError: If the mask holds anything but whole numbers from 0 to 2**32 - 1.
    """
    _check_ids(mask, file)
    largest = mask.max()
    if not largest:
        return np.zeros(mask.shape, np.uint8), "empty"
    kind = "ids" if ids or np.count_nonzero(mask) != np.count_nonzero(mask == largest) else "binary"
    labels = label_mask(mask != 0) if kind == "binary" else mask
    highest = int(largest if kind == "ids" else labels.max())
    return labels.astype(np.min_scalar_type(highest), copy=False), kind


def _check_ids(mask: np.ndarray, file: str) -> None:
    if mask.dtype.kind in "bu" and mask.dtype.itemsize <= _LARGEST_ID.nbytes:
        return
    check_finite(mask, file)
    if mask.dtype.kind == "f" and (mask != np.floor(mask)).any():
        value = mask[mask != np.floor(mask)][0]
        raise BenchError(
            f"mask {file} must hold whole numbers, received {value}: save 0 and 1, or instance ids"
        )
    if mask.dtype.kind in "if" and mask.min() < 0:
        raise BenchError(
            f"mask {file} must not be negative, received {mask.min()}: 0 is background, instances "
            f"count from 1; {_PERHAPS_IGNORED}"
        )
    if float(mask.max()) > _LARGEST_ID:
        raise BenchError(
            f"ids of mask {file} must fit in 32 bits, received {mask.max()}: number them from 1; "
            f"{_PERHAPS_IGNORED}"
        )


def check_finite(pixels: np.ndarray, file: str) -> None:
    """Raises BenchError where pixels are NaN or infinite."""
    if pixels.dtype.kind != "f":
        return
    bad = np.count_nonzero(~np.isfinite(pixels))
    if bad:
        raise BenchError(
            f"{file} must hold finite numbers, received NaN or infinity in {bad} px: fill them"
        )


def instance_areas(labels: np.ndarray) -> np.ndarray:
    """Returns the areas in px of the instances in an image of ids, ordered by id.

    Args:
        labels: Ids (y, x), or (z, y, x), of which sizes are voxels.
    """
    parts = labels if labels.ndim == 3 else [labels[block] for block in occupied_blocks(labels)]
    found = [np.unique(part, return_counts=True) for part in parts]
    if not found:
        return np.zeros(0, np.int64)
    ids, places = np.unique(np.concatenate([ids for ids, _ in found]), return_inverse=True)
    counts = np.concatenate([counts for _, counts in found])
    areas: np.ndarray = np.bincount(places, counts)[ids != 0].astype(np.int64)
    return areas


def check_foreground(summaries: dict[str, dict[str, Any]]) -> list[str]:
    """Checks the foreground fractions of a manifest's structures.

    Args:
        summaries: By structure, what `summarise_structure` returns.

    Returns:
        Warnings: a structure without foreground in the test split, or that fills most of a split.

    Raises:
        BenchError: If a structure has no foreground in the training or validation split, where
            it could not be learnt or its settings not be chosen.
    """
    warnings = []
    for structure, summary in summaries.items():
        for split, fraction in summary["foreground_fraction"].items():
            if fraction == 0 and split != "test":
                raise BenchError(
                    f"masks of {structure} must have foreground in {split}, received only "
                    "background: choose other sections, or leave it out with -P structures=..."
                )
            if fraction == 0:
                warnings.append(f"{structure} has no foreground in test: its scores mean nothing")
            if fraction > 0.5:
                warnings.append(
                    f"{structure} fills {fraction:.0%} of {split}: are its masks inverted?"
                )
    return warnings
