"""The label volume that Pyto reads: regions by small values, vesicles from 10 on."""

import logging
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.export.label_images import viewable
from bench.export.mrc import write_mrc
from bench.export.sphere_table import SPHERES_FILE, write_spheres
from bench.export.spheres import find_balls
from bench.export.stack import VESICLES, LabelStack
from bench.words import FIRST_PYTO_VESICLE, PYTO_LABEL, PYTO_VALUES

_logger = logging.getLogger(__name__)

_LARGEST = np.iinfo(np.uint16).max
# What a region is called in which vesicles were looked for.
_REGIONS = ("segmentation_region", "region", "presynapse", "terminal", "bouton", "cytoplasm")
_ZONES = ("active_zone", "az")


def write_pyto(stack: LabelStack, folder: Path) -> None:
    """Writes ``labels.mrc``, ``raw.mrc`` of the image below it, and the spheres of a volume."""
    write_mrc(stack, make_pyto_labels(stack), folder / "labels.mrc", PYTO_LABEL)
    stack.warn_of_distance("Pyto")
    if stack.raw is not None:
        write_mrc(stack, viewable(stack.raw), folder / "raw.mrc")
    if stack.volume:
        known = stack.spheres.get(VESICLES, ())
        balls = find_balls(
            stack.labels[VESICLES], known, section_px=stack.section_px, volume=stack.volume
        )
        write_spheres(folder / SPHERES_FILE, balls)


def make_pyto_labels(stack: LabelStack) -> np.ndarray:
    """Makes the values of Pyto of a stack's labels.

    0 is outside, 1 the region in which vesicles were looked for, 2 the active zone, and vesicles
    are their ids and 9. Where no structure is the region, the whole image is. Vesicles lie over
    the active zone, and both over the region.

    Args:
        stack: The labels, of vesicles at least.

    Returns:
        Values (z, y, x) as uint16.

    Raises:
        BenchError: If there are no labels of vesicles, or more than the format can number.
    """
    if VESICLES not in stack.labels:
        raise BenchError(
            f"labels for Pyto must have {VESICLES}, received {', '.join(stack.labels)}: export "
            "what segmented vesicles, or choose another format"
        )
    region = _find(stack, _REGIONS)
    zone = _find(stack, _ZONES)
    values = np.ones(stack.shape, np.uint16)
    if region:
        values = (stack.labels[region] != 0).astype(np.uint16)
    else:
        _logger.info(
            "no structure is the region in which vesicles were looked for (%s): all of the image "
            "is",
            ", ".join(_REGIONS),
        )
    vesicles = _number(stack.labels[VESICLES])
    if zone:
        inside = stack.labels[zone] != 0
        if hidden := np.count_nonzero(inside & (vesicles != 0)):
            _logger.warning("%d voxels of %s lie below vesicles and are lost", hidden, zone)
        values[inside] = PYTO_VALUES["active_zone"]
    values[vesicles != 0] = vesicles[vesicles != 0]
    if others := sorted(stack.labels.keys() - {VESICLES, region, zone}):
        _logger.warning("Pyto's labels have no value for %s: left out", ", ".join(others))
    return values


def _number(ids: np.ndarray) -> np.ndarray:
    """Ids with 9 more each; numbered anew where the largest would not fit."""
    before = FIRST_PYTO_VESICLE - 1
    if ids.max(initial=0) + before <= _LARGEST:
        return np.where(ids != 0, ids.astype(np.int64) + before, 0).astype(np.uint16)
    known = np.unique(ids[ids != 0])
    if known.size + before > _LARGEST:
        raise BenchError(
            f"labels for Pyto must have no more than {_LARGEST - before} vesicles, received "
            f"{known.size}: choose another format"
        )
    _logger.warning("ids of vesicles are too large for uint16: they are numbered from 1 on")
    placed = np.searchsorted(known, ids) + FIRST_PYTO_VESICLE
    return np.where(ids != 0, placed, 0).astype(np.uint16)


def _find(stack: LabelStack, names: tuple[str, ...]) -> str:
    """The first of some names that is a structure of the stack; else empty."""
    return next((name for name in names if name in stack.labels), "")
