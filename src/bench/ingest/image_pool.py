"""Images without labels, of folders, files and prepared datasets, from which patches are drawn.

They are listed once. A folder of very many images, such as CEM500K's half a million, is listed by
name alone: a file is opened when it is drawn.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.core.hashing import json_sha256
from bench.core.names import first_names
from bench.dataset.checks import check_finite
from bench.dataset.prepared import UNLABELLED, PreparedDataset
from bench.errors import BenchError, unknown_name
from bench.ingest.images.formats import is_image, read_header, read_plane
from bench.ingest.images.planes import hash_planes, list_planes
from bench.ingest.layouts.layout import is_ignored
from bench.words import AUTO

# Files of a folder from which on their sizes are not looked up, and their content is not hashed:
# of half a million, reading the headers takes minutes, and the content is 25 GB.
MANY_FILES = 10_000
# Of those, how many headers say how large the images are.
_LOOKED_AT = 20
# What of a prepared dataset may be taken, in this order.
_PARTS = ("train", "val", "test", UNLABELLED)
# Of how many images one is held out, and how many at most; of one that is the only one, the share
# of its rows.
_HELD_OUT_OF, _MOST_HELD_OUT, _HELD_OUT_ROWS = 20, 64, 0.1


@dataclass(frozen=True, eq=False)
class _ImageGroup:
    """Images of one origin.

    Attributes:
        shapes: Height and width of each in px, (images, 2); of very many, of the smallest known.
        name: From the number of one to what it is called, for people.
        read: From the number of one to its pixels (y, x).
        kind: What they are, for people.
        sha256: Hash of what they are: of the content; of very many files of names, sizes and
            times of change.
    """

    shapes: np.ndarray
    name: Callable[[int], str]
    read: Callable[[int], np.ndarray]
    kind: str
    sha256: str

    def keep(self, numbers: np.ndarray) -> "_ImageGroup":
        """Some of the images."""
        return replace(
            self,
            shapes=self.shapes[numbers],
            name=lambda number: self.name(int(numbers[number])),
            read=lambda number: self.read(int(numbers[number])),
        )


@dataclass(frozen=True, eq=False)
class UnlabelledPool:
    """Images of several origins, as one list.

    Attributes:
        groups: Those of each origin.
        left_out: Names of images that are smaller than a patch.
    """

    groups: tuple[_ImageGroup, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return sum(len(group.shapes) for group in self.groups)

    @property
    def shapes(self) -> np.ndarray:
        """Height and width of each in px, (images, 2)."""
        return np.concatenate([group.shapes for group in self.groups])

    @property
    def areas_px(self) -> np.ndarray:
        """Pixels of each."""
        return np.asarray(self.shapes.prod(axis=1, dtype=np.float64))

    @property
    def sha256(self) -> str:
        """Hash of what they are, wherever they lie."""
        return json_sha256([group.sha256 for group in self.groups])

    def name(self, number: int) -> str:
        """Path of an image, or its name in a prepared dataset."""
        group, place = self._find(number)
        return group.name(place)

    def read(self, number: int) -> np.ndarray:
        """Reads an image (y, x) at its depth.

        Raises:
            BenchError: If it cannot be read, is in colour, or not finite.
        """
        group, place = self._find(number)
        return group.read(place)

    def _find(self, number: int) -> tuple[_ImageGroup, int]:
        for group in self.groups:
            if number < len(group.shapes):
                return group, number
            number -= len(group.shapes)
        raise IndexError(number)


def list_pool(
    where: str,
    dataset: PreparedDataset | None = None,
    parts: Iterable[str] = (),
    *,
    patch_px: int,
    raw_key: str = AUTO,
) -> UnlabelledPool:
    """Lists the images of folders, files and parts of a prepared dataset; reads no pixels.

    Args:
        where: Folders or files of images, comma-separated; empty for none.
        dataset: A prepared dataset, whose labels are not read; None for none.
        parts: Of its splits and ``unlabelled``, its montages: those that are taken.
        patch_px: Edge of a patch. Images that are smaller are left out.
        raw_key: The array of images in HDF5 files and Zarr folders; ``auto`` finds it.

    Raises:
        BenchError: If something named is not there or is no image, or no image is large enough.
    """
    paths = [Path(part.strip()) for part in where.split(",") if part.strip()]
    groups = [_list_files(path, raw_key) for path in paths]
    if dataset is not None:
        groups.append(_list_sections(dataset, parts))
    left_out: list[str] = []
    for place, group in enumerate(groups):
        large = (group.shapes >= patch_px).all(axis=1)
        left_out += [group.name(int(number)) for number in np.flatnonzero(~large)]
        if not large.all():
            groups[place] = group.keep(np.flatnonzero(large))
    if not any(len(group.shapes) for group in groups):
        named = f"{first_names(left_out)}, smaller" if left_out else "no images"
        raise BenchError(
            f"an image must be as large as a patch (patch_px={patch_px}), received {named}: lower "
            "patch_px, or name other images"
        )
    return UnlabelledPool(tuple(groups), tuple(left_out))


def _list_files(path: Path, raw_key: str) -> _ImageGroup:
    """The sections of an image, a stack, a volume, or a folder of these."""
    names = _list_names(path)
    if len(names) > MANY_FILES:
        return _list_many(path, names)
    planes = list_planes(str(path), None, raw_key)
    return _ImageGroup(
        np.array([plane.shape for plane in planes]),
        lambda number: f"{planes[number].path} ({planes[number].name})",
        lambda number: planes[number].read(),
        f"{len(planes)} images of {path}",
        hash_planes(planes),
    )


def _list_names(folder: Path) -> list[str]:
    """The names of the files of a folder; none of anything else, which others refuse."""
    if not folder.is_dir() or is_image(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not is_ignored(Path(entry.name)))


def _list_many(folder: Path, names: list[str]) -> _ImageGroup:
    """A folder of very many images: none is opened but a few, which say how large they are."""
    stats = []
    for name in names:
        path = folder / name
        if not is_image(path):
            raise BenchError(
                f"{folder} must hold images of known formats only, received {name}: move it away"
            )
        stat = path.stat()
        stats.append([name, stat.st_size, stat.st_mtime_ns])
    headers = [read_header(folder / name) for name in names[:: max(1, len(names) // _LOOKED_AT)]]
    if any(header.pages > 1 for header in headers):
        raise BenchError(
            f"a folder of over {MANY_FILES} files must hold an image in each, received stacks in "
            f"{folder}: spread them over several folders, and name these"
        )
    smallest = np.min([header.shape for header in headers], axis=0)
    return _ImageGroup(
        # One row for all: half a million of them are no memory.
        np.broadcast_to(smallest, (len(names), 2)),
        lambda number: str(folder / names[number]),
        lambda number: _read_one(folder / names[number]),
        f"{len(names)} images of {folder}, by their names",
        json_sha256(stats),
    )


def _read_one(path: Path) -> np.ndarray:
    pixels = read_plane(path)
    check_finite(pixels, str(path))
    return pixels


def _list_sections(dataset: PreparedDataset, parts: Iterable[str]) -> _ImageGroup:
    """The raw images of some splits of a prepared dataset, and its montages."""
    wanted = list(dict.fromkeys(parts))
    for part in wanted:
        if part not in _PARTS:
            raise unknown_name("split", part, _PARTS)
    found = [(entry["split"], entry["name"]) for entry in dataset.manifest["sections"]]
    found += [(UNLABELLED, name) for name in dataset.unlabelled()]
    names = [name for part in _PARTS if part in wanted for split, name in found if split == part]
    return _ImageGroup(
        np.array([dataset.shape(name) for name in names]).reshape(-1, 2),
        lambda number: f"section {names[number]}",
        lambda number: dataset.read_raw(names[number]),
        f"{len(names)} sections ({', '.join(wanted)}) of dataset {dataset.root.name}",
        json_sha256([dataset.content_hash, names]),
    )


def hold_out(pool: UnlabelledPool, patch_px: int, seed: int) -> tuple[UnlabelledPool, np.ndarray]:
    """Chooses images that are not trained on: one of twenty, 64 at most.

    Of a single image the lowest tenth of the rows is held out, or as many as a patch has.

    Args:
        pool: The images.
        patch_px: Edge of a patch.
        seed: They are drawn by it.

    Returns:
        The images, of which the only one may have become two, and which of them are held out.

    Raises:
        BenchError: If there is a single image, and it is not twice as high as a patch.
    """
    if len(pool) > 1:
        number = min(_MOST_HELD_OUT, max(1, len(pool) // _HELD_OUT_OF))
        return pool, np.sort(np.random.default_rng(seed).permutation(len(pool))[:number])
    ((height, width),) = pool.shapes
    rows = max(patch_px, round(_HELD_OUT_ROWS * height))
    if height - rows < patch_px:
        raise BenchError(
            f"a single image must be twice as high as a patch (patch_px={patch_px}), so that a "
            f"part of it can be held out, received {height} x {width} px: give more images, or "
            "lower patch_px"
        )
    whole = next(group for group in pool.groups if len(group.shapes))
    parts = slice(0, height - rows), slice(height - rows, height)
    split = replace(
        whole,
        shapes=np.array([[height - rows, width], [rows, width]]),
        name=lambda number: whole.name(0),
        read=lambda number: whole.read(0)[parts[number]],
    )
    return replace(pool, groups=(split,)), np.array([1])
