"""Reads annotation as GeoJSON, as QuPath exports it, and the JSON of strangers in general."""

import json
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.drawing import (
    SMALLEST_SIDE_PX,
    DrawnObject,
    Outline,
    check_coordinates,
    oval_ring,
)
from bench.ingest.classes import UNCLASSIFIED, class_of_name, tidy_name, warn_of_left_out
from bench.ingest.images.headers import decode
from bench.ingest.images.limits import ANNOTATION_BYTES

IS_GEOJSON = re.compile(rb'"type"\s*:\s*"Feature(Collection)?"|"geometry"\s*:')
# Above, the polygon that QuPath writes of an ellipse is as good, and not as long.
_LARGEST_EXACT_ELLIPSE_PX = 256

_SNIFFED_BYTES = 64 * 2**10
_JSON_NAMES = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
_T = TypeVar("_T")


def is_geojson(path: Path) -> bool:
    """Whether a .json file is GeoJSON with features, by its beginning.

    Raises:
        BenchError: If it is unreadable.
    """
    return bool(IS_GEOJSON.search(read_start(path)))


def read_geojson(path: Path) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Reads the areas of a GeoJSON file: a FeatureCollection, a list of features, or a feature.

    The class of an object is its classification in QuPath; else its name without the number at
    its end; else its type, such as ``detection``; else ``unclassified``. Coordinates are px of
    the full image from its corner, sections the z of QuPath's planes, 0 without. Of cells the
    outer border is taken. QuPath's ellipses are exact, as it reads them itself.

    Returns:
        The objects, and warnings: features without an area are left out.

    Raises:
        BenchError: If the file is unreadable, damaged or no such GeoJSON.
    """
    return parse_geojson(read_json(path), path)


def parse_geojson(document: Any, path: Path) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Returns what `read_geojson` reads of a file, from its document.

    Raises:
        BenchError: If it is no such GeoJSON.
    """
    objects, left_out = [], []
    for number, feature in enumerate(_find_features(document, path)):
        properties = expect(feature.get("properties") or {}, dict, "properties", path)
        kind, name = _name_feature(properties)
        name = name or read_name(feature.get("id")) or f"feature {number}"
        where = f"{path} ({name!r})"
        geometry = expect(feature.get("geometry") or {}, dict, "geometry", where)
        outlines, others = [], []
        for part in _flatten_geometry(geometry, where):
            found = _find_outlines(part, where)
            outlines += found
            others += [] if found else [show_value(part.get("type"))]
        if others or not outlines:
            kinds = tidy_name(", ".join(sorted(set(others))))
            left_out.append(f"{name!r} ({kinds or 'no geometry'})")
        if outlines:
            section = _find_section(geometry, where)
            objects.append(DrawnObject(name, kind, {section: tuple(outlines)}))
    return tuple(objects), warn_of_left_out(path, left_out)


def _find_features(document: Any, path: Path) -> list[dict[str, Any]]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        features = expect(document.get("features"), list, "features", path)
    elif kind == "Feature":
        features = [document]
    elif isinstance(document, list):
        features = document
    else:
        raise BenchError(
            f"{path} must be a FeatureCollection, a list of features or a feature, received "
            f"{show_value(kind or document)}: export it as GeoJSON again"
        )
    return [expect(feature, dict, "features", path) for feature in features]


def _name_feature(properties: dict[str, Any]) -> tuple[str, str]:
    name = read_name(properties.get("name"))
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names")  # of a class derived from another
        derived = ": ".join(map(read_name, names)) if isinstance(names, list) else ""
        classification = classification.get("name") or derived
    kinds = read_name(classification), class_of_name(name), read_name(properties.get("objectType"))
    return next(filter(None, kinds), UNCLASSIFIED), name


def _find_section(geometry: dict[str, Any], where: str) -> int:
    plane = expect(geometry.get("plane") or {}, dict, "plane", where)
    return max(expect(plane.get("z") or 0, int, "z", where), 0)


def _flatten_geometry(geometry: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yields the geometries of a collection, and of those in it; a single one is itself."""
    waiting = [geometry] if geometry else []
    while waiting:
        part = expect(waiting.pop(), dict, "geometries", where)
        if part.get("type") == "GeometryCollection":
            waiting += expect(part.get("geometries"), list, "geometries", where)[::-1]
        else:
            yield part


def _find_outlines(geometry: dict[str, Any], where: str) -> list[Outline]:
    """Returns the areas of a geometry; none where it is a point, a line or empty."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Polygon":
        polygons = [coordinates]
    elif kind == "MultiPolygon":
        polygons = expect(coordinates, list, "coordinates", where)
    else:
        return []
    outlines = []
    for polygon in polygons:
        rings = [_read_ring(ring, where) for ring in expect(polygon, list, "coordinates", where)]
        rings = [ring for ring in rings if len(ring) > 2]
        if len(rings) == 1 and geometry.get("isEllipse") is True:
            rings = [_find_ellipse(rings[0])]
        if rings:
            outlines.append(Outline(tuple(rings)))
    return outlines


def _find_ellipse(ring: np.ndarray) -> np.ndarray:
    """Returns the border of the pixels of the ellipse that a ring stands for."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    width, height = high - low
    if min(width, height) < SMALLEST_SIDE_PX or height > _LARGEST_EXACT_ELLIPSE_PX:
        return ring
    return oval_ring(low[0], low[1], width, height)


def _read_ring(corners: Any, where: str) -> np.ndarray:
    """Returns a ring (n, 2) without the repeated corner that closes it."""
    ring = read_numbers(expect(corners, list, "coordinates", where), where)
    if not ring.size:
        return np.empty((0, 2))
    if ring.ndim != 2 or ring.shape[1] < 2:
        raise BenchError(
            f"corners of {where} must be pairs of x and y, received {show_value(corners)}: "
            "export it again"
        )
    check_coordinates(ring, where)
    last = -1 if len(ring) > 1 and (ring[0] == ring[-1]).all() else None
    return ring[:last, :2]


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        BenchError: If it is unreadable, damaged, too large or nested too deeply.
    """
    return decode(path, lambda file: json.loads(_read_whole(file)), "JSON file")


def read_start(path: Path) -> bytes:
    """Reads the beginning of a file, to find out what it is.

    Raises:
        BenchError: If it is unreadable.
    """

    def read(file: Path) -> bytes:
        with file.open("rb") as content:
            return content.read(_SNIFFED_BYTES)

    return decode(path, read, "JSON file")


def _read_whole(path: Path) -> bytes:
    size = path.stat().st_size
    if size > ANNOTATION_BYTES:
        raise BenchError(
            f"{path} must have no more than {ANNOTATION_BYTES >> 20} MB, received {size >> 20}: "
            "export it in several files"
        )
    return path.read_bytes()


def expect(value: Any, kind: type[_T], what: str, where: Path | str) -> _T:
    """Returns a value of a document if it is of its type.

    Args:
        value: The value.
        kind: dict, list, str or int.
        what: What it is called, for the message.
        where: The file, and the object in it, for the message.

    Raises:
        BenchError: If it is of another type.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BenchError(
            f"{what} of {where} must be {_JSON_NAMES[kind]}, received {show_value(value)}: "
            "export it again"
        )
    return value


def read_name(value: Any) -> str:
    """Returns text or a number as a name; empty for anything else."""
    return tidy_name(str(value)) if isinstance(value, str | int | float) else ""


def read_numbers(values: list[Any], where: str) -> np.ndarray:
    """Returns numbers as an array.

    Raises:
        BenchError: If some are missing or are no numbers.
    """
    try:
        return np.asarray(values, dtype=float)
    except (ValueError, TypeError, OverflowError) as error:
        raise BenchError(
            f"numbers of {where} must be complete, received {show_value(values)}: export it again"
        ) from error


def show_value(value: Any) -> str:
    """Returns a value as it is written in a message, however large it is."""
    return tidy_name(reprlib.repr(value))
