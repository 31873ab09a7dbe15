"""Reads sections from the arrays of a Zarr folder, and chooses a level of an OME-Zarr image."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from bench.data.hdf5 import (
    LARGEST_DEPTH,
    SIDES_NM,
    SectionAxes,
    as_numbers,
    build_header,
    check_size,
    check_unpacked,
    choose_key,
    chunk_grid,
    decode_as,
    find_offset,
    find_section_axes,
    find_sides,
    index_plane,
    may_be_sections,
    native,
    no_array,
)
from bench.data.images import ImageHeader
from bench.data.limits import FREE_BYTES, check_decoded_size, check_inside
from bench.errors import BenchError

LARGEST_METADATA = 16 * 2**20
MOST_AXES, MOST_LEVELS, MOST_FOLDERS = 8, 100, 2500
DTYPE_V2 = re.compile(r"[<>|][bui][1248]|[<>]f[248]")
DTYPES_V3 = {"bool", "float16", "float32", "float64"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
COMPRESSORS = {"gzip", "zlib", "zstd", "blosc", "lz4"}
GZIP_RATIO = 1032
HEADER_BYTES = 32
UNIT_NM = {
    "picometer": 1e-3,
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "um": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
}


@dataclass(frozen=True)
class Level:
    """What OME metadata say of one array of a multiscale image; each tuple has all axes.

    Attributes:
        names: Names of the axes.
        scale: Edge of an element in the unit of the axis; empty if unknown.
        sides_nm: The same in nm, 0 where the unit is unknown.
        offset_nm: Place of the first element in nm.
    """

    names: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    sides_nm: tuple[float, ...] = ()
    offset_nm: tuple[float, ...] = ()


@dataclass(frozen=True)
class StoredArray:
    """An array as its metadata describe it.

    Attributes:
        key: Its path in the Zarr folder.
        shape: Its shape.
        dtype: Its type.
        files: Shape of what one file holds: a chunk, or a shard of chunks.
        chunks: Shape of what is decoded at once.
        compressor: The codec that compresses a chunk; empty if none does.
        name_chunk: How the file of a chunk is named: what comes first, and the separator.
        index: Whether a shard's index is at its ``start`` or ``end``; empty without shards.
        foreign: What in it only other code could decode; empty if nothing.
        attributes: What the user or a program noted on it.
        level: What a multiscale image says of it.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    files: tuple[int, ...]
    chunks: tuple[int, ...]
    compressor: str
    name_chunk: tuple[str, str]
    index: str = ""
    foreign: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    level: Level = Level()


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and pixel size of an array.

    Args:
        path: The Zarr folder, version 2 or 3.
        key: The array, or the group of a multiscale image, whose finest level is taken; empty
            chooses as `choose_level` does.

    Raises:
        BenchError: If the metadata are damaged, the key names no array of sections, or the array
            cannot be read safely.
    """
    return decode_as("Zarr folder", path, lambda root: describe_array(root, find_array(root, key)))


def read_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an array at its stored depth; only its chunks are read.

    Args:
        path: The Zarr folder.
        page: Which section, from 0.
        key: The array, as for `read_header`.

    Raises:
        BenchError: As for `read_header`, or if there is no such section.
    """
    return decode_as(
        "Zarr folder", path, lambda root: read_stored(root, find_array(root, key), page)
    )


def read_offset(path: Path, key: str) -> tuple[float, float, float]:
    """Reads where the first voxel of an array lies (z, y, x in nm).

    It is the translation of OME metadata, or the attribute ``offset``; without them it is zero.
    """

    def read(root: Path) -> tuple[float, float, float]:
        array = find_array(root, key)
        axes = axes_of(root, array)
        level = array.level.offset_nm
        if level:
            z = 0.0 if axes.z is None else level[axes.z]
            return z, level[axes.y], level[axes.x]
        return find_offset({"offset": as_numbers(array.attributes.get("offset", ()))})

    return decode_as("Zarr folder", path, read)


def list_arrays(path: Path) -> dict[str, ImageHeader]:
    """Returns the arrays of a folder that can be sections, by key; labels of OME-Zarr as well."""

    def read(root: Path) -> dict[str, ImageHeader]:
        return {key: describe_array(root, array) for key, array in walk(root).items()}

    return decode_as("Zarr folder", path, read)


def choose_level(path: Path, pixel_size_nm: float | None, key: str = "") -> str:
    """Chooses the array of a multiscale image whose pixel size is nearest.

    Nearest is by ratio, and of two at the same distance the finer one. Where the folder has no
    multiscale metadata, its only array is taken, or ``volumes/raw`` of the CREMI layout.

    Args:
        path: The Zarr folder.
        pixel_size_nm: Pixel size wanted; None, or where the metadata state no unit, is the
            finest level.
        key: The group of the image; empty is the only image beside labels.

    Returns:
        The key of the array.

    Raises:
        BenchError: If there is no array of sections, or several that are no levels of one image.
    """
    return decode_as("Zarr folder", path, lambda root: choose(root, pixel_size_nm, key))


def choose(root: Path, pixel_size_nm: float | None, key: str) -> str:
    """Chooses an array as `choose_level` does."""
    key = key.strip("/")
    if read_array(root, key) is not None:
        return key
    levels = read_levels(root, key)
    if not levels:
        arrays = walk(root)
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
    return min(present, key=lambda name: distance(present[name], pixel_size_nm))


def distance(level: Level, pixel_size_nm: float | None) -> tuple[float, float]:
    """How far a level is from a pixel size, then how coarse it is."""
    scale = level.scale[-1] if level.scale else 0.0
    side = level.sides_nm[-1] if level.sides_nm else 0.0
    if pixel_size_nm is None or side <= 0:
        return 0.0, scale
    return round(abs(math.log(side / pixel_size_nm)), 6), scale


def find_array(root: Path, key: str) -> StoredArray:
    """Returns the array of a key, or the finest level of the image that it names."""
    array = read_array(root, choose(root, None, key))
    if array is None:
        raise no_array(root, key, list(walk(root)))
    return array


def walk(root: Path) -> dict[str, StoredArray]:
    """Returns the arrays that can be sections, in the order of their keys."""
    found: dict[str, StoredArray] = {}
    waiting: list[tuple[str, dict[str, Level]]] = [("", {})]
    seen, nodes = set(), 0
    while waiting:
        key, levels = waiting.pop()
        nodes += 1
        if nodes > MOST_FOLDERS or key.count("/") > LARGEST_DEPTH:
            raise BenchError(
                f"{root} must hold no more than {MOST_FOLDERS} folders beside chunks in "
                f"{LARGEST_DEPTH} levels, received more: name the folder of the image itself"
            )
        folder = check_inside(root / key, (root,), str(root))
        if folder in seen:
            continue
        seen.add(folder)
        array = read_array(root, key, levels)
        if array is None:
            levels = {**levels, **read_levels(root, key)}
            inner = [f"{key}/{path.name}" if key else path.name for path in visible_folders(folder)]
            waiting += [(name, levels) for name in inner]
        elif may_be_sections(array.shape, array.dtype):
            found[key] = array
    return dict(sorted(found.items()))


def visible_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder but for hidden ones."""
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]


def read_levels(root: Path, key: str) -> dict[str, Level]:
    """Returns the levels of the multiscale image that a group is, by key."""
    attributes = read_attributes(root, key)
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not isinstance(multiscales, list) or not multiscales:
        return {}
    image = multiscales[0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", [])]
    names = tuple(str(axis.get("name")) for axis in axes)
    units = tuple(UNIT_NM.get(str(axis.get("unit", "")).lower(), 0.0) for axis in axes)
    levels = {}
    for dataset in image["datasets"][:MOST_LEVELS]:
        scale, offset = compose(
            [
                *dataset.get("coordinateTransformations", ()),
                *image.get("coordinateTransformations", ()),
            ],
            len(names),
        )
        levels["/".join(filter(None, [key, str(dataset["path"]).strip("/")]))] = Level(
            names,
            scale,
            tuple(side * unit for side, unit in zip(scale, units, strict=False)),
            tuple(place * unit for place, unit in zip(offset, units, strict=False)),
        )
    return levels


def compose(
    transforms: list[dict[str, Any]], axes: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the scale and translation of transforms applied in order; empty if unknown."""
    scale, offset, known = np.ones(axes), np.zeros(axes), False
    for transform in transforms:
        kind = transform.get("type")
        values = as_numbers(transform.get(str(kind), ()))
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or len(values) != axes:
            return (), ()
        known = True
        if kind == "scale":
            scale, offset = scale * values, offset * values
        else:
            offset = offset + values
    if not known or not np.isfinite([*scale, *offset]).all() or (scale <= 0).any():
        return (), ()
    return tuple(scale.tolist()), tuple(offset.tolist())


def read_attributes(root: Path, key: str) -> dict[str, Any]:
    """Returns the attributes of a group or array; none where it has no metadata."""
    attributes = (read_json(root, f"{key}/zarr.json") or {}).get("attributes")
    if attributes is None:
        attributes = read_json(root, f"{key}/.zattrs")
    return attributes if isinstance(attributes, dict) else {}


def read_json(root: Path, name: str) -> dict[str, Any] | None:
    """Reads a metadata file; None if it is missing."""
    file = root / name.strip("/")
    if not file.is_file():
        return None
    check_inside(file, (root,), str(root))
    if file.stat().st_size > LARGEST_METADATA:
        raise BenchError(
            f"metadata of {root} must have no more than {LARGEST_METADATA >> 20} MB, received "
            f"{file.stat().st_size} bytes in {name.strip('/')}: save it again"
        )
    content = json.loads(file.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{name.strip('/')} is no JSON object")
    return content


def read_array(
    root: Path, key: str, levels: Mapping[str, Level] | None = None
) -> StoredArray | None:
    """Reads the metadata of an array; None if the key is none.

    Args:
        root: The Zarr folder.
        key: The array.
        levels: Levels of the groups around it, where they were read already.
    """
    check_inside(root / key, (root,), str(root))
    if not (root / key).is_dir():
        return None
    if (metadata := read_json(root, f"{key}/.zarray")) is not None:
        stated = parse_v2(metadata)
        attributes = read_json(root, f"{key}/.zattrs") or {}
    elif (metadata := read_json(root, f"{key}/zarr.json")) and metadata["node_type"] == "array":
        stated = parse_v3(metadata)
        attributes = metadata.get("attributes") or {}
    else:
        return None
    if levels is None:
        levels = {}
        parts = key.split("/") if key else []
        for end in range(len(parts)):
            levels = {**levels, **read_levels(root, "/".join(parts[:end]))}
    array = StoredArray(key, attributes=attributes, level=levels.get(key, Level()), **stated)
    ranks = {len(array.shape), len(array.files), len(array.chunks)}
    if len(ranks) != 1 or max(ranks) > MOST_AXES or min((*array.files, *array.chunks, 1)) < 1:
        raise ValueError(f"chunks of {array.files} and {array.chunks} in shape {array.shape}")
    return array


def parse_v2(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns what the metadata of version 2 say of an array, by field of StoredArray."""
    compressor = (metadata["compressor"] or {}).get("id", "")
    dtype = metadata["dtype"]
    known = isinstance(dtype, str) and DTYPE_V2.fullmatch(dtype)
    usual = known and not metadata.get("filters") and compressor in COMPRESSORS | {""}
    return {
        "shape": sides(metadata["shape"]),
        "dtype": np.dtype(dtype if known else "O"),
        "files": sides(metadata["chunks"]),
        "chunks": sides(metadata["chunks"]),
        "compressor": compressor,
        "name_chunk": ("", separator(metadata.get("dimension_separator", "."))),
        "foreign": "" if usual else f"{dtype!r}, {metadata.get('filters')!r}, {compressor!r}",
    }


def parse_v3(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns what the metadata of version 3 say of an array, by field of StoredArray."""
    files = chunks = sides(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    codecs, index, plain = metadata["codecs"], "", True
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        settings = codecs[0]["configuration"]
        chunks, codecs = sides(settings["chunk_shape"]), settings["codecs"]
        index = settings.get("index_location", "end")
        plain = [codec["name"] for codec in settings["index_codecs"]] == ["bytes", "crc32c"]
        if index not in ("start", "end"):
            raise ValueError(f"index of shards at {index!r}")
    names = [codec["name"] for codec in codecs if codec["name"] != "transpose"]
    compressor = names[1] if len(names) == 2 else ""
    dtype = metadata["data_type"]
    fits = names[:1] == ["bytes"] and len(names) <= 2 and compressor in COMPRESSORS | {""}
    known = isinstance(dtype, str) and dtype in DTYPES_V3
    encoding = metadata["chunk_key_encoding"]
    modern = encoding["name"] == "default"
    stated = (encoding.get("configuration") or {}).get("separator", "/" if modern else ".")
    return {
        "shape": sides(metadata["shape"]),
        "dtype": np.dtype(dtype if known else "O"),
        "files": files,
        "chunks": chunks,
        "compressor": compressor,
        "name_chunk": ("c" if modern else "", separator(stated)),
        "index": index,
        "foreign": "" if known and fits and plain else f"{dtype!r}, {codecs!r}",
    }


def sides(value: Any) -> tuple[int, ...]:
    """Returns the sides of a shape; ValueError unless they are whole numbers from 0."""
    if not isinstance(value, list) or not all(type(side) is int and side >= 0 for side in value):
        raise ValueError(f"shape {str(value)[:80]}")
    return tuple(value)


def separator(value: Any) -> str:
    """Returns what separates the numbers in the name of a chunk."""
    if value not in (".", "/"):
        raise ValueError(f"separator {value!r}")
    return str(value)


def axes_of(root: Path, array: StoredArray) -> SectionAxes:
    """Returns the axes of sections of an array that can be decoded."""
    if array.foreign:
        raise BenchError(
            f"array {array.key or '/'} of {root} must hold numbers, compressed with one of "
            f"{', '.join(sorted(COMPRESSORS))} or not at all, without filters, received "
            f"{array.foreign[:200]}: save it with zstd"
        )
    return find_section_axes(root, array.key or "/", array.shape, array.level.names)


def describe_array(root: Path, array: StoredArray) -> ImageHeader:
    """Returns the header of an array."""
    axes = axes_of(root, array)
    plane = array.shape[axes.y] * array.shape[axes.x] * array.dtype.itemsize
    stored = 0
    if plane > FREE_BYTES:
        index = index_plane(root, array.shape, axes, 0)
        stored = sum(file.stat().st_size for file in chunk_files(root, array, index))
    check_size(root, array.key or "/", array.shape, array.dtype, axes, stored)
    stated = {name: as_numbers(array.attributes.get(name, ())) for name in SIDES_NM}
    return build_header(array.shape, axes, array.level.sides_nm or find_sides(stated))


def read_stored(root: Path, array: StoredArray, page: int) -> np.ndarray:
    """Reads a section of an array, a band of chunks after the other."""
    axes = axes_of(root, array)
    index = list(index_plane(root, array.shape, axes, page))
    check_chunks(root, array, axes, tuple(index))
    store = LocalStore(root, read_only=True)
    stored = zarr.open_array(store=store, path=array.key, mode="r")
    if stored.shape != array.shape or stored.dtype != array.dtype:
        raise ValueError("metadata changed while they were read")
    band = array.chunks[axes.y] * max(1, FREE_BYTES // band_bytes(array, axes))
    plane = np.empty((array.shape[axes.y], array.shape[axes.x]), array.dtype)
    for top in range(0, len(plane), band):
        index[axes.y] = slice(top, min(top + band, len(plane)))
        plane[top : top + band] = stored[tuple(index)]
    return native(plane)


def band_bytes(array: StoredArray, axes: SectionAxes) -> int:
    """Returns the bytes of a row of chunks."""
    along_x = -(-array.shape[axes.x] // array.chunks[axes.x])
    return max(1, math.prod(array.chunks) * along_x * array.dtype.itemsize)


def check_chunks(
    root: Path, array: StoredArray, axes: SectionAxes, index: tuple[int | slice, ...]
) -> None:
    """Refuses sections and chunks that would be far larger in memory than on disk."""
    expected, stored = math.prod(array.chunks) * array.dtype.itemsize, 0
    for file in chunk_files(root, array, index):
        size = file.stat().st_size
        stored += size
        if not array.compressor:
            continue
        with file.open("rb") as content:
            for start, length in chunks_in_file(root, array, content, size):
                content.seek(start)
                unstated = array.compressor in ("gzip", "zlib", "zstd")
                if array.compressor in ("gzip", "zlib") and length * GZIP_RATIO <= FREE_BYTES:
                    continue
                packed = content.read(length if unstated else HEADER_BYTES)
                check_unpacked(root, array.compressor, packed, expected)
    check_size(root, array.key or "/", array.shape, array.dtype, axes, stored)
    check_decoded_size(root, band_bytes(array, axes), stored)


def chunks_in_file(
    root: Path, array: StoredArray, content: Any, size: int
) -> Iterator[tuple[int, int]]:
    """Yields where the chunks in a file start and how many bytes they have."""
    if not array.index:
        yield 0, size
        return
    inner = math.prod(-(-f // c) for f, c in zip(array.files, array.chunks, strict=True))
    length = 16 * inner + 4
    if length > size:
        raise ValueError("a shard is shorter than its index")
    content.seek(size - length if array.index == "end" else 0)
    entries = np.frombuffer(content.read(length - 4), "<u8").reshape(-1, 2)
    for start, count in entries[entries[:, 0] != 2**64 - 1].tolist():
        if start + count > size:
            raise ValueError("a chunk reaches beyond its shard")
        yield start, count


def chunk_files(root: Path, array: StoredArray, index: tuple[int | slice, ...]) -> Iterator[Path]:
    """Yields the files that hold chunks of a section; a chunk without a file is empty."""
    first, between = array.name_chunk
    for place in product(*chunk_grid(root, array.shape, array.files, index)):
        name = between.join([first, *map(str, place)] if first else map(str, place))
        file = root / array.key / name
        if file.is_file():
            yield check_inside(file, (root,), str(root))
