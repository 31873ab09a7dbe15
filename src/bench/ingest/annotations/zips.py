"""Reads .zip files of annotation: selections of Fiji's ROI Manager, or QuPath's GeoJSON."""

import json
import zipfile
from pathlib import Path

from bench.errors import BenchError
from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.annotations.geojson import parse_geojson
from bench.ingest.classes import tidy_name
from bench.ingest.foreign import describe_zipped
from bench.ingest.images.headers import decode
from bench.ingest.images.limits import ANNOTATION_BYTES

_MOST_ENTRIES = 200_000
# Indented JSON of coordinates compresses twentyfold.
_FREE_BYTES, _LARGEST_RATIO = 64 * 2**20, 100


def read_zip(path: Path) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Reads the areas in a .zip file, by `read_rois` or `read_geojson`.

    Returns:
        The objects, and warnings.

    Raises:
        BenchError: If the file cannot be read, is beyond the limits, or holds something else.
    """
    names = decode(path, _list_entries, "ZIP file")
    if any(name.lower().endswith(".roi") for name in names):
        return read_rois(path)
    drawn = [name for name in names if name.lower().endswith(".geojson")]
    if len(drawn) == 1:
        content = decode(path, lambda file: _read_entry(file, drawn[0]), "ZIP file")
        document = decode(path, lambda _: json.loads(content), "GeoJSON in a ZIP file")
        return parse_geojson(document, path)
    received, remedy = describe_zipped(names)
    raise BenchError(
        f"{path} must hold Fiji's selections (.roi) or one GeoJSON file, received {received}: "
        f"{remedy}"
    )


def _list_entries(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise BenchError(
            f"{path} must hold at most {_MOST_ENTRIES} files, received {len(entries)}: pack less"
        )
    return [
        entry.filename
        for entry in entries
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
    ]


def _read_entry(path: Path, name: str) -> bytes:
    """Reads a file of an archive, which may not be far larger than the archive."""
    allowed = min(max(_FREE_BYTES, _LARGEST_RATIO * path.stat().st_size), ANNOTATION_BYTES)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or entry.flag_bits & 1 or entry.file_size > allowed:
            raise BenchError(
                f"GeoJSON in {path} must be packed as QuPath does, received {tidy_name(name)!r}, "
                "which is encrypted, packed otherwise or unpacks to far too much: export it again"
            )
        return archive.read(entry)
