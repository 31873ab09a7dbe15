"""Files of one image each, a section or a volume, written plane by plane: TIFF, MRC, HDF5."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from bench.core.files import write_whole
from bench.errors import BenchError
from bench.export.label_images import write_tiff_planes
from bench.export.mrc import mrc_type, write_mrc_planes
from bench.words import HDF5, MRC, TIFF, UNKNOWN_DISTANCE

_LARGEST_MRC_ID = np.iinfo(np.uint16).max
_HDF5_CHUNK_PX = 256


@dataclass(frozen=True)
class ImageGeometry:
    """Size and scale of an image.

    Attributes:
        shape: (y, x) of a section, (z, y, x) of a volume.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        section_nm: Distance of two planes in nm; None where it is not known, or of a section.
        origin_nm: Where the first voxel lies, as z, y, x; None where it is 0 or not known.
    """

    shape: tuple[int, ...]
    pixel_size_nm: float | None
    section_nm: float | None = None
    origin_nm: tuple[float, float, float] | None = None

    @property
    def sides_nm(self) -> tuple[float, ...]:
        """Edges of a voxel for each axis; empty where they are not known."""
        inside = (self.pixel_size_nm,) * 2
        sides = inside if len(self.shape) == 2 else (self.section_nm, *inside)
        known = tuple(side for side in sides if side is not None)
        return known if len(known) == len(sides) else ()


# From the file, the planes (y, x), their type, and the geometry.
_Write = Callable[[Path, Iterable[np.ndarray], np.dtype, ImageGeometry], None]


def write_image_file(
    format: str,
    stem: Path,
    planes: Iterable[np.ndarray],
    dtype: np.dtype,
    geometry: ImageGeometry,
) -> None:
    """Writes an image; there is the old file or the whole new one.

    Args:
        format: ``tiff``, ``mrc`` or ``hdf5``.
        stem: The file without its ending.
        planes: Its planes (y, x), one of a section.
        dtype: Their type, which all have.
        geometry: Its size and scale.

    Raises:
        BenchError: If the format has no such numbers.
    """
    suffix, write = _WRITERS[format]
    # Names of sections have dots.
    write(stem.with_name(stem.name + suffix), planes, dtype, geometry)


def _write_tiff(
    path: Path, planes: Iterable[np.ndarray], dtype: np.dtype, geometry: ImageGeometry
) -> None:
    write_tiff_planes(
        *(path, planes, geometry.shape, dtype),
        pixel_size_nm=geometry.pixel_size_nm,
        section_nm=geometry.section_nm,
    )


def _write_mrc(
    path: Path, planes: Iterable[np.ndarray], dtype: np.dtype, geometry: ImageGeometry
) -> None:
    """Ids that MRC cannot number end it; grey values that it has no type for become real."""
    if dtype == np.uint32:
        raise BenchError(
            f"ids of an MRC must be at most {_LARGEST_MRC_ID}, received larger ones for "
            f"{path.name}: choose format=tiff, ome_zarr or hdf5"
        )
    side = geometry.pixel_size_nm
    write_mrc_planes(
        *(path, planes, geometry.shape, mrc_type(dtype)),
        voxel_nm=None if side is None else (geometry.section_nm or side, side, side),
        origin_nm=geometry.origin_nm,
        labels=() if geometry.section_nm or len(geometry.shape) == 2 else (UNKNOWN_DISTANCE,),
    )


def _write_hdf5(
    path: Path, planes: Iterable[np.ndarray], dtype: np.dtype, geometry: ImageGeometry
) -> None:
    """Writes an array ``data`` in chunks of a plane, with the attribute ``resolution`` in nm."""

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            sides = [min(_HDF5_CHUNK_PX, side) for side in geometry.shape[-2:]]
            chunks = (1, *sides)[-len(geometry.shape) :]
            data = file.create_dataset(
                "data", geometry.shape, dtype, chunks=chunks, compression="gzip", compression_opts=1
            )
            if geometry.sides_nm:
                data.attrs["resolution"] = geometry.sides_nm
            for z, plane in enumerate(planes):
                data[z if len(geometry.shape) == 3 else ...] = plane

    write_whole(path, write)


# By the name of the format: the ending of its files, and what writes one.
_WRITERS: dict[str, tuple[str, _Write]] = {
    TIFF: (".tif", _write_tiff),
    MRC: (".mrc", _write_mrc),
    HDF5: (".h5", _write_hdf5),
}
