"""Reads sections of an MRC file: .mrc, .rec, .map, .st, .ali."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from bench.errors import BenchError
from bench.ingest.images.axes import MOST_SECTIONS
from bench.ingest.images.headers import (
    BOTTOM_FIRST,
    DISPUTED,
    ImageHeader,
    decode,
    may_be_pixel,
)
from bench.words import UNKNOWN_DISTANCE

# Modes of real numbers; 3 and 4 are complex, 16 is colour, 101 has two pixels in a byte.
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "complex", 4: "complex", 16: "colour", 101: "4-bit"}
_NM_PER_ANGSTROM = 0.1

# What programs write that know no size; no section has pixels of exactly that.
_DEFAULT_SPACING = (1.0, 1.0)
_DEFAULT_NOTE = (
    "states voxels of exactly 1 Angstrom, as programs do that do not know the size: it is taken as "
    "unknown"
)

# IMOD marks its files in a part of the header that the standard leaves free.
_IMOD_STAMP = int.from_bytes(b"IMOD", "little")
_IMOD_STAMP_AT, _IMOD_FLAGS_AT = 40, 44  # in the field extra2
_SIGNED_FLAG, _INVERTED_ORIGIN_FLAG, _HALF_BYTES_FLAG = 1, 4, 16
_STANDARD_OF_2014 = 20140
_FEI, _INVERTED_ROWS = b"FEI", -2


@dataclass(frozen=True)
class MrcGeometry:
    """Where the voxels of a stack lie, each as x, y, z of the array.

    Attributes:
        size: Voxels along each axis.
        spacing: Sides of a voxel in Angstrom; 0 where the file does not say it.
        origin: The header's origin in Angstrom with IMOD's sign: a part that was cut out has
            a negative one.
        inverted: Whether 3dmod counts y from the last stored row, not from the first; None where
            that depends on its version.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    inverted: bool | None = False


def read_header(path: Path, key: str = "") -> ImageHeader:
    """Reads size, number of sections and pixel size of an MRC file.

    Args:
        path: The file.
        key: Must be empty, as the file holds a single array.

    Raises:
        BenchError: If the file is damaged, its pixels are missing, or complex, in colour or of
            4 bits.
    """
    _check_key(path, key)
    geometry = read_geometry(path)
    width, height, pages = geometry.size
    x_nm, y_nm, z_nm = (_NM_PER_ANGSTROM * side for side in geometry.spacing)
    default = geometry.spacing[:2] == _DEFAULT_SPACING
    known = may_be_pixel((x_nm, y_nm)) and not default
    # Unless it was changed since.
    stated = x_nm != z_nm or not has_label(path, UNKNOWN_DISTANCE)
    return ImageHeader(
        shape=(height, width),
        pages=pages,
        pixel_sides_nm=(_round_side(y_nm), _round_side(x_nm)) if known else None,
        section_nm=_round_side(z_nm) if known and stated and pages > 1 and z_nm > 0 else None,
        rows=BOTTOM_FIRST if geometry.inverted is False else DISPUTED,
        size_note=_DEFAULT_NOTE if default else "",
        origin_nm=_origin_nm(geometry),
    )


def read_plane(path: Path, page: int, key: str = "") -> np.ndarray:
    """Reads a section (y, x) of an MRC file at its stored depth.

    Rows are in the order stored, which 3dmod and Fiji show from the bottom up; where y of a contour
    counts from is `MrcGeometry.inverted`.

    Args:
        path: The file.
        page: Which section, from 0.
        key: Must be empty.

    Raises:
        BenchError: As for `read_header`, or if there is no such section.
    """
    _check_key(path, key)

    def read(file: Path) -> np.ndarray:
        header = _load_header(file)
        dtype, start = _check_pixels(file, header)
        width, height, pages = _sizes(header)
        if not 0 <= page < pages:
            raise BenchError(
                f"section must be 0 to {pages - 1} in {path}, received {page}: correct the section"
            )
        start += page * width * height * dtype.itemsize
        pixels = np.fromfile(file, dtype, width * height, offset=start).reshape(height, width)
        return pixels.astype(dtype.newbyteorder("="), copy=False)

    return decode(path, read, "MRC file")


def read_geometry(path: Path) -> MrcGeometry:
    """Reads where the voxels of an MRC file lie.

    Raises:
        BenchError: As for `read_header`.
    """

    def read(file: Path) -> MrcGeometry:
        header = _load_header(file)
        _check_pixels(file, header)
        cell = [float(header["cella"][name]) for name in "xyz"]
        intervals = [int(header[name]) for name in ("mx", "my", "mz")]
        spacing = [
            side / count if count > 0 and 0 < side < math.inf else 0.0
            for side, count in zip(cell, intervals, strict=True)
        ]
        sign = -1.0 if _origin_is_inverted(header) else 1.0
        origin = [sign * float(header["origin"][name]) for name in "xyz"]
        # Which of x, y, z columns, rows and sections run along.
        axes = [int(header[name]) - 1 for name in ("mapc", "mapr", "maps")]
        x, y, z = axes if sorted(axes) == [0, 1, 2] else [0, 1, 2]
        return MrcGeometry(
            _sizes(header),
            (spacing[x], spacing[y], spacing[z]),
            (origin[x], origin[y], origin[z]),
            _is_inverted(header),
        )

    return decode(path, read, "MRC file")


def _origin_nm(geometry: MrcGeometry) -> tuple[float, float, float] | None:
    """The origin as z, y, x with the standard's sign; None where it is 0 or no number."""
    # Not -0.0, which a header would keep.
    x, y, z = (0.0 - _NM_PER_ANGSTROM * value for value in geometry.origin)
    return (z, y, x) if any((z, y, x)) and all(map(math.isfinite, (z, y, x))) else None


def has_label(path: Path, text: str) -> bool:
    """Whether a label of a file's header has a text in it.

    Raises:
        BenchError: If the file is damaged.
    """

    def read(file: Path) -> bool:
        return text.encode() in _load_header(file)["label"].tobytes()

    return decode(path, read, "MRC file")


def _check_key(path: Path, key: str) -> None:
    if key:
        raise BenchError(f"{path} holds a single array, received key {key!r}: leave the key out")


def _load_header(path: Path) -> np.void:
    """Loads the header in the byte order in which its mode makes sense.

    The machine stamp, which should say it, is wrong in many files.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_DTYPE.itemsize)
    if len(content) < HEADER_DTYPE.itemsize:
        raise ValueError(f"{len(content)} bytes are shorter than a header")
    headers = [np.frombuffer(content, HEADER_DTYPE.newbyteorder(order))[0] for order in "<>"]
    headers = [h for h in headers if int(h["mode"]) in _DTYPES | _OTHER_MODES and h["nx"] > 0]
    if not headers:
        raise ValueError("no MRC header")
    # Mode 0 is the same either way, but a width in the wrong order is beyond 65535.
    header: np.void = min(headers, key=lambda header: int(header["nx"]))
    return header


def _sizes(header: np.void) -> tuple[int, int, int]:
    return int(header["nx"]), int(header["ny"]), int(header["nz"])


def _check_pixels(path: Path, header: np.void) -> tuple[np.dtype, int]:
    mode, flags = int(header["mode"]), _imod_flags(header)
    if mode not in _DTYPES or (mode == 0 and flags & _HALF_BYTES_FLAG):
        kind = _OTHER_MODES.get(mode, "4-bit")
        raise BenchError(
            f"{path} must hold real numbers (mode 0, 1, 2, 6 or 12), received {kind} pixels (mode "
            f"{mode}): convert it"
        )
    width, height, pages = _sizes(header)
    if min(width, height, pages) < 1 or pages > MOST_SECTIONS:
        raise BenchError(
            f"{path} must have 1 to {MOST_SECTIONS} sections with pixels, received a size of "
            f"{width} x {height} x {pages}: save it again"
        )
    dtype = np.dtype(_DTYPES[mode]).newbyteorder(header.dtype["mode"].byteorder)
    if mode == 0 and not _bytes_are_signed(header):
        dtype = np.dtype("u1")
    start = HEADER_DTYPE.itemsize + max(0, int(header["nsymbt"]))
    needed, stored = width * height * pages * dtype.itemsize, path.stat().st_size - start
    if needed > stored:
        raise BenchError(
            f"{path} must hold the pixels of {width} x {height} x {pages} that its header states, "
            f"received {max(0, stored)} bytes of {needed}: copy it again"
        )
    return dtype, start


def _bytes_are_signed(header: np.void) -> bool:
    """Whether mode 0 means -128 to 127.

    IMOD's flag says it in its files. The standard says yes for others, which is wrong where the
    header's own range needs unsigned bytes.
    """
    if _has_imod_stamp(header):
        return bool(_imod_flags(header) & _SIGNED_FLAG)
    return not (float(header["dmin"]) >= 0 and 127 < float(header["dmax"]) <= 255)


def _origin_is_inverted(header: np.void) -> bool:
    """Whether the origin has the standard's sign, which is the opposite of IMOD's."""
    marked = _has_imod_stamp(header) and _imod_flags(header) & _INVERTED_ORIGIN_FLAG
    return bool(marked) or _STANDARD_OF_2014 <= int(header["nversion"]) < _STANDARD_OF_2014 + 10


def _is_inverted(header: np.void) -> bool | None:
    """Whether 3dmod inverts y: of files by others that say so, and of FEI's by the first standard.

    Later FEI files were inverted by some releases of IMOD and are not by others: None.
    """
    if _has_imod_stamp(header):
        return False
    if int(header["mapr"]) == _INVERTED_ROWS:
        return True
    if not bytes(header["exttyp"]).startswith(_FEI):
        return False
    first_form = int(header["nversion"]) == _STANDARD_OF_2014 and int(header["nsymbt"]) > 0
    return True if first_form else None


def _has_imod_stamp(header: np.void) -> bool:
    return _extra_number(header, _IMOD_STAMP_AT) == _IMOD_STAMP


def _imod_flags(header: np.void) -> int:
    return _extra_number(header, _IMOD_FLAGS_AT) if _has_imod_stamp(header) else 0


def _extra_number(header: np.void, place: int) -> int:
    content = bytes(header["extra2"].tobytes())[place : place + 4]
    return int(np.frombuffer(content, header.dtype["mode"])[0])


def _round_side(side_nm: float) -> float:
    """Rounds a length in nm, which a cell in single precision divided by its size gives."""
    return float(f"{side_nm:.6g}")
