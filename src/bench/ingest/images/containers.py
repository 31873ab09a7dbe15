"""HDF5 files and Zarr folders that hold raw sections and their labels together."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.classes import ClassMap
from bench.ingest.images import hdf5, zarr_arrays
from bench.ingest.images.formats import ARRAY_SUFFIXES, read_header, read_plane
from bench.ingest.images.headers import ImageHeader
from bench.ingest.labels import ImageLabels, take_structure
from bench.ingest.sources import SourceImage, mark_ids
from bench.ingest.tree import check_named_alike
from bench.structures import is_structure_name, order_structures
from bench.words import AUTO

_ZARR = ".zarr"
# Names of arrays that hold raw sections, where the layout does not say it.
_RAW_NAMES = ("raw", "image", "images", "em", "volume", "data")
# CREMI's label of nothing.
_NOTHING = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class _Reader:
    """What is asked of an array beside its pixels, from file and key."""

    list_arrays: Callable[[Path], dict[str, ImageHeader]]
    list_channels: Callable[[Path, str], tuple[str, ...]]
    read_offset: Callable[[Path, str], tuple[float, float, float]]


_HDF5_READER = _Reader(hdf5.list_arrays, hdf5.list_channels, hdf5.read_offset)
_ZARR_READER = _Reader(
    zarr_arrays.list_arrays,
    zarr_arrays.list_channels,
    zarr_arrays.read_offset,
)


@dataclass(frozen=True)
class _Part:
    """An array of a container, and where it lies in the raw volume."""

    key: str
    header: ImageHeader
    corner: tuple[int, int, int]  # section, row and column of the raw volume that it begins at

    @property
    def place(self) -> tuple[object, ...]:
        """What it covers of the raw volume."""
        return (*self.corner, self.header.pages, *self.header.shape)


def is_container(path: Path) -> bool:
    """Whether a path may hold several arrays."""
    return path.suffix.lower() in ARRAY_SUFFIXES


def read_container(
    root: Path, path: Path, classes: ClassMap, pixel_size_nm: float | None, raw_key: str = AUTO
) -> tuple[list[SourceImage], ImageLabels] | None:
    """Lists raw sections and labels of a container; None where none of its arrays is taken.

    Labels that by their ``offset`` cover a part of the raw volume cut it to that part.

    Args:
        root: The folder that names are relative to.
        path: The container.
        classes: Which class is which structure.
        pixel_size_nm: Chooses the level of a multiscale image; None is the finest.
        raw_key: The array of raw sections, and after a colon its channel; ``auto`` finds it.

    Raises:
        BenchError: If it has no raw array, or labels that differ in place or reach beyond it.
    """
    found = find_labels(path, classes)
    if not found:
        return None
    raw_key = choose_raw(
        path, pixel_size_nm, [key for keys in found.values() for key in keys], raw_key
    )
    raw = read_header(path, raw_key)
    parts: dict[str, _Part] = {}
    for structure, keys in found.items():
        key = _choose_level(path, keys, structure, pixel_size_nm)
        _check_channels(path, key)
        parts[structure] = _find_part(path, raw_key, raw, key)
    first = next(iter(parts.values()))
    for part in parts.values():
        if part.place != first.place:
            raise BenchError(
                f"label arrays of {path} must cover the same voxels, received others in "
                f"{first.key} and {part.key}: crop them alike, or name what is to be taken, as in "
                f"-P structures={order_structures(parts)[0]}"
            )
    files = {path.relative_to(root).as_posix(): path}
    labels = ImageLabels()
    raw_keys = (raw_key, raw_key.rpartition(":")[0])
    others = list_others(path, [*raw_keys, *(key for keys in found.values() for key in keys)])
    labels.warnings += classes.warn_of_others(others, f"arrays of {path.name}")
    if path.suffix.lower() == _ZARR:
        labels.warnings += _warn_of_gaps(path, raw_key, list(parts.values()))
    for structure, part in parts.items():
        masks = [
            SourceImage(files, page, part.header, partial(_read_labels, path, page, part.key))
            for page in range(part.header.pages)
        ]
        labels.pages |= take_structure(mark_ids(masks), structure, classes)
        labels.painted.append(f"{path.name}: array {part.key}, taken as {structure}")
    header = replace(raw, shape=first.header.shape, pages=first.header.pages)
    pages = [
        SourceImage(files, page, header, partial(_read_part, path, raw_key, page, first))
        for page in range(header.pages)
    ]
    return pages, labels


def _warn_of_gaps(path: Path, raw_key: str, parts: list[_Part]) -> list[str]:
    """Says how many chunks of the raw sections that are taken, and of their labels, are missing."""
    first = parts[0].corner[0]
    taken = range(first, first + parts[0].header.pages)
    notes = zarr_arrays.note_gaps(path, raw_key, labels=False, sections=taken)
    doubtful = bool(notes)
    for part in parts:
        notes += zarr_arrays.note_gaps(path, part.key, labels=True, doubtful=doubtful)
    return [f"{path.name}: {note}" for note in notes]


def find_labels(path: Path, classes: ClassMap) -> dict[str, list[str]]:
    """The arrays of a container by the structure that their names, or whole keys, say.

    Those of the group ``labels`` are labels by the convention of OME-Zarr, so that one of any
    name is taken there as a folder is; elsewhere what is named like no known structure may be
    anything, and must be named by the user.
    """
    found: dict[str, list[str]] = {}
    for key in _list_arrays(path):
        kind = _kind_of(key)
        # A number is a level of a pyramid here, and the value of a label image elsewhere.
        named = not kind.isdecimal()
        structure = (classes.find(kind) or classes.find(key.strip("/"))) if named else None
        if structure is None and _is_in_labels(key) and is_structure_name(kind):
            structure = classes.find_folder(kind)
        if structure:
            found.setdefault(structure, []).append(key)
    return found


def list_others(path: Path, taken: Collection[str] = ()) -> list[str]:
    """What else the arrays of a container may be labels of, if the user names it."""
    kinds = [_kind_of(key) for key in _list_arrays(path) if key not in taken]
    kinds = [kind for kind in kinds if is_structure_name(kind) and kind.lower() not in _RAW_NAMES]
    return list(dict.fromkeys(kinds))


def _is_in_labels(key: str) -> bool:
    parts = key.strip("/").split("/")
    return parts[0] == "labels" and len(parts) == (3 if parts[-1].isdecimal() else 2)


def _list_arrays(path: Path) -> dict[str, ImageHeader]:
    return _reader_of(path).list_arrays(path)


def _reader_of(path: Path) -> _Reader:
    return _ZARR_READER if path.suffix.lower() == _ZARR else _HDF5_READER


def _check_channels(path: Path, key: str) -> None:
    if channels := _reader_of(path).list_channels(path, key):
        raise BenchError(
            f"label array {key} of {path} must be one channel, received {len(channels)} "
            f"({', '.join(channels)}): save the one to take as an array of its own"
        )


def _kind_of(key: str) -> str:
    """The class that a key says: ``labels/mito/0`` (a level) and ``volumes/labels/mito`` mito."""
    parts = key.strip("/").split("/")
    return parts[-2] if len(parts) > 1 and parts[-1].isdecimal() else parts[-1]


def choose_raw(
    path: Path, pixel_size_nm: float | None, labels: list[str], raw_key: str = AUTO
) -> str:
    """The key of the raw array: the one named, or what `_find_raw` finds; of a single channel.

    Raises:
        BenchError: If none is found, or one of several channels of which none is named.
    """
    key = _find_raw(path, pixel_size_nm, labels) if raw_key == AUTO else raw_key
    if channels := _reader_of(path).list_channels(path, key):
        raise BenchError(
            f"raw sections of {path} must be one channel, received array {key} with the channels "
            f"{', '.join(channels)}: name the one to take, as in -P 'raw_key={key}:{channels[0]}'"
        )
    return key


def _find_raw(path: Path, pixel_size_nm: float | None, labels: list[str]) -> str:
    """Finds the raw array by the layout, by its name, or as the only one that is left."""
    keys = [key for key in _list_arrays(path) if key not in labels]
    if path.suffix.lower() == _ZARR:
        images = [key for key in keys if "labels" not in key.strip("/").split("/")]
        groups = {key.rpartition("/")[0] for key in images if key.split("/")[-1].isdecimal()}
        if len(groups) == 1:
            return zarr_arrays.choose_level(path, pixel_size_nm, groups.pop())
    named = [key for key in keys if _kind_of(key).lower() in _RAW_NAMES]
    if len(named) == 1 or len(keys) == 1:
        return (named or keys)[0]
    raise BenchError(
        f"{path} must have one array of raw sections, named raw, received "
        f"{', '.join(keys) or 'label arrays only'}: name it as in -P raw_key=main/em (an array of "
        "channels must name its axes z, y, x and c)"
    )


def _choose_level(path: Path, keys: list[str], structure: str, pixel_size_nm: float | None) -> str:
    """The label array of a structure; of several levels the one nearest in pixel size."""
    if len(keys) == 1:
        return keys[0]
    groups = {key.rpartition("/")[0] for key in keys}
    if path.suffix.lower() == _ZARR and len(groups) == 1:
        return zarr_arrays.choose_level(path, pixel_size_nm, groups.pop())
    raise BenchError(
        f"{path} must have one array of {structure}, received {', '.join(keys)}: name the one "
        f"to take, as in -P structures={keys[0].strip('/')}={structure}"
    )


def _find_part(path: Path, raw_key: str, raw: ImageHeader, key: str) -> _Part:
    """Finds where an array lies in the raw volume, by the offsets of both in nm."""
    header = read_header(path, key)
    check_named_alike(raw, header, f"label array {key} of {path}")
    read_offset = _reader_of(path).read_offset
    offsets_nm = np.subtract(read_offset(path, key), read_offset(path, raw_key))
    corner = (0, 0, 0)
    if offsets_nm.any():
        sides_nm = (raw.section_nm, *(raw.pixel_sides_nm or (None, None)))
        if any(offset and not side for offset, side in zip(offsets_nm, sides_nm, strict=True)):
            raise BenchError(
                f"an array with an offset must come with a resolution, received none for {raw_key} "
                f"of {path}: add its attribute resolution (z, y, x in nm)"
            )
        steps = [o / side if side else 0.0 for o, side in zip(offsets_nm, sides_nm, strict=True)]
        corner = (round(steps[0]), round(steps[1]), round(steps[2]))
    part = _Part(key, header, corner)
    ends = np.add(corner, (header.pages, *header.shape))
    if min(corner) < 0 or (ends > (raw.pages, *raw.shape)).any():
        raise BenchError(
            f"array {key} of {path} must lie within {raw_key}, received {header.pages} sections "
            f"of {header.shape} px from {corner} on in one of {raw.pages} sections of "
            f"{raw.shape} px: correct its offset, or crop it"
        )
    return part


def _read_part(path: Path, key: str, page: int, part: _Part) -> np.ndarray:
    section, top, left = part.corner
    height, width = part.header.shape
    return read_plane(path, section + page, key)[top : top + height, left : left + width]


def _read_labels(path: Path, page: int, key: str) -> np.ndarray:
    """Reads a section (y, x) of a label array; CREMI's label of nothing becomes background."""
    labels = read_plane(path, page, key)
    if labels.dtype == np.uint64:
        labels = np.where(labels == _NOTHING, 0, labels)
    return labels
