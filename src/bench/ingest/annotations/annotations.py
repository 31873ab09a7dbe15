"""Annotation files: the objects in them, and their labels on the sections of an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.errors import BenchError
from bench.ingest.annotations.coco import is_coco
from bench.ingest.annotations.coco_images import find_coco_image
from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.annotations.geojson import is_geojson, read_geojson
from bench.ingest.annotations.imod import read_model
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.annotations.zips import read_zip
from bench.ingest.images.formats import MRC_SUFFIXES
from bench.ingest.images.headers import ImageHeader
from bench.ingest.images.mrc import read_geometry
from bench.ingest.sources import SourceImage


@dataclass(frozen=True, eq=False)
class Annotation:
    """The objects drawn over an image.

    Attributes:
        objects: The objects, in the coordinates of the image.
        warnings: What was left out of the file.
        size: Height and width in px of the image that the file is about; None where it does not
            say them.
    """

    objects: tuple[DrawnObject, ...]
    warnings: tuple[str, ...]
    size: tuple[int, int] | None = None


def _read_json(path: Path, image: Path) -> Annotation:
    if is_geojson(path):
        return Annotation(*read_geojson(path))
    if is_coco(path):
        return _read_coco_of(path, image)
    raise BenchError(
        f"{path} must be COCO or GeoJSON, received JSON of another kind: export it as one of them"
    )


def _read_coco_of(path: Path, image: Path) -> Annotation:
    found, warnings = find_coco_image(path, image)
    return Annotation(found.objects, warnings, found.size)


def _read_imod(path: Path, image: Path) -> Annotation:
    """Reads an IMOD model; over a stack that is not MRC it counts in px of the stack."""
    geometry = read_geometry(image) if image.suffix.lower() in MRC_SUFFIXES else None
    model = read_model(path, geometry)
    # A model of another MRC is placed by what both say of space.
    return Annotation(model.objects, model.warnings, None if geometry else model.size)


# From an annotation file and its image to the objects, by the ending of the file's name.
ANNOTATION_FORMATS: dict[str, Callable[[Path, Path], Annotation]] = {
    ".roi": lambda path, _: Annotation(*read_rois(path)),
    ".zip": lambda path, _: Annotation(*read_zip(path)),
    ".mod": _read_imod,
    ".geojson": lambda path, _: Annotation(*read_geojson(path)),
    ".json": _read_json,
}


def is_annotation(path: Path) -> bool:
    """Whether a path looks like an annotation file."""
    return path.suffix.lower() in ANNOTATION_FORMATS and path.is_file()


def read_annotation(path: Path, image: Path) -> Annotation:
    """Reads the objects drawn over an image.

    Args:
        path: The annotation file.
        image: The image, whose geometry IMOD's models refer to.

    Raises:
        BenchError: If the file cannot be read, or is about other images.
    """
    return ANNOTATION_FORMATS[path.suffix.lower()](path, image)


def draw_pages(
    objects: Sequence[DrawnObject], pages: Sequence[SourceImage], files: dict[str, Path]
) -> list[SourceImage]:
    """The labels of a structure on the sections of an image.

    Args:
        objects: Its objects; the id of one is its place among them, in every section.
        pages: The image's sections.
        files: Where the objects come from, as in `SourceImage`.
    """
    return [drawn_image(objects, page.page, page.header.shape, (0, 0), files) for page in pages]


def drawn_image(
    objects: Sequence[DrawnObject],
    section: int,
    shape: tuple[int, int],
    origin: tuple[float, float],
    files: dict[str, Path],
) -> SourceImage:
    """The labels of a structure on one section, drawn when they are read.

    Args:
        objects: Its objects.
        section: The section's number in the coordinates of the objects.
        shape: Height and width of the image in px.
        origin: x and y of the image's corner in the coordinates of the objects.
        files: Where the objects come from, as in `SourceImage`.
    """
    draw = partial(draw_labels, objects, section, shape, origin=origin)
    header = ImageHeader(shape, 1, None)
    return SourceImage(files, section, header, lambda: draw().labels, ids=True, drawn=draw)
