"""Reads annotation of many images in one file, as the COCO data set has it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.annotations.drawing import (
    LARGEST_COORDINATE_PX,
    DrawnObject,
    Outline,
    Painted,
    check_coordinates,
)
from bench.ingest.annotations.geojson import (
    IS_GEOJSON,
    expect,
    read_json,
    read_name,
    read_numbers,
    read_start,
    show_value,
)
from bench.ingest.classes import UNCLASSIFIED, tidy_name, warn_of_left_out
from bench.ingest.images.limits import check_decoded_size

_IS_COCO = re.compile(rb'^\s*\{.*"(images|annotations|categories)"\s*:', re.DOTALL)
# A compressed number is characters from "0" on, of six bits each: five of the number, the lowest
# first, and one that says whether more follow. Seven hold more than any image has pixels.
_LARGEST_COUNT = LARGEST_COORDINATE_PX**2
_FIRST_CHARACTER, _MOST_CHARACTERS = 48, 7


@dataclass(frozen=True)
class _ListedImage:
    """An image that a file annotates: its name, and height and width in px where they are given."""

    file_name: str
    shape: tuple[Any, Any]


@dataclass(frozen=True)
class CocoImage:
    """What a file holds of an image.

    Attributes:
        objects: The objects drawn over it.
        size: Its height and width in px; None where the file does not say them.
    """

    objects: tuple[DrawnObject, ...]
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoFile:
    """What a file holds.

    Attributes:
        images: Its images by ``file_name``, spelt as in the file.
        warnings: What is left out, or taken otherwise than it may be meant.
    """

    images: dict[str, CocoImage]
    warnings: tuple[str, ...]


@dataclass
class _PaintedPixels:
    """How many pixels were painted by the annotation of a file, which may not be too many."""

    path: Path
    count: int = 0

    def add(self, count: int) -> None:
        self.count += count
        check_decoded_size(self.path, self.count, self.path.stat().st_size)


def is_coco(path: Path) -> bool:
    """Whether a .json file is COCO, by its beginning.

    Raises:
        BenchError: If it is unreadable.
    """
    start = read_start(path)
    return bool(_IS_COCO.search(start)) and not IS_GEOJSON.search(start)


def read_coco(path: Path) -> CocoFile:
    """Reads the objects of a COCO file by image.

    Images without objects are there too. The class is the category's name. Polygons of an object
    are united and have the pixels whose centres they contain; pycocotools draws on a finer grid
    and differs at the border. Runs of pixels are taken as they are. All sections are 0.

    Returns:
        What it holds; annotation that is only a box is left out, and a crowd is one object.

    Raises:
        BenchError: If the file is unreadable, damaged or no such JSON, or if annotation is of no
            image or category of it.
    """
    document = expect(read_json(path), dict, "content", path)
    images = _index_images(document, path)
    categories = _index_categories(document, path)
    objects: dict[str, list[DrawnObject]] = {image.file_name: [] for image in images.values()}
    sizes = {image.file_name: _stated_size(image.shape) for image in images.values()}
    left_out, crowds, painted = [], [], _PaintedPixels(path)
    for item in _list_items(document, "annotations", path):
        name = f"annotation {read_name(item.get('id'))}"
        where = f"{path} ({name})"
        image = _look_up(images, item, "image_id", where)
        kind = _look_up(categories, item, "category_id", where) if categories else UNCLASSIFIED
        shapes = _find_shapes(item.get("segmentation"), image, painted, where)
        if not shapes:
            left_out.append(name)
            continue
        if item.get("iscrowd") == 1:
            crowds.append(name)
        if isinstance(item["segmentation"], dict) and sizes[image.file_name] is None:
            sizes[image.file_name] = _stated_size(item["segmentation"]["size"])
        objects[image.file_name].append(DrawnObject(name, kind, {0: shapes}))
    warnings = warn_of_left_out(path, left_out)
    if crowds:
        warnings += (f"{path}: {len(crowds)} crowds are one object each: {first_names(crowds)}",)
    found = {name: CocoImage(tuple(items), sizes[name]) for name, items in objects.items()}
    return CocoFile(found, warnings)


def _stated_size(sides: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width if they are an image's; programs write 0 or nothing for unknown ones."""
    height, width = sides
    known = type(height) is int and type(width) is int and min(height, width) > 0
    return (height, width) if known else None


def _list_items(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    return [expect(item, dict, key, path) for item in expect(document.get(key), list, key, path)]


def _index_images(document: dict[str, Any], path: Path) -> dict[Any, _ListedImage]:
    images: dict[Any, _ListedImage] = {}
    names = set()
    for item in _list_items(document, "images", path):
        name = expect(item.get("file_name"), str, "file_name", path)
        if not name.isprintable() or name in names:
            raise BenchError(
                f"file_name of every image of {path} must be text of its own, received "
                f"{show_value(name)}: rename it"
            )
        names.add(name)
        images[_new_id(images, item, "images", path)] = _ListedImage(
            name, (item.get("height"), item.get("width"))
        )
    return images


def _index_categories(document: dict[str, Any], path: Path) -> dict[Any, str]:
    categories: dict[Any, str] = {}
    if document.get("categories") is not None:
        for item in _list_items(document, "categories", path):
            name = tidy_name(expect(item.get("name"), str, "name", path))
            categories[_new_id(categories, item, "categories", path)] = name or UNCLASSIFIED
    return categories


def _new_id(table: dict[Any, Any], item: dict[str, Any], key: str, path: Path) -> int | str:
    identifier = item.get("id")
    if not isinstance(identifier, int | str) or identifier in table:
        raise BenchError(
            f"every id in {key} of {path} must be a number or text of its own, received "
            f"{show_value(identifier)}: export it again"
        )
    return identifier


def _look_up(table: dict[Any, Any], item: dict[str, Any], key: str, where: str) -> Any:
    identifier = item.get(key)
    if not isinstance(identifier, int | str) or identifier not in table:
        raise BenchError(
            f"{key} of {where} must be an id that the file lists, received "
            f"{show_value(identifier)}: export it with all images and categories"
        )
    return table[identifier]


def _find_shapes(
    segmentation: Any, image: _ListedImage, painted: _PaintedPixels, where: str
) -> tuple[Outline | Painted, ...]:
    """Returns the polygons or the pixels of an annotation; none where it has no area."""
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, image, painted, where)
    outlines = []
    for polygon in expect(segmentation or [], list, "segmentation", where):
        numbers = read_numbers(expect(polygon, list, "segmentation", where), where)
        if numbers.ndim != 1 or numbers.size % 2:
            raise BenchError(
                f"polygons of {where} must be lists of x, y, x, y and so on, received "
                f"{show_value(polygon)}: export it again"
            )
        check_coordinates(numbers, where)
        if numbers.size > 4:
            outlines.append(Outline((numbers.reshape(-1, 2),)))
    return tuple(outlines)


def _decode_runs(
    runs: dict[str, Any], image: _ListedImage, painted: _PaintedPixels, where: str
) -> tuple[Painted, ...]:
    """Returns the pixels of runs down the columns of an image, background and object in turn.

    Nothing is handed to the decoder in C of pycocotools, which trusts them.
    """
    height, width = _read_size(runs.get("size"), image, where)
    counts = _read_counts(runs.get("counts"), where)
    # None alone may be so large that sums overflow unseen.
    fitting = ((counts >= 0) & (counts <= height * width)).all()
    ends = np.cumsum(counts)
    if not fitting or ((ends < 0) | (ends > height * width)).any():
        raise BenchError(
            f"runs of {where} must be pixels of an image of {width} x {height} px, received "
            f"{show_value(runs.get('counts'))}: export it again"
        )
    starts, ends = ends[:-1:2], ends[1::2]
    filled = starts < ends
    return _paint_runs(starts[filled], ends[filled], height, painted)


def _read_size(size: Any, image: _ListedImage, where: str) -> tuple[int, int]:
    sides = expect(size, list, "size", where)
    given = [own for own in image.shape if own is not None]
    if (
        len(sides) != 2
        or not all(isinstance(n, int) and 0 < n <= LARGEST_COORDINATE_PX for n in sides)
        or (len(given) == 2 and given != sides)
    ):
        raise BenchError(
            f"size of {where} must be height and width of its image, received "
            f"{show_value(size)} where the image has {show_value(image.shape)}: export it again"
        )
    return sides[0], sides[1]


def _read_counts(counts: Any, where: str) -> np.ndarray:
    if isinstance(counts, str):
        return _decompress(counts, where)
    numbers = read_numbers(expect(counts, list, "counts", where), where)
    whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= _LARGEST_COUNT)
    if numbers.ndim != 1 or not whole.all():
        raise BenchError(
            f"counts of {where} must be whole numbers, received {show_value(counts)}: "
            "export it again"
        )
    return numbers.astype(np.int64)


def _decompress(text: str, where: str) -> np.ndarray:
    """Lengths of runs: from the fourth on, a number is the difference to the last but one."""
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)
    codes -= _FIRST_CHARACTER
    last = (codes & 32) == 0
    firsts = np.flatnonzero(np.concatenate([[True], last[:-1]])) if codes.size else codes
    lengths = np.diff(np.append(firsts, codes.size))
    if (
        ((codes < 0) | (codes > 63)).any()
        or (codes.size and not last[-1])
        or (lengths > _MOST_CHARACTERS).any()
    ):
        raise BenchError(
            f"counts of {where} must be runs as pycocotools compresses them, received "
            f"{show_value(text)}: export it again"
        )
    if not codes.size:
        return codes
    places = np.arange(codes.size) - np.repeat(firsts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * places), firsts)
    numbers -= np.where(codes[last] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _paint_runs(
    starts: np.ndarray, ends: np.ndarray, height: int, painted: _PaintedPixels
) -> tuple[Painted, ...]:
    """Paints the pixels of runs, no larger than the box around them."""
    if not starts.size:
        return ()
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    top, bottom = 0, height
    if (starts // height == (ends - 1) // height).all():
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    rows, columns = bottom - top, right - left
    painted.add(rows * columns)
    flips = np.zeros(rows * columns + 1, np.uint8)
    for pixels, after in ((starts, 0), (ends - 1, 1)):
        places = (pixels // height - left) * rows + pixels % height - top + after
        np.bitwise_xor.at(flips, places, 1)
    np.bitwise_xor.accumulate(flips, out=flips)
    return (Painted(top, left, flips[:-1].view(bool).reshape(columns, rows).T),)
