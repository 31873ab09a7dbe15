"""The image formats: how the sections of each are listed and read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.ingest.images import hdf5, images, mrc, zarr_arrays
from bench.ingest.images.headers import ImageHeader
from bench.ingest.images.nifti.sections import NIFTI_SUFFIXES, read_nifti_header, read_nifti_plane
from bench.ingest.sources import SourceImage


@dataclass(frozen=True)
class _ImageFormat:
    """How a format is read: from file, section, and name of the array in it (empty: the only)."""

    read_header: Callable[[Path, str], ImageHeader]
    read_plane: Callable[[Path, int, str], np.ndarray]


MRC_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")
ARRAY_SUFFIXES = (".h5", ".hdf", ".hdf5", ".zarr")

_PLAIN = _ImageFormat(
    lambda path, _: images.read_header(path), lambda path, page, _: images.read_section(path, page)
)
_PLAIN_SUFFIXES = (".png", ".tif", ".tiff", *images.JPEG_SUFFIXES)
_MRC = _ImageFormat(mrc.read_header, mrc.read_plane)
_NIFTI = _ImageFormat(read_nifti_header, read_nifti_plane)
_HDF5 = _ImageFormat(hdf5.read_header, hdf5.read_plane)
_ZARR = _ImageFormat(zarr_arrays.read_header, zarr_arrays.read_plane)

_IMAGE_FORMATS: dict[str, _ImageFormat] = {
    **dict.fromkeys(_PLAIN_SUFFIXES, _PLAIN),
    **dict.fromkeys(MRC_SUFFIXES, _MRC),
    **dict.fromkeys(NIFTI_SUFFIXES, _NIFTI),
    ".h5": _HDF5,
    ".hdf": _HDF5,
    ".hdf5": _HDF5,
    ".zarr": _ZARR,
}


def is_image(path: Path) -> bool:
    """Whether a path looks like an image: a file, or a folder for Zarr."""
    ending = _ending_of(path)
    return ending in _IMAGE_FORMATS and path.is_dir() == (ending == ".zarr")


def _ending_of(path: Path) -> str:
    """The ending of a name in lower case, by which its format is known."""
    endings = (ending for ending in NIFTI_SUFFIXES if path.name.lower().endswith(ending))
    return next(endings, path.suffix.lower())


def stem_of(path: Path) -> str:
    """The name of an image without its ending: a of ``a.ome.tif``, ``a.ome.zarr``, ``a.nii.gz``."""
    ending = _ending_of(path)
    return path.name[: len(path.name) - len(ending)].removesuffix(".ome")


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads what an image file of any format says of its sections.

    Raises:
        BenchError: If it cannot be read.
    """
    return _IMAGE_FORMATS[_ending_of(path)].read_header(path, key)


def read_plane(path: Path, page: int = 0, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an image file of any format, as it is stored.

    Raises:
        BenchError: If it cannot be read.
    """
    return _IMAGE_FORMATS[_ending_of(path)].read_plane(path, page, key)


def list_pages(root: Path, path: Path, key: str = "", *, labels: bool = False) -> list[SourceImage]:
    """Lists the sections of an image file; reads no pixels.

    Args:
        root: The folder that names are relative to.
        path: The file, in the folder.
        key: The array in it; empty for the only one.
        labels: Whether it is a label image, the values of which must be what was painted.

    Raises:
        BenchError: If it cannot be read, or labels are compressed with loss.
    """
    files = {path.relative_to(root).as_posix(): path}
    if labels and path.suffix.lower() in _PLAIN_SUFFIXES:
        header = images.read_header(path, labels=True)
        read = [
            partial(images.read_section, path, page, labels=True) for page in range(header.pages)
        ]
    else:
        header = read_header(path, key)
        read = [partial(read_plane, path, page, key) for page in range(header.pages)]
    if path.suffix.lower() == ".zarr":
        gaps = zarr_arrays.note_gaps(path, key, labels=labels)
        header = replace(header, notes=(*header.notes, *gaps))
    return [SourceImage(files, page, header, each) for page, each in enumerate(read)]
