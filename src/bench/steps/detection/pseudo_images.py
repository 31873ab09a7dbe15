"""The images without labels that pseudo-masks are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config.detection import PseudoConfig
from bench.core.hashing import file_sha256, json_sha256
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.errors import BenchError
from bench.ingest.images.planes import Plane, hash_planes, list_planes
from bench.words import NONE


@dataclass(frozen=True, eq=False)
class PseudoImages:
    """Images without labels, of one pixel size.

    Attributes:
        entries: By name, what a manifest says of each.
        read: From the name of one to its pixels (y, x).
        pixel_size_nm: Edge of a pixel; None where it is not known.
        sha256: Hash of what they are.
    """

    entries: dict[str, dict[str, Any]]
    read: Callable[[str], np.ndarray]
    pixel_size_nm: float | None
    sha256: str


def list_pseudo_images(config: PseudoConfig) -> PseudoImages:
    """Lists the images of ``input``, or those of the dataset that have no labels.

    Raises:
        BenchError: If there are none, or they have several pixel sizes.
    """
    if config.input != NONE:
        return _of_files(config)
    dataset = PreparedDataset.open(config.dataset)
    check_annotated(dataset)
    names = dataset.unlabelled()
    if not names:
        raise BenchError(
            f"pseudo-masks are of images without labels, {dataset.root} has none: give "
            "input=FOLDER of images"
        )
    entries = {name: dataset.find(name) for name in names}
    digest = json_sha256([entry["content_hash"] for entry in entries.values()])
    return PseudoImages(entries, dataset.read_raw, dataset.pixel_size_nm, digest)


def _of_files(config: PseudoConfig) -> PseudoImages:
    planes = list_planes(config.input, config.pixel_size_nm, config.raw_key)
    sizes = {plane.pixel_size_nm for plane in planes}
    if len(sizes) > 1:
        received = ", ".join(sorted(f"{size:g} nm" if size else "unknown" for size in sizes))
        raise BenchError(
            f"images of one dataset must have one pixel size, received {received} in "
            f"{config.input}: give pixel_size_nm, or one folder at a time"
        )
    by_name = {plane.name: plane for plane in planes}
    # A stack has many planes.
    files = {path: file_sha256(path) for path in {p.path for p in planes} if path.is_file()}
    return PseudoImages(
        {name: _describe_plane(plane, files.get(plane.path)) for name, plane in by_name.items()},
        lambda name: by_name[name].read(),
        sizes.pop(),
        hash_planes(planes),
    )


def _describe_plane(plane: Plane, source_sha256: str | None) -> dict[str, Any]:
    source: dict[str, Any] = {"source": plane.path.name, "source_page": plane.image.page}
    if source_sha256:
        source["source_sha256"] = source_sha256
    return {
        "name": plane.name,
        "shape": list(plane.shape),
        "region": "",
        "number": 0,
        "datasets": {"raw": source},
    }
