"""What the header of a NIfTI file says: where its voxels lie, and what they are."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.errors import BenchError
from bench.ingest.images.axes import MOST_SECTIONS
from bench.ingest.images.limits import check_decoded_size

# The header of version 1 has 348 bytes, that of version 2 has 540. What may follow is not read.
_HEADER_BYTES = (348, 540)
_MAGIC = {348: b"n+1", 540: b"n+2"}
_UNITS_NM = {"meter": 1e9, "mm": 1e6, "micron": 1e3}


@dataclass(frozen=True)
class NiftiLayout:
    """Where the voxels of a file lie, and what they are.

    Attributes:
        shape: Voxels along z, y, x.
        dtype: Their type, in the byte order of the file.
        start: Bytes before the first one, unpacked.
        slope: What a stored number is multiplied by; 1 in most files.
        intercept: What is added to it then; 0 in most files.
        sides: Sides of a voxel along z, y, x, in the file's unit.
        unit_nm: That unit in nm; None where it states none.
        axes: Where x, y, z run in a body, such as LPS; empty where the file does not say it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    start: int
    slope: float
    intercept: float
    sides: tuple[float, float, float]
    unit_nm: float | None
    axes: str

    @property
    def plane_bytes(self) -> int:
        """Bytes of a section."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def read_layout(path: Path, file: IO[bytes], *, packed: bool) -> NiftiLayout:
    """Reads and checks the header; extensions, whose sizes a file states itself, are left.

    Args:
        path: The file.
        file: Its bytes, unpacked.
        packed: Whether they are packed in the file.

    Raises:
        BenchError: If it is no such header, or of voxels that cannot be read.
    """
    header = _load_nifti_header(path, file.read(max(_HEADER_BYTES)))
    shape = _find_shape(path, header)
    dtype = _find_dtype(path, header)
    size = math.prod(shape) * dtype.itemsize
    start = max(int(header["vox_offset"]), int(header["sizeof_hdr"]) + 4)
    stored = path.stat().st_size
    if packed:
        check_decoded_size(path, size + start, stored)
    elif start + size > stored:
        raise BenchError(
            f"{path} must hold the voxels of {' x '.join(map(str, shape[::-1]))} that its header "
            f"states, received {max(0, stored - start)} bytes of {size}: copy it again"
        )
    slope, intercept = header.get_slope_inter()
    return NiftiLayout(
        shape=shape,
        dtype=dtype,
        start=start,
        slope=1.0 if slope is None else float(slope),
        intercept=float(intercept or 0.0),
        sides=_find_voxel_sides(header),
        unit_nm=_UNITS_NM.get(header.get_xyzt_units()[0]),
        axes=_find_axis_codes(header),
    )


def _load_nifti_header(path: Path, content: bytes) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    stated = (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
    size = next((size for size in _HEADER_BYTES if size in stated), 0)
    if not size or len(content) < size:
        raise BenchError(
            f"{path} must begin with a header of NIfTI (348 or 540 bytes), received something "
            "else: save it again as NIfTI"
        )
    kind: Any = Nifti1Header if size == 348 else Nifti2Header
    header = kind(content[:size], check=False)
    magic = bytes(header["magic"])[:3]
    if magic != _MAGIC[size]:
        raise BenchError(
            f"{path} must hold header and voxels in one file ({_MAGIC[size]!r}), received "
            f"{magic!r}: save pairs of .hdr and .img as .nii"
        )
    return header


def _find_shape(path: Path, header: Any) -> tuple[int, int, int]:
    count = int(header["dim"][0])
    sides = [int(side) for side in header["dim"][1 : 1 + max(0, min(count, 7))]]
    x, y, z = [*sides, 1, 1, 1][:3]
    if not 2 <= count <= 7 or min(sides) < 1 or max(x, y, z) > MOST_SECTIONS:
        raise BenchError(
            f"{path} must have 1 to {MOST_SECTIONS} voxels along x, y and z, received "
            f"{' x '.join(map(str, sides)) or 'none'}: save it again"
        )
    if math.prod(sides[3:]) > 1:
        raise BenchError(
            f"{path} must hold one volume, received {math.prod(sides[3:])} (times or channels): "
            "save the one to take as a file of its own"
        )
    return z, y, x


def _find_dtype(path: Path, header: Any) -> np.dtype:
    dtype: np.dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BenchError(
            f"{path} must hold integers or real numbers of up to 64 bits, received "
            f"{'colour' if dtype.names else dtype}: convert it"
        )
    return dtype


def _has_affine(header: Any) -> bool:
    return bool(int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0)


def _find_voxel_sides(header: Any) -> tuple[float, float, float]:
    """Sides of a voxel along z, y, x: lengths of the affine's columns, else the header's own."""
    sides = [float(side) for side in header["pixdim"][1:4]]
    if _has_affine(header):
        sides = np.linalg.norm(header.get_best_affine()[:3, :3], axis=0).tolist()
    return sides[2], sides[1], sides[0]


def _find_axis_codes(header: Any) -> str:
    from nibabel.orientations import aff2axcodes

    if not _has_affine(header) or not np.isfinite(header.get_best_affine()).all():
        return ""
    return "".join(code or "?" for code in aff2axcodes(header.get_best_affine()))
