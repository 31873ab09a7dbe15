"""Formats that are not read: what they are called, and what makes them readable."""

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.classes import tidy_name

_IN_FIJI = "open it in Fiji and save it as TIFF"
_IN_PYTHON = "save it as Zarr or HDF5 with axes z, y, x"
_DRAW = "export areas as GeoJSON, COCO, or Fiji's selections"
_FROM_WEBKNOSSOS = "export the volume layer as TIFF or OME-Zarr in WEBKNOSSOS"
_SNIFFED_BYTES = 64 * 2**10
_LARGEST_JSON = 2**20


@dataclass(frozen=True)
class _ForeignFormat:
    """A format that is not read.

    Attributes:
        name: What it is called.
        remedy: What to do with it.
    """

    name: str
    remedy: str


_ENDINGS = {
    (".nrrd", ".nhdr", ".mha", ".mhd"): _ForeignFormat("NRRD or MetaImage", _IN_FIJI),
    (".czi",): _ForeignFormat("Zeiss CZI", _IN_FIJI),
    (".nd2",): _ForeignFormat("Nikon ND2", _IN_FIJI),
    (".lif",): _ForeignFormat("Leica LIF", _IN_FIJI),
    (".dm3", ".dm4"): _ForeignFormat("Gatan Digital Micrograph", _IN_FIJI),
    (".emd", ".ser", ".emi"): _ForeignFormat("Thermo Fisher (FEI) EMD or SER", _IN_FIJI),
    (".ims",): _ForeignFormat("Imaris", _IN_FIJI),
    (".vsi", ".oib", ".oif"): _ForeignFormat("Olympus", _IN_FIJI),
    (".svs", ".ndpi", ".mrxs", ".scn"): _ForeignFormat("slide scanner", f"{_IN_FIJI} or in QuPath"),
    (".am", ".amiramesh"): _ForeignFormat("Amira mesh", _IN_FIJI),
    (".nc", ".nc4"): _ForeignFormat("netCDF", "version 4 is HDF5: let its name end in .h5"),
    (".npy", ".npz", ".mat"): _ForeignFormat("NumPy or MATLAB", _IN_PYTHON),
    (".svg",): _ForeignFormat("vector drawing", _DRAW),
    (".n5",): _ForeignFormat("N5", f"{_IN_FIJI} (by its N5 plugin), or copy it to Zarr"),
    (".wkw", ".nml"): _ForeignFormat("WEBKNOSSOS", _FROM_WEBKNOSSOS),
    (".jser",): _ForeignFormat("PyReconstruct", "export its labels as TIFF or Zarr"),
    (".ilp",): _ForeignFormat("ilastik project", "export its results as HDF5 in ilastik"),
    (".obj", ".stl", ".ply"): _ForeignFormat("surface mesh", "export labels, one voxel a pixel"),
}
# By the outermost element.
_XML_KINDS = {
    "SpimData": _ForeignFormat("BigDataViewer XML", f"{_IN_FIJI}, or give its HDF5 or Zarr"),
    "annotations": _ForeignFormat("CVAT XML", "export it as COCO in CVAT"),
    "annotation": _ForeignFormat("Pascal VOC XML", "give masks as PNG, or export COCO"),
    "things": _ForeignFormat("KNOSSOS or WEBKNOSSOS skeleton", _FROM_WEBKNOSSOS),
    "OME": _ForeignFormat("OME-XML", "give the TIFF files that it belongs to, without it"),
    "Series": _ForeignFormat("Reconstruct", "export its traces as TIFF labels"),
    "Section": _ForeignFormat("Reconstruct", "export its traces as TIFF labels"),
    "CellCounter_Marker_File": _ForeignFormat("Fiji's Cell Counter", _DRAW),
    "svg": _ForeignFormat("vector drawing", _DRAW),
    "object-stream": _ForeignFormat("Icy or Aperio XML", _DRAW),
    "Annotations": _ForeignFormat("Aperio XML", _DRAW),
}
_WEBKNOSSOS = _ForeignFormat("WEBKNOSSOS", _FROM_WEBKNOSSOS)
_UNPACK = "unpack it, and give what is in it"
# By what is in a .zip.
_ZIPPED = (
    (r"\.nml$|\.wkw$|(^|/)data[^/]*\.zip$|datasource-properties\.json$", _WEBKNOSSOS),
    (r"(^|/)(\.z(array|group|attrs)|zarr\.json)$", _ForeignFormat("zipped Zarr", _UNPACK)),
    (r"\.json$", _ForeignFormat("zipped JSON", _UNPACK)),
    (r"\.xml$", _ForeignFormat("zipped XML", _UNPACK)),
    (r"\.(tiff?|png|mrc|h5)$", _ForeignFormat("zipped images", _UNPACK)),
)
_PRECOMPUTED = _ForeignFormat(
    "Neuroglancer precomputed", f"read it with cloud-volume or tensorstore, and {_IN_PYTHON}"
)
_ZARR = _ForeignFormat("Zarr", "let the name of its folder end in .zarr")


def find_foreign(path: Path) -> _ForeignFormat | None:
    """Finds out which format a file or folder has that is not read; None where that is unknown."""
    name = path.name.lower()
    if path.is_dir():
        return _find_in_folder(path)
    for endings, found in _ENDINGS.items():
        if name.endswith(endings):
            return found
    if name.endswith(".xml"):
        return _find_in_xml(path)
    return _find_in_zip(path) if name.endswith(".zip") else None


def refuse_foreign(path: Path) -> None:
    """Raises BenchError if a file or folder has a known format that is not read."""
    if found := find_foreign(path):
        raise BenchError(
            f"{path} must be of a format that is read (PNG, TIFF, JPEG, MRC, NIfTI, HDF5, Zarr, or "
            f"annotation), received {found.name}: {found.remedy}"
        )


def _find_zipped(names: Sequence[str]) -> _ForeignFormat | None:
    """Finds out what the files in a .zip are by their names; None where that is unknown."""
    for pattern, found in _ZIPPED:
        if any(re.search(pattern, name, re.IGNORECASE) for name in names):
            return found
    return None


def describe_zipped(names: Sequence[str]) -> tuple[str, str]:
    """Says what a .zip without annotation holds, and what to do with it."""
    shown = first_names([tidy_name(name) for name in names]) or "nothing"
    found = _find_zipped(names)
    return (f"{found.name} ({shown})", found.remedy) if found else (shown, _UNPACK)


def _find_in_folder(folder: Path) -> _ForeignFormat | None:
    if (folder / "datasource-properties.json").is_file() or (folder / "header.wkw").is_file():
        return _WEBKNOSSOS
    attributes = _read_object(folder / "attributes.json")
    if "n5" in attributes or {"dimensions", "blockSize"} <= attributes.keys():
        return _ENDINGS[".n5",]
    if folder.suffix.lower() == ".n5":
        return _ENDINGS[".n5",]
    info = _read_object(folder / "info")
    if info.get("@type") == "neuroglancer_multiscale_volume" or "scales" in info:
        return _PRECOMPUTED
    inside = (".zgroup", ".zarray", "zarr.json")
    named = folder.suffix.lower() == ".zarr"
    return _ZARR if not named and any((folder / n).is_file() for n in inside) else None


def _read_object(path: Path) -> dict[str, object]:
    """Reads a small JSON file; empty if it is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _find_in_zip(path: Path) -> _ForeignFormat | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return _find_zipped(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None


def _find_in_xml(path: Path) -> _ForeignFormat | None:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    outermost = re.search(rb"<([A-Za-z][\w.-]*)", re.sub(rb"<!--.*?-->", b"", start, flags=re.S))
    return _XML_KINDS.get(outermost[1].decode()) if outermost else None
