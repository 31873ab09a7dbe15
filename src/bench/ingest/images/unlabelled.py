"""Images without annotation: those of a folder, or the training sections of a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.hashing import json_sha256, path_sha256
from bench.core.names import natural_key
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.folders import list_images
from bench.ingest.images.formats import is_image, read_header, read_plane
from bench.ingest.images.images import decode
from bench.words import AUTO


@dataclass(frozen=True, eq=False)
class UnlabelledImage:
    """An image.

    Attributes:
        name: Its file's name, or that of its section.
        pixels: Grey values (y, x), at the depth of its file.
        pixel_size_nm: Edge of a pixel in nm; None where that is not known.
    """

    name: str
    pixels: np.ndarray
    pixel_size_nm: float | None


def read_unlabelled(where: str, dataset: PreparedDataset) -> list[UnlabelledImage]:
    """Reads unlabelled images into memory.

    Args:
        where: Folders or files of images, comma-separated; ``auto`` takes the
            dataset's montages, or the raw images of its training sections where it has none.
        dataset: The dataset. An image whose file does not state its pixel size counts as having
            the dataset's: it shows the same tissue.

    Raises:
        BenchError: If something named is not there, or is no image.
    """
    size_nm = dataset.pixel_size_nm
    if where == AUTO:
        names = dataset.unlabelled() or dataset.sections("train")
        return [UnlabelledImage(name, dataset.read_raw(name), size_nm) for name in names]
    images = []
    for path in find_unlabelled(where):
        header = read_header(path)
        sides_nm = header.pixel_sides_nm
        stated_nm = sides_nm[0] if sides_nm else size_nm
        images += [
            UnlabelledImage(path.name, read_plane(path, page), stated_nm)
            for page in range(header.pages)
        ]
    return images


def hash_unlabelled(where: str, dataset: PreparedDataset) -> str:
    """Hashes what ``read_unlabelled`` reads, whatever it is called and wherever it lies."""
    if where == AUTO:
        return json_sha256(["train", dataset.content_hash])
    return json_sha256([decode(path, path_sha256) for path in find_unlabelled(where)])


def find_unlabelled(where: str) -> list[Path]:
    """Finds the image files of a comma-separated list, those of a folder in natural order."""
    found: list[Path] = []
    for path in (Path(part.strip()) for part in where.split(",") if part.strip()):
        if is_image(path):
            found.append(path)
        elif path.is_dir():
            images = list_images(path, "images", is_image).values()
            found += sorted(images, key=lambda file: natural_key(file.name))
        else:
            state = "a file of another kind" if path.exists() else "nothing there"
            raise BenchError(
                f"unlabelled must name folders or files of images, received {path}, "
                f"{state}: correct the path, or use unlabelled=auto"
            )
    if not found:
        raise BenchError(
            f"unlabelled must name a folder, received {where!r}: use unlabelled=auto for the "
            "training sections"
        )
    return found
