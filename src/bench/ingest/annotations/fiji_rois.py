"""Reads selections of ImageJ and Fiji: a .roi file, or a .zip of them by the ROI Manager."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from bench.errors import BenchError
from bench.ingest.annotations.drawing import DrawnObject, Outline
from bench.ingest.annotations.fiji_shapes import damaged, find_rings
from bench.ingest.images.limits import ANNOTATION_BYTES
from bench.ingest.object_names import UNCLASSIFIED, class_of_name, tidy_name, warn_of_left_out

MOST_ROIS = 100_000
ROI_BYTES = 8 * 2**20
# Selections compress two- or threefold.
FREE_ZIP_BYTES, LARGEST_RATIO = 8 * 2**20, 20
MOST_CORNERS = 2**24


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
    for entry, data in read_entries(path):
        if data is None:
            left_out.append(f"{tidy_name(entry)!r} (not a .roi file)")
            continue
        where = f"{path} ({tidy_name(entry)!r})" if path.suffix.lower() == ".zip" else str(path)
        roi = parse_roi(data, where)
        name = tidy_name(roi.name) or tidy_name(Path(entry).stem)
        rings = tuple(ring for ring in find_rings(roi, where) if len(ring) > 2)
        corners += sum(map(len, rings))
        if corners > MOST_CORNERS:
            raise BenchError(
                f"selections of {path} must not have more than {MOST_CORNERS} corners, received "
                "more: save them in several files"
            )
        if not rings:
            left_out.append(f"{name!r} ({describe_type(roi)})")
            continue
        kind = class_of_name(name) or (f"group {roi.group}" if roi.group else UNCLASSIFIED)
        objects.append(DrawnObject(name, kind, {find_section(roi): (Outline(rings),)}))
    return tuple(objects), warn_of_left_out(path, left_out)


def read_entries(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Reads the selections of a file, by name; None stands for an entry that is none.

    Names within a .zip are text only: nothing is opened by them.
    """
    zipped = path.suffix.lower() == ".zip"
    try:
        stored = path.stat().st_size
        if stored > (ANNOTATION_BYTES if zipped else ROI_BYTES):
            raise BenchError(f"{path} must hold selections of ImageJ, received {stored} bytes")
        if not zipped:
            yield path.name, path.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            yield from read_archive(path, archive, max(FREE_ZIP_BYTES, LARGEST_RATIO * stored))
    except (BenchError, MemoryError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BenchError(
            f"{path} must be readable, received {error.strerror!r}: check its path and permissions"
        ) from error
    except Exception as error:  # zipfile and zlib have no common class of errors
        raise damaged(str(path), error) from error


def read_archive(
    path: Path, archive: zipfile.ZipFile, allowed: int
) -> Iterator[tuple[str, bytes | None]]:
    """Reads the selections in an open .zip, no more than so many bytes of them."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_ROIS:
        raise BenchError(
            f"{path} must hold at most {MOST_ROIS} selections, received {len(entries)}: save them "
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
        if not plain or entry.flag_bits & 1 or entry.file_size > ROI_BYTES or allowed < 0:
            raise BenchError(
                f"selections in {path} must be packed as ImageJ does, received "
                f"{tidy_name(entry.filename)!r}, which is encrypted, packed otherwise or unpacks "
                "to far too much: save them in ImageJ again"
            )
        yield entry.filename, archive.read(entry)


def parse_roi(data: bytes, where: str) -> ImagejRoi:
    """Decodes a selection."""
    try:
        roi = ImagejRoi.frombytes(data)
    except MemoryError:
        raise
    except Exception as error:  # whatever its parts raise on damaged bytes
        raise damaged(where, error) from error
    if roi.roitype is ROI_TYPE.UNKNOWN:
        raise damaged(where, ValueError(f"unknown type {roi.roitype.value}"))
    return roi


def find_section(roi: ImagejRoi) -> int:
    """Returns the section, from 0, of a selection whose positions start at 1."""
    return max(roi.position, roi.z_position, roi.t_position, 1) - 1


def describe_type(roi: ImagejRoi) -> str:
    """Names the type of a selection that has no area."""
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        return roi.subtype.name.lower()
    return roi.roitype.name.lower()
