"""What the metadata of a Zarr folder, version 2 or 3, say of its arrays and levels."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.ingest.classes import tidy_name
from bench.ingest.images.axes import as_numbers
from bench.ingest.images.axis_names import known_axes, read_axistags
from bench.ingest.images.limits import check_inside
from bench.ingest.images.units import unit_by_word

LARGEST_METADATA = 16 * 2**20
_MOST_LEVELS = 100
_MOST_AXES = 8
_DTYPE_V2 = re.compile(r"[<>|][bui][1248]|[<>]f[248]")
_DTYPES_V3 = {"bool", "float16", "float32", "float64"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
COMPRESSORS = {"gzip", "zlib", "zstd", "blosc", "lz4"}


@dataclass(frozen=True)
class Level:
    """What OME metadata say of one array of a multiscale image; each tuple has all axes.

    Attributes:
        names: Names of the axes.
        scale: Edge of an element in the unit of the axis; empty if unknown.
        sides_nm: The same in nm, 0 where the unit is unknown.
        offset_nm: Place of the first element in nm.
        channels: Names of the image's channels.
    """

    names: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    sides_nm: tuple[float, ...] = ()
    offset_nm: tuple[float, ...] = ()
    channels: tuple[str, ...] = ()


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
        names: What its metadata call its axes; empty where they do not.
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
    level: Level = field(default_factory=Level)
    names: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """What its axes are, as `known_axes`; what an image says of it goes first."""
        for names in (
            self.level.names,
            self.names,
            _list_names(self.attributes.get("_ARRAY_DIMENSIONS")),
            _list_names(self.attributes.get("axis_names")),
            read_axistags(self.attributes.get("axistags")),
        ):
            if axes := known_axes(names, len(self.shape)):
                return axes
        return ()


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
    if (metadata := _read_metadata(root, f"{key}/.zarray")) is not None:
        stated = _parse_v2(metadata)
        attributes = _read_metadata(root, f"{key}/.zattrs") or {}
    elif (metadata := _read_metadata(root, f"{key}/zarr.json")) and metadata[
        "node_type"
    ] == "array":
        stated = _parse_v3(metadata)
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
    if len(ranks) != 1 or max(ranks) > _MOST_AXES or min((*array.files, *array.chunks, 1)) < 1:
        raise ValueError(f"chunks of {array.files} and {array.chunks} in shape {array.shape}")
    return array


def _parse_v2(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns what the metadata of version 2 say of an array, by field of StoredArray."""
    compressor = (metadata["compressor"] or {}).get("id", "")
    dtype = metadata["dtype"]
    known = isinstance(dtype, str) and _DTYPE_V2.fullmatch(dtype)
    usual = known and not metadata.get("filters") and compressor in COMPRESSORS | {""}
    return {
        "shape": _sides(metadata["shape"]),
        "dtype": np.dtype(dtype if known else "O"),
        "files": _sides(metadata["chunks"]),
        "chunks": _sides(metadata["chunks"]),
        "compressor": compressor,
        "name_chunk": ("", _separator(metadata.get("dimension_separator", "."))),
        "foreign": "" if usual else f"{dtype!r}, {metadata.get('filters')!r}, {compressor!r}",
    }


def _parse_v3(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns what the metadata of version 3 say of an array, by field of StoredArray."""
    files = chunks = _sides(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    codecs, index, plain = metadata["codecs"], "", True
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        settings = codecs[0]["configuration"]
        chunks, codecs = _sides(settings["chunk_shape"]), settings["codecs"]
        index = settings.get("index_location", "end")
        plain = [codec["name"] for codec in settings["index_codecs"]] == ["bytes", "crc32c"]
        if index not in ("start", "end"):
            raise ValueError(f"index of shards at {index!r}")
    names = [codec["name"] for codec in codecs if codec["name"] != "transpose"]
    compressor = names[1] if len(names) == 2 else ""
    dtype = metadata["data_type"]
    fits = names[:1] == ["bytes"] and len(names) <= 2 and compressor in COMPRESSORS | {""}
    known = isinstance(dtype, str) and dtype in _DTYPES_V3
    encoding = metadata["chunk_key_encoding"]
    modern = encoding["name"] == "default"
    stated = (encoding.get("configuration") or {}).get("separator", "/" if modern else ".")
    return {
        "shape": _sides(metadata["shape"]),
        "dtype": np.dtype(dtype if known else "O"),
        "files": files,
        "chunks": chunks,
        "compressor": compressor,
        "name_chunk": ("c" if modern else "", _separator(stated)),
        "index": index,
        "foreign": "" if known and fits and plain else f"{dtype!r}, {codecs!r}",
        "names": _list_names(metadata.get("dimension_names")),
    }


def _list_names(value: Any) -> tuple[str, ...]:
    return tuple(str(name or "") for name in value) if isinstance(value, list) else ()


def _sides(value: Any) -> tuple[int, ...]:
    """Returns the sides of a shape; ValueError unless they are whole numbers from 0."""
    if not isinstance(value, list) or not all(type(side) is int and side >= 0 for side in value):
        raise ValueError(f"shape {str(value)[:80]}")
    return tuple(value)


def _separator(value: Any) -> str:
    if value not in (".", "/"):
        raise ValueError(f"separator {value!r}")
    return str(value)


def read_levels(root: Path, key: str) -> dict[str, Level]:
    """Returns the levels of the multiscale image that a group is, by key."""
    attributes = (_read_metadata(root, f"{key}/zarr.json") or {}).get("attributes")
    if attributes is None:
        attributes = _read_metadata(root, f"{key}/.zattrs")
    ome = attributes.get("ome", attributes) if isinstance(attributes, dict) else None
    ome = ome if isinstance(ome, dict) else {}
    multiscales = ome.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales:
        return {}
    image = multiscales[0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", [])]
    names = tuple(str(axis.get("name")) for axis in axes)
    units = tuple(unit_by_word(str(axis.get("unit", ""))) or 0.0 for axis in axes)
    channels = _name_channels(ome.get("omero"))
    levels = {}
    for dataset in image["datasets"][:_MOST_LEVELS]:
        own = dataset.get("coordinateTransformations", ())
        transforms = [*own, *image.get("coordinateTransformations", ())]
        scale, offset = _compose(transforms, len(names))
        levels["/".join(filter(None, [key, str(dataset["path"]).strip("/")]))] = Level(
            names,
            scale,
            tuple(side * unit for side, unit in zip(scale, units, strict=False)),
            tuple(place * unit for place, unit in zip(offset, units, strict=False)),
            channels,
        )
    return levels


def _name_channels(omero: Any) -> tuple[str, ...]:
    """Returns the labels of an image's channels as its display settings list them."""
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return ()
    named = (c.get("label") if isinstance(c, dict) else None for c in channels[:_MOST_LEVELS])
    return tuple(tidy_name(str(label or "")) for label in named)


def _read_metadata(root: Path, name: str) -> dict[str, Any] | None:
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


def _compose(
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
