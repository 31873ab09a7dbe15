"""Volumes of a prepared dataset: regions whose sections are the planes of a 3D image."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.dataset.partial import read_ignore_levels
from bench.dataset.prepared import VOLUMES, PreparedDataset
from bench.errors import BenchError

_PLANE = re.compile("_z[0-9]+$")


@dataclass(frozen=True)
class Volume:
    """A volume, or the part of one that is in a split.

    Attributes:
        name: Its name in the dataset.
        split: train, val or test.
        sections: Its planes in the order of z.
        shape: Voxels along z, y, x.
        voxel_size_nm: Edges of a voxel along z, y, x.
    """

    name: str
    split: str
    sections: tuple[str, ...]
    shape: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]


def find_volumes(dataset: PreparedDataset, split: str) -> tuple[Volume, ...]:
    """Returns the volumes of a split, in natural order; none where a dataset is of sections.

    Planes of a volume that are in a split with others between them left out are two volumes.

    Raises:
        BenchError: If there is no such split, it has no sections, or planes of a volume differ
            in size.
    """
    if not dataset.manifest.get(VOLUMES):
        return ()
    runs: list[list[dict[str, object]]] = []
    for name in dataset.sections(split):
        entry = dataset.find(name)
        before = runs[-1][-1] if runs else None
        if before and (before["region"], before["number"]) == (
            entry["region"],
            int(entry["number"]) - 1,
        ):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    regions = [run[0]["region"] for run in runs]
    return tuple(_describe(dataset, run, regions.count(run[0]["region"]) > 1) for run in runs)


def _describe(dataset: PreparedDataset, run: list[dict[str, object]], parted: bool) -> Volume:
    names = tuple(str(entry["name"]) for entry in run)
    shapes = {dataset.shape(name) for name in names}
    if len(shapes) > 1:
        raise BenchError(
            f"planes of a volume must have one size, received {sorted(shapes)} in "
            f"{run[0]['region']}: crop them, or prepare with -P volumes=false"
        )
    name = _PLANE.sub("", names[0])
    if parted:
        name += f"_z{run[0]['number']}-{run[-1]['number']}"
    (height, width) = shapes.pop()
    side = dataset.pixel_size_nm or 0.0
    return Volume(
        name=name,
        split=str(run[0]["split"]),
        sections=names,
        shape=(len(names), height, width),
        voxel_size_nm=(float(dataset.manifest["section_nm"]), side, side),
    )


def read_volume(
    dataset: PreparedDataset, volume: Volume, key: str = "raw", planes: slice = slice(None)
) -> np.ndarray:
    """Reads planes of a volume (z, y, x), at the depth of its files.

    Args:
        dataset: The dataset.
        volume: One of its volumes.
        key: HDF5 dataset of the sections: ``raw`` or ``labels/STRUCTURE``.
        planes: Which; all by default.
    """
    return np.stack([dataset.read(name, key) for name in volume.sections[planes]])


def plane_reader(
    dataset: PreparedDataset, volume: Volume, key: str = "raw"
) -> Callable[[int, int], np.ndarray]:
    """What reads planes of a volume (z, y, x), from the first and the one after the last.

    Args:
        dataset: The dataset.
        volume: One of its volumes.
        key: HDF5 dataset of the sections.
    """
    return lambda start, stop: read_volume(dataset, volume, key, slice(start, stop))


def read_volume_labels(dataset: PreparedDataset, volume: Volume, structure: str) -> np.ndarray:
    """Reads the ids (z, y, x) of a structure in a volume, in one unsigned type; 0 is background.

    Raises:
        BenchError: If the structure is not annotated in it.
    """
    return np.stack([dataset.read_labels(name, structure) for name in volume.sections])


def read_volume_levels(
    dataset: PreparedDataset, volume: Volume, structure: str, planes: slice = slice(None)
) -> np.ndarray | None:
    """Reads what of a structure is not annotated in planes of a volume, uint8 (z, y, x).

    Returns:
        As ``dataset.partial`` says it; None where all of these planes is annotated.
    """
    names = volume.sections[planes]
    return stack_levels(
        [read_ignore_levels(dataset, n, structure) for n in names], volume.shape[1:]
    )


def stack_levels(planes: Sequence[np.ndarray | None], shape: tuple[int, ...]) -> np.ndarray | None:
    """What is not annotated of planes of a shape as that of a volume; None where nothing is."""
    if all(plane is None for plane in planes):
        return None
    nothing = np.zeros(shape, np.uint8)
    return np.stack([nothing if plane is None else plane for plane in planes])
