"""Images without annotation: the sections that a model is applied to, or adapted on."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.files import describe_absence
from bench.core.hashing import json_sha256, path_sha256
from bench.core.memory import check_memory
from bench.core.names import natural_key
from bench.dataset.checks import check_finite
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.classes import parse_classes
from bench.ingest.foreign import refuse_foreign
from bench.ingest.images.containers import choose_raw, find_labels, is_container
from bench.ingest.images.formats import is_image, list_pages, read_header, read_plane, stem_of
from bench.ingest.images.headers import BOTTOM_FIRST, decode
from bench.ingest.layouts.folders import list_images
from bench.ingest.sources import SourceImage
from bench.ingest.tree import agree
from bench.words import AUTO

log = logging.getLogger(__name__)

# What a pixel of a section takes with its maps, labels and overlay: 12 measured on 7000 x 7000.
_BYTES_PER_PIXEL = 12


@dataclass(frozen=True, eq=False)
class Plane:
    """A section of an image file.

    Attributes:
        name: The file's name without its ending; in a stack, with ``_zNN``.
        path: The file.
        image: How it is read.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
    """

    name: str
    path: Path
    image: SourceImage
    pixel_size_nm: float | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.image.header.shape

    @property
    def bottom_first(self) -> bool:
        """Whether the first stored row is the one that 3dmod and Fiji show at the bottom."""
        return self.image.header.rows == BOTTOM_FIRST

    def read(self) -> np.ndarray:
        """Reads the pixels (y, x) at their depth, rows in the order stored.

        Raises:
            BenchError: If they cannot be read, are in colour, or not finite.
        """
        raw = self.image.read()
        check_finite(raw, str(self.path))
        return raw.astype(np.uint8) if raw.dtype == np.bool_ else raw


def list_planes(where: str, pixel_size_nm: float | None, raw_key: str = AUTO) -> list[Plane]:
    """Lists the sections of an image, a stack, a volume, or of a folder of these.

    Args:
        where: The file or folder.
        pixel_size_nm: Pixel size that the user gave; it goes before what files state.
        raw_key: The array of raw sections in HDF5 files and Zarr folders; ``auto`` finds it.

    Raises:
        BenchError: If there is nothing there, something in the folder is no image, or a file
            cannot be read.
    """
    planes: list[Plane] = []
    for path in _find_files(Path(where)):
        key = _choose_key(path, pixel_size_nm, raw_key)
        pages = list_pages(path.parent, path, key)
        digits = len(str(len(pages) - 1))
        for page, image in enumerate(pages):
            stem = stem_of(path)
            name = stem if len(pages) == 1 else f"{stem}_z{page:0{digits}}"
            planes.append(Plane(name, path, image, _choose_size(path, image, pixel_size_nm)))
    _check_names(planes)
    return planes


def _find_files(path: Path) -> list[Path]:
    if is_image(path):
        return [path]
    try:
        if path.exists():
            refuse_foreign(path)
        if path.is_dir():
            return _list_folder(path)
    except OSError as error:
        raise BenchError(
            f"input {path} must be readable, received {error.strerror!r}: give yourself permission"
        ) from error
    state = "a file of another kind" if path.exists() else describe_absence(path)
    raise BenchError(
        f"input must be an image (PNG, TIFF, JPEG, MRC, NIfTI, HDF5, Zarr) or a folder of images, "
        f"received {path}, {state}: correct the path, or convert the file"
    )


def _list_folder(path: Path) -> list[Path]:
    images = list_images(path, "images", is_image).values()
    return sorted(images, key=lambda file: natural_key(file.name))


def _choose_key(path: Path, pixel_size_nm: float | None, raw_key: str) -> str:
    if not is_container(path):
        return ""
    found = find_labels(path, parse_classes("all")) if raw_key == AUTO else {}
    return choose_raw(path, pixel_size_nm, [k for keys in found.values() for k in keys], raw_key)


def _choose_size(path: Path, image: SourceImage, option: float | None) -> float | None:
    """The pixel size of a section: the option's, else what its file states, else unknown."""
    sides = image.header.pixel_sides_nm
    if option is not None or sides is None:
        return option
    if not agree(*sides):
        raise BenchError(
            f"pixels of {path} must be square, received {sides[0]:g} x {sides[1]:g} nm: resample "
            "the image, or give -P pixel_size_nm=..."
        )
    return sides[0]


def _check_names(planes: list[Plane]) -> None:
    seen: dict[str, Path] = {}
    for plane in planes:
        if plane.name in seen:
            raise BenchError(
                f"each section must have a name of its own, received {plane.name} of "
                f"{seen[plane.name].name} and {plane.path.name}: rename a file"
            )
        seen[plane.name] = plane.path


def check_readable(planes: list[Plane]) -> None:
    """Reads a section of every file, so that a bad file ends the step before it begins.

    Raises:
        BenchError: If one cannot be read, or would not fit into the memory.
    """
    for plane in planes:
        height, width = plane.shape
        check_memory(
            height * width * _BYTES_PER_PIXEL,
            f"{plane.name} of {height} x {width} px",
            "cut it into pieces, or use a machine with more",
        )
    for plane in {plane.path: plane for plane in reversed(planes)}.values():
        plane.read()


def hash_planes(planes: list[Plane]) -> str:
    """Hash of the files, and of what is read from them."""
    # A stack has many planes.
    files = {path: path_sha256(path) for path in {plane.path for plane in planes}}
    return json_sha256([[plane.name, files[plane.path], plane.pixel_size_nm] for plane in planes])


@dataclass(frozen=True, eq=False)
class UnlabelledImage:
    """An image.

    Attributes:
        name: Its file's name, or that of its section.
        pixels: Grey values (y, x), at the depth of its file.
        pixel_size_nm: Edge of a pixel in nm; None where that is not known.
    """

    name: str
    pixels: np.ndarray
    pixel_size_nm: float | None


def read_unlabelled(where: str, dataset: PreparedDataset) -> list[UnlabelledImage]:
    """Reads unlabelled images into memory.

    Args:
        where: Folders or files of images, comma-separated; ``auto`` takes the
            dataset's montages, or the raw images of its training sections where it has none.
        dataset: The dataset. An image whose file does not state its pixel size counts as having
            the dataset's: it shows the same tissue.

    Raises:
        BenchError: If something named is not there, or is no image.
    """
    size_nm = dataset.pixel_size_nm
    if where == AUTO:
        names = dataset.unlabelled() or dataset.sections("train")
        return [UnlabelledImage(name, dataset.read_raw(name), size_nm) for name in names]
    images = []
    for path in _find_unlabelled(where):
        header = read_header(path)
        for note in filter(None, (*header.notes, header.size_note)):
            log.warning("%s: %s", path.name, note)
        stated_nm = header.pixel_sides_nm[0] if header.pixel_sides_nm else size_nm
        for page in range(header.pages):
            images.append(UnlabelledImage(path.name, read_plane(path, page), stated_nm))
    return images


def hash_unlabelled(where: str, dataset: PreparedDataset) -> str:
    """Hashes what ``read_unlabelled`` reads, whatever it is called and wherever it lies."""
    if where == AUTO:
        return json_sha256(["train", dataset.content_hash])
    return json_sha256([decode(path, path_sha256) for path in _find_unlabelled(where)])


def _find_unlabelled(where: str) -> list[Path]:
    """Finds the image files of a comma-separated list, those of a folder in natural order."""
    found: list[Path] = []
    for path in (Path(part.strip()) for part in where.split(",") if part.strip()):
        if is_image(path):
            found.append(path)
        elif path.is_dir():
            found += _list_folder(path)
        else:
            state = "a file of another kind" if path.exists() else describe_absence(path)
            raise BenchError(
                f"unlabelled must name folders or files of images, received {path}, "
                f"{state}: correct the path, or use unlabelled=auto"
            )
    if not found:
        raise BenchError(
            f"unlabelled must name a folder, received {where!r}: use unlabelled=auto for the "
            "training sections"
        )
    return found
