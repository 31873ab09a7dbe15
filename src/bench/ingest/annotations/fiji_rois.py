"""Reads selections of ImageJ and Fiji: a .roi file, or a .zip of them by the ROI Manager."""

import math
import struct
import zipfile
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from bench.errors import BenchError
from bench.ingest.annotations.drawing import (
    SMALLEST_SIDE_PX,
    DrawnObject,
    Outline,
    check_coordinates,
    oval_ring,
)
from bench.ingest.classes import UNCLASSIFIED, class_of_name, tidy_name, warn_of_left_out
from bench.ingest.images.limits import ANNOTATION_BYTES

_MOST_ROIS = 100_000
_ROI_BYTES = 8 * 2**20
# Selections compress two- or threefold.
_FREE_ZIP_BYTES, _LARGEST_RATIO = 8 * 2**20, 20
_MOST_CORNERS = 2**24

_TALLEST_OVAL_PX = 2**16
_POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_MOVE, _LINE, _QUADRATIC, _CUBIC, _CLOSE = range(5)
_COORDINATES = {_MOVE: 2, _LINE: 2, _QUADRATIC: 4, _CUBIC: 6, _CLOSE: 0}
_CURVE_TOLERANCE_PX = 0.01
_MOST_STEPS = 64
_MOST_CURVES = 100_000
_MOST_SPLINE_POINTS = 2**18
_ELLIPSE_CORNERS = 72
_ARC_STEPS = 64


def read_rois(path: Path) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Reads the areas of a .roi or .zip file; an object's section is its position in the stack.

    The class of an object is its name without the number at its end (``vesicle-001``,
    ``mito_3``); else, where ImageJ made the name up, ``group 2`` by its group; else
    ``unclassified``. Its section is its slice, or its frame where a stack was opened as a time
    series; without a position it is 0.

    Returns:
        The objects, and warnings: selections without an area are left out.

    Raises:
        BenchError: If the file is unreadable, damaged or beyond the limits.
    """
    objects, left_out, corners = [], [], 0
    for entry, data in _read_entries(path):
        if data is None:
            left_out.append(f"{tidy_name(entry)!r} (not a .roi file)")
            continue
        where = f"{path} ({tidy_name(entry)!r})" if path.suffix.lower() == ".zip" else str(path)
        roi = _parse_roi(data, where)
        name = tidy_name(roi.name) or tidy_name(Path(entry).stem)
        rings = tuple(ring for ring in _find_rings(roi, where) if len(ring) > 2)
        corners += sum(map(len, rings))
        if corners > _MOST_CORNERS:
            raise BenchError(
                f"selections of {path} must not have more than {_MOST_CORNERS} corners, received "
                "more: save them in several files"
            )
        if not rings:
            left_out.append(f"{name!r} ({_describe_type(roi)})")
            continue
        kind = class_of_name(name) or (f"group {roi.group}" if roi.group else UNCLASSIFIED)
        objects.append(DrawnObject(name, kind, {_find_section(roi): (Outline(rings),)}))
    return tuple(objects), warn_of_left_out(path, left_out)


def _read_entries(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Reads the selections of a file, by name; None stands for an entry that is none.

    Names within a .zip are text only: nothing is opened by them.
    """
    zipped = path.suffix.lower() == ".zip"
    try:
        stored = path.stat().st_size
        if stored > (ANNOTATION_BYTES if zipped else _ROI_BYTES):
            raise BenchError(f"{path} must hold selections of ImageJ, received {stored} bytes")
        if not zipped:
            yield path.name, path.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            yield from _read_archive(path, archive, max(_FREE_ZIP_BYTES, _LARGEST_RATIO * stored))
    except (BenchError, MemoryError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BenchError(
            f"{path} must be readable, received {error.strerror!r}: check its path and permissions"
        ) from error
    except Exception as error:  # zipfile and zlib have no common class of errors
        raise _damaged(str(path), error) from error


def _read_archive(
    path: Path, archive: zipfile.ZipFile, allowed: int
) -> Iterator[tuple[str, bytes | None]]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > _MOST_ROIS:
        raise BenchError(
            f"{path} must hold at most {_MOST_ROIS} selections, received {len(entries)}: save them "
            "in several files"
        )
    for entry in entries:
        if entry.filename.startswith("__MACOSX/"):
            continue
        if not entry.filename.lower().endswith(".roi"):
            yield entry.filename, None
            continue
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        allowed -= entry.file_size
        if not plain or entry.flag_bits & 1 or entry.file_size > _ROI_BYTES or allowed < 0:
            raise BenchError(
                f"selections in {path} must be packed as ImageJ does, received "
                f"{tidy_name(entry.filename)!r}, which is encrypted, packed otherwise or unpacks "
                "to far too much: save them in ImageJ again"
            )
        yield entry.filename, archive.read(entry)


def _parse_roi(data: bytes, where: str) -> ImagejRoi:
    try:
        roi = ImagejRoi.frombytes(data)
    except MemoryError:
        raise
    except Exception as error:  # whatever its parts raise on damaged bytes
        raise _damaged(where, error) from error
    if roi.roitype is ROI_TYPE.UNKNOWN:
        raise _damaged(where, ValueError(f"unknown type {roi.roitype.value}"))
    return roi


def _find_section(roi: ImagejRoi) -> int:
    """Returns the section, from 0, of a selection whose positions start at 1."""
    return max(roi.position, roi.z_position, roi.t_position, 1) - 1


def _describe_type(roi: ImagejRoi) -> str:
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        return roi.subtype.name.lower()
    return roi.roitype.name.lower()


def _find_rings(roi: ImagejRoi, where: str) -> list[np.ndarray]:
    """Returns the rings (n, 2) around the area of a selection; none where it has no area."""
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        return []
    if roi.roitype in _POLYGONS:
        ring = _polygon_ring(roi)
        check_coordinates(ring, where)
        rings = [_fit_spline(ring) if roi.options & ROI_OPTIONS.SPLINE_FIT else ring]
    elif roi.roitype is ROI_TYPE.RECT and roi.multi_coordinates is not None:
        check_coordinates(roi.multi_coordinates, where)
        rings = _path_rings(roi.multi_coordinates.tolist(), where)
    elif roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        return _box_rings(roi, where)
    else:
        return []
    return [_lean(ring) for ring in rings if len(ring) > 2]


def _box_rings(roi: ImagejRoi, where: str) -> list[np.ndarray]:
    """Returns the ring of a rectangle or oval, by left, top, width and height in px."""
    box: list[float] = [roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top]
    if roi.subpixelrect:
        box = [roi.xd, roi.yd, roi.widthd, roi.heightd]
    check_coordinates(np.array(box), where)
    if min(box[2:]) < SMALLEST_SIDE_PX:
        return []
    if roi.roitype is ROI_TYPE.OVAL:
        if box[3] > _TALLEST_OVAL_PX:
            raise BenchError(
                f"{where} must be at most {_TALLEST_OVAL_PX} px high, received {box[3]:g}: draw it "
                "again, or remove it"
            )
        return [oval_ring(*box)]
    if roi.rounded_rect_arc_size > 0:
        return [_lean(_rounded_ring(roi.rounded_rect_arc_size, *box))]
    return [_rectangle_ring(*box)]


def _lean(ring: np.ndarray) -> np.ndarray:
    """Moves a ring by far less than shows, so that edges on pixel centres go as in ImageJ.

    ImageJ gives such a pixel to the side of smaller x, then y; `rasterise` to the other. What
    ends on a whole pixel still does: it might be the border of the image.
    """
    leaned: np.ndarray = np.minimum(ring + np.array([1e-6, 1e-9]), np.ceil(ring.max(axis=0)))
    return leaned


def _rectangle_ring(left: float, top: float, width: float, height: float) -> np.ndarray:
    right, bottom = left + width, top + height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def _rounded_ring(arc: float, left: float, top: float, width: float, height: float) -> np.ndarray:
    """Returns a rectangle whose corners are quarters of an ellipse of a diameter."""
    radii = np.minimum(arc, (width, height)) / 2
    inner = _rectangle_ring(
        *(np.array((left, top)) + radii), *(np.array((width, height)) - 2 * radii)
    )
    angles = np.linspace(0, np.pi / 2, _ARC_STEPS + 1)
    starts = np.pi * np.array([1, 1.5, 0, 0.5])
    turns = starts[:, None] + angles
    arcs = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * radii
    return (inner[:, None] + arcs).reshape(-1, 2)


def _polygon_ring(roi: ImagejRoi) -> np.ndarray:
    """Returns the corners of a polygon; of ellipses and rotated rectangles by their axis."""
    if roi.roitype is ROI_TYPE.FREEHAND and roi.subtype is ROI_SUBTYPE.ELLIPSE:
        return _ellipse_ring(*_find_axis(roi))
    if roi.roitype is ROI_TYPE.FREEHAND and roi.subtype is ROI_SUBTYPE.ROTATED_RECT:
        return _rotated_ring(*_find_axis(roi))
    if roi.subpixel_coordinates is not None:
        return roi.subpixel_coordinates.astype(float)
    if roi.integer_coordinates is None:
        return np.empty((0, 2))
    return np.add(roi.integer_coordinates, (roi.left, roi.top), dtype=float)


def _find_axis(roi: ImagejRoi) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns both ends of an axis, and the number by which the shape's width is known."""
    # roifile takes this number for the three small ones that other selections have here.
    packed = struct.pack(
        ">BBh", roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size
    )
    (parameter,) = struct.unpack(">f", packed)
    return np.array([roi.x1, roi.y1]), np.array([roi.x2, roi.y2]), parameter


def _ellipse_ring(start: np.ndarray, end: np.ndarray, ratio: float) -> np.ndarray:
    """Returns the polygon that ImageJ makes of an ellipse around an axis."""
    half = (end - start) / 2
    across = np.array([-half[1], half[0]]) * np.clip(ratio, 0, 1)
    angles = np.arange(_ELLIPSE_CORNERS)[:, None] * (2 * np.pi / _ELLIPSE_CORNERS)
    ring: np.ndarray = (start + end) / 2 + np.cos(angles) * half + np.sin(angles) * across
    return ring


def _rotated_ring(start: np.ndarray, end: np.ndarray, width: float) -> np.ndarray:
    along = end - start
    length = np.hypot(*along)
    across = np.array([along[1], -along[0]]) * (width / 2 / length if length else 0)
    return np.array([start + across, end + across, end - across, start - across])


def _fit_spline(ring: np.ndarray) -> np.ndarray:
    """Returns the closed curve that ImageJ's "Fit Spline" draws through corners."""
    from scipy.interpolate import CubicSpline

    if len(ring) < 3:
        return ring
    closed = np.concatenate([ring, ring[:1]])
    steps = np.hypot(*np.diff(closed, axis=0).T)
    knots = np.concatenate([[0], np.cumsum(np.maximum(np.sqrt(steps), 1e-3))])
    count = max(100, min(int(steps.sum() / 2), _MOST_STEPS * len(ring), _MOST_SPLINE_POINTS))
    curve = CubicSpline(knots, closed, bc_type="periodic")
    return np.asarray(curve(np.linspace(0, knots[-1], count)))


def _path_rings(numbers: list[float], where: str) -> list[np.ndarray]:
    """Returns the rings of a composite selection: segments, each its type and then its points."""
    rings: list[np.ndarray] = []
    ring = array("d")
    place = curves = 0
    while place < len(numbers):
        segment = int(numbers[place])
        count = _COORDINATES.get(segment, -1)
        values = numbers[place + 1 : place + 1 + count]
        curves += segment in (_QUADRATIC, _CUBIC)
        if count < 0 or len(values) < count or (segment != _MOVE and not ring):
            raise _damaged(where, ValueError(f"segment {segment} at {place} of its path"))
        if curves > _MOST_CURVES:
            raise _damaged(where, ValueError(f"more than {_MOST_CURVES} curves in its path"))
        if segment in (_MOVE, _CLOSE):
            rings.append(np.array(ring).reshape(-1, 2))
            ring = array("d", values or ring[:2])
        elif segment == _LINE:
            ring.extend(values)
        else:
            ring.frombytes(_flatten_curve([*ring[-2:], *values]).tobytes())
        place += 1 + count
    rings.append(np.array(ring).reshape(-1, 2))
    return rings


def _flatten_curve(numbers: list[float]) -> np.ndarray:
    """Returns points (n, 2) on a quadratic or cubic Bezier curve, without its start."""
    controls = np.array(numbers).reshape(-1, 2)
    if len(controls) == 3:  # the cubic curve that is the same
        first, middle, last = controls
        controls = np.array([first, (first + 2 * middle) / 3, (last + 2 * middle) / 3, last])
    # A chord is off by at most an eighth of its squared step times the second derivative.
    bend = 6 * np.abs(controls[:-2] - 2 * controls[1:-1] + controls[2:]).max()
    steps = math.sqrt(bend / (8 * _CURVE_TOLERANCE_PX))
    weights = _cubic_weights(min(max(math.ceil(steps), 1), _MOST_STEPS))
    return np.asarray(weights @ controls)


@cache
def _cubic_weights(steps: int) -> np.ndarray:
    """Returns how much of each control point (steps, 4) is in the points of a cubic curve."""
    t = np.linspace(0, 1, steps + 1)[1:, None]
    return np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])


def _damaged(where: str, error: Exception) -> BenchError:
    reason = tidy_name(str(error)) or type(error).__name__
    return BenchError(
        f"{where} must be a selection saved by ImageJ, received one that does not decode "
        f"({reason}): save it again"
    )
