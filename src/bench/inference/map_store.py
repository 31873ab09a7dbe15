"""The maps of a section on disk, one folder per pass of a network, made one band by band."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.core.files import write_whole
from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction

FOREGROUND, BOUNDARY = "foreground.npy", "boundary.npy"
# Pixels of every map that are held at a time.
BAND_PX = 2**22


def store_maps(folder: Path, prediction: SectionPrediction) -> None:
    """Writes the maps of a pass; the foreground comes last, and says that they are whole.

    Instances that a model found itself are not kept: ids of several passes have no mean.
    """
    if prediction.boundary is not None:
        write_map(folder / BOUNDARY, prediction.boundary)
    write_map(folder / FOREGROUND, prediction.foreground)


def write_map(path: Path, pixels: np.ndarray) -> None:
    """Writes a map (y, x) whole."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, np.ascontiguousarray(pixels))

    write_whole(path, write)


def has_maps(folder: Path) -> bool:
    """Whether the maps of a pass are whole."""
    return (folder / FOREGROUND).exists()


def blend_maps(
    blend: Blend, folders: Sequence[Sequence[Path]], shape: tuple[int, ...]
) -> SectionPrediction:
    """Makes one of the maps of all passes, as `Blend.apply` does of those in memory.

    Every pixel is blended by itself, so bands of rows give the same as the whole.

    Args:
        blend: How they are combined.
        folders: Per model those of its augmentations, in the blend's order.
        shape: Of the section (y, x).
    """
    height, width = shape
    rows = max(1, BAND_PX // max(1, width))
    maps: dict[str, np.ndarray] = {}
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        part = blend.apply([[read_band(folder, band) for folder in each] for each in folders])
        for name, pixels in (("foreground", part.foreground), ("boundary", part.boundary)):
            if pixels is not None:
                maps.setdefault(name, np.empty(shape, dtype=np.uint8))[band] = pixels
    return SectionPrediction(**maps)


def read_band(folder: Path, rows: slice) -> SectionPrediction:
    """Reads rows of the maps of a pass. Mapped anew for every band, they do not pile up."""
    boundary = folder / BOUNDARY
    return SectionPrediction(
        np.array(np.load(folder / FOREGROUND, mmap_mode="r")[rows]),
        np.array(np.load(boundary, mmap_mode="r")[rows]) if boundary.exists() else None,
    )
