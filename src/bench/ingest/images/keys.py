"""Which array of an HDF5 file or a Zarr folder is meant, found without leaving it."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import h5py

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.images.axes import may_be_sections
from bench.ingest.images.axis_names import known_axes, read_axistags
from bench.ingest.images.limits import check_inside
from bench.ingest.images.zarr_metadata import Level, StoredArray, read_array, read_levels

_CREMI_RAW = "volumes/raw"
# Levels of groups in a file or folder.
_LARGEST_DEPTH = 32
_MOST_NODES, _MOST_LINKS = 10_000, 16
MOST_FOLDERS = 2500


def choose_key(path: Path, keys: Iterable[str], key: str = "") -> str:
    """Returns the usual one of the arrays below a key: CREMI's raw volume, or the only one."""
    keys = list(keys)
    if _CREMI_RAW in keys:
        return _CREMI_RAW
    if len(keys) != 1:
        raise no_array(path, key, keys)
    return keys[0]


def no_array(path: Path, key: str, keys: list[str]) -> BenchError:
    """Builds the error for a key that names no array."""
    received = f"key {key!r}" if key else "no key"
    return BenchError(
        f"the key must name one array of sections in {path}, received {received} and the arrays "
        f"{first_names(keys) or '(none)'}: give its key"
    )


def list_hdf5_keys(path: Path, file: h5py.File) -> list[str]:
    """Returns the keys of the arrays that can be sections, without following a link."""
    keys, waiting, seen, nodes = [], [("", file)], set(), 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            nodes += 1
            if nodes > _MOST_NODES or prefix.count("/") > _LARGEST_DEPTH:
                raise BenchError(
                    f"{path} must hold no more than {_MOST_NODES} arrays and groups in "
                    f"{_LARGEST_DEPTH} levels, received more: copy what is annotated to a new file"
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            node = group[name]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen:  # a group may be linked from below itself
                continue
            seen.add(place)
            if isinstance(node, h5py.Group):
                waiting.append((f"{prefix}{name}/", node))
            elif isinstance(node, h5py.Dataset) and may_be_sections(
                node.shape, node.dtype, name_axes(node)
            ):
                keys.append(prefix + name)
    return sorted(keys)


def name_axes(dataset: h5py.Dataset) -> tuple[str, ...]:
    """Returns what the axes of an HDF5 array are, as `known_axes`; none if nothing says it.

    ilastik says it in an attribute, other programs by labels of the dimensions, and netCDF by the
    names of the scales that it attaches to them.
    """
    if dataset.shape is None or not dataset.attrs:
        return ()
    rank = len(dataset.shape)
    if "axistags" in dataset.attrs:
        single = dataset.attrs.get_id("axistags").shape == ()
        tagged = read_axistags(dataset.attrs["axistags"]) if single else []
        if names := known_axes(tagged, rank):
            return names
    if names := known_axes([dimension.label for dimension in dataset.dims], rank):
        return names
    if "DIMENSION_LIST" not in dataset.attrs:
        return ()
    scales = [dimension[0].name if len(dimension) else "" for dimension in dataset.dims]
    return known_axes([(name or "").rpartition("/")[2] for name in scales], rank)


def split_channel(key: str) -> tuple[str, int | None]:
    """Splits ``KEY:CHANNEL``, a channel by its number; None where the key names no channel."""
    name, colon, channel = key.rpartition(":")
    return (name, int(channel)) if colon and re.fullmatch("[0-9]{1,9}", channel) else (key, None)


def follow_links(path: Path, file: h5py.File, key: str) -> h5py.Dataset | h5py.Group | None:
    """Returns what a key names, soft links followed one by one; None if there is nothing.

    HDF5 would follow a link into another file on the way.
    """
    node, waiting, links = file, _split_key(key), 0
    while waiting:
        name = waiting.pop()
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            links += 1
            node = file if link.path.startswith("/") else node
            waiting += _split_key(link.path)
            if links > _MOST_LINKS or len(waiting) > _LARGEST_DEPTH:
                raise BenchError(
                    f"key {key!r} of {path} must lead to an array in {_MOST_LINKS} links or less, "
                    "received more: name the array itself"
                )
        elif isinstance(link, h5py.ExternalLink):
            raise elsewhere(path, key, f"a link to {link.filename!r}")
        elif link is None:
            return None
        else:
            node = node[name]
    return node


def _split_key(key: str) -> list[str]:
    """Returns the names in a key, the last one first."""
    return [name for name in key.split("/") if name not in ("", ".")][::-1]


def elsewhere(path: Path, key: str, received: str) -> BenchError:
    """Builds the error for an array that is not in the file itself."""
    return BenchError(
        f"array {key} of {path} must be stored in that file, received {received}: copy its values "
        "into one file"
    )


def choose(root: Path, pixel_size_nm: float | None, key: str) -> str:
    """Chooses an array as `choose_level` does."""
    key = key.strip("/")
    if read_array(root, key) is not None:
        return key
    levels = read_levels(root, key)
    if not levels:
        arrays = list_zarr_arrays(root)
        inside = {name: arrays[name] for name in arrays if not key or name.startswith(f"{key}/")}
        if not inside:
            raise no_array(root, key, list(arrays))
        images = [name for name, array in inside.items() if array.level.names]
        images = [name for name in images if "labels" not in name.split("/")] or images
        groups = {name.rpartition("/")[0] for name in images}
        if len(groups) != 1:
            return choose_key(root, inside, key)
        levels = {name: inside[name].level for name in images}
    present = {name: level for name, level in levels.items() if read_array(root, name) is not None}
    if not present:
        raise no_array(root, key, [])
    return min(present, key=lambda name: _distance(present[name], pixel_size_nm))


def _distance(level: Level, pixel_size_nm: float | None) -> tuple[float, float]:
    """How far a level is from a pixel size, then how coarse it is."""
    x = level.names.index("x") if "x" in level.names else -1
    scale = level.scale[x] if level.scale else 0.0
    side = level.sides_nm[x] if level.sides_nm else 0.0
    if pixel_size_nm is None or side <= 0:
        return 0.0, scale
    return round(abs(math.log(side / pixel_size_nm)), 6), scale


def _find_array(root: Path, key: str) -> StoredArray:
    """Returns the array of a key, or the finest level of the image that it names."""
    array = read_array(root, choose(root, None, key))
    if array is None:
        raise no_array(root, key, list(list_zarr_arrays(root)))
    return array


def find_channel(root: Path, key: str) -> tuple[StoredArray, int | None]:
    """Returns the array of ``KEY`` or ``KEY:CHANNEL``, and the channel, None where none is named.

    A channel is named by its number or as OME metadata name it.

    Raises:
        BenchError: If there is no such array, or no channel of that name.
    """
    name, colon, channel = key.rpartition(":")
    if not colon or (root / key).exists():
        return _find_array(root, key), None
    array = _find_array(root, name)
    labels = array.level.channels
    if channel in labels:
        return array, labels.index(channel)
    number = split_channel(key)[1]
    if number is None:
        raise BenchError(
            f"channel of array {array.key or '/'} of {root} must be a number from 0, or one of "
            f"{', '.join(labels) or '(no names)'}, received {channel!r}: correct raw_key"
        )
    return array, number


def list_zarr_arrays(root: Path) -> dict[str, StoredArray]:
    """Returns the arrays that can be sections, in the order of their keys."""
    found: dict[str, StoredArray] = {}
    waiting: list[tuple[str, dict[str, Level]]] = [("", {})]
    seen, nodes = set(), 0
    while waiting:
        key, levels = waiting.pop()
        nodes += 1
        if nodes > MOST_FOLDERS or key.count("/") > _LARGEST_DEPTH:
            raise BenchError(
                f"{root} must hold no more than {MOST_FOLDERS} folders beside chunks in "
                f"{_LARGEST_DEPTH} levels, received more: name the folder of the image itself"
            )
        folder = check_inside(root / key, (root,), str(root))
        if folder in seen:
            continue
        seen.add(folder)
        array = read_array(root, key, levels)
        if array is None:
            levels = {**levels, **read_levels(root, key)}
            names = [p.name for p in folder.iterdir() if p.name[0] != "." and p.is_dir()]
            waiting += [(f"{key}/{name}" if key else name, levels) for name in names]
        elif may_be_sections(array.shape, array.dtype, array.axes):
            found[key] = array
    return dict(sorted(found.items()))
