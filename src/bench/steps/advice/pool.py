"""The images that nobody annotated, of which suggest chooses."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.advice.pieces import ImagePiece, cut_pieces
from bench.config.advice import SuggestConfig
from bench.core.hashing import json_sha256
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.adding.overlaps import shares_pixels
from bench.ingest.images.planes import check_readable, hash_planes, list_planes
from bench.words import NONE

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _PoolImage:
    """An image without annotation.

    Attributes:
        shape: Height and width in px.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        read: Reads its pixels (y, x).
        bottom_first: Whether its first row is the one that 3dmod and Fiji show at the bottom.
    """

    shape: tuple[int, int]
    pixel_size_nm: float | None
    read: Callable[[], np.ndarray]
    bottom_first: bool = False


@dataclass(frozen=True, eq=False)
class Pool:
    """All images that may be annotated.

    Attributes:
        images: By name.
        sha256: Hash of what they are.
        pieces: Those of each image that are not annotated.
    """

    images: dict[str, _PoolImage]
    sha256: str
    pieces: Mapping[str, Sequence[ImagePiece]] = field(default_factory=dict)


def list_candidates(config: SuggestConfig, dataset: PreparedDataset) -> Pool:
    """Lists the images of ``input``, or those of the dataset that have no labels, in pieces.

    Pieces that are, hold, or lie within a section of the dataset are left out.

    Raises:
        BenchError: If none is left, or one cannot be read.
    """
    pool = _of_dataset(dataset) if config.input == NONE else _of_files(config)
    cut = _cut_images(config, dataset, pool.images)
    sections = [dataset.read_raw(entry["name"]) for entry in dataset.manifest["sections"]]
    pieces = {}
    for name, found in cut.items():
        raw = pool.images[name].read()
        pieces[name] = [
            piece
            for piece in found
            if not any(shares_pixels(raw[piece.view], section) for section in sections)
        ]
    left = {name: found for name, found in pieces.items() if found}
    whole = sum(map(len, cut.values()))
    if not left:
        raise BenchError(
            f"an image must be left to annotate, all {whole} pieces are sections of "
            f"{dataset.root} already, or parts of them: give input=FOLDER of further images"
        )
    if gone := whole - sum(map(len, left.values())):
        log.info("%d of %d pieces are annotated already", gone, whole)
    return Pool({name: pool.images[name] for name in left}, pool.sha256, left)


def _of_dataset(dataset: PreparedDataset) -> Pool:
    names = dataset.unlabelled()
    if not names:
        raise BenchError(
            f"what to annotate is chosen of images without labels, {dataset.root} has none: give "
            "input=FOLDER of images"
        )

    def image_of(name: str) -> _PoolImage:
        height, width = dataset.shape(name)
        return _PoolImage((height, width), dataset.pixel_size_nm, lambda: dataset.read_raw(name))

    digest = json_sha256([dataset.find(name)["content_hash"] for name in names])
    return Pool({name: image_of(name) for name in names}, digest)


def _of_files(config: SuggestConfig) -> Pool:
    planes = list_planes(config.input, config.pixel_size_nm, config.raw_key)
    check_readable(planes)
    images = {
        plane.name: _PoolImage(plane.shape, plane.pixel_size_nm, plane.read, plane.bottom_first)
        for plane in planes
    }
    return Pool(images, hash_planes(planes))


def _cut_images(
    config: SuggestConfig, dataset: PreparedDataset, images: Mapping[str, _PoolImage]
) -> dict[str, list[ImagePiece]]:
    """The pieces of each image: of the size of the annotated sections, or as it was typed."""
    if config.piece_px:
        edges = (config.piece_px, config.piece_px)
    else:
        shapes = np.array([entry["shape"] for entry in dataset.manifest["sections"]])
        height, width = np.median(shapes, axis=0).astype(int).tolist()
        edges = (height, width)
    return {name: cut_pieces(name, image.shape, edges) for name, image in images.items()}
