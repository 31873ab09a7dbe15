"""Images that are in a dataset already, whole or as a part, whichever way their rows are stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.dataset.prepared import PreparedDataset
from bench.ingest.sources import SourceSection


@dataclass(frozen=True, eq=False)
class Overlap:
    """A new section that shares pixels with one of a dataset.

    Attributes:
        section: The new section.
        name: Name of the other.
        split: The split of that, or UNLABELLED.
        same: Whether they are one image; else one is a part of the other.
        turned: Whether their rows are stored from opposite ends.
    """

    section: SourceSection
    name: str
    split: str
    same: bool
    turned: bool


def find_overlaps(sections: Sequence[SourceSection], dataset: PreparedDataset) -> list[Overlap]:
    """Finds the new sections that are, hold, or lie within one of a dataset.

    Args:
        sections: The new sections; all of their images are in memory at a time.
        dataset: The dataset, which is read section by section.
    """
    images = [section.raw.read() for section in sections]
    found = []
    for entry in dataset.entries:
        old = dataset.read_raw(entry["name"])
        for section, new in zip(sections, images, strict=True):
            for turned in (False, True):
                if shares_pixels(new[::-1] if turned else new, old):
                    same = new.shape == old.shape
                    found.append(Overlap(section, entry["name"], entry["split"], same, turned))
                    break
    return found


def shares_pixels(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two images (y, x) are the same, or one is a window of the other.

    Examples:
        >>> image = np.arange(12).reshape(3, 4)
        >>> shares_pixels(image[1:, 1:3], image), shares_pixels(image[1:, ::2], image)
        (True, False)
    """
    kind = np.result_type(first, second)
    image, window = sorted((first, second), key=lambda pixels: pixels.size, reverse=True)
    if any(w > i for w, i in zip(window.shape, image.shape, strict=True)):
        return False
    image, window = image.astype(kind, copy=False), window.astype(kind, copy=False)
    if image.shape == window.shape:
        return bool((image == window).all())
    # The row that varies most is in the fewest places.
    row = int(np.argmax(window.std(axis=1)))
    pixels, wanted = np.ascontiguousarray(image).tobytes(), window[row].tobytes()
    at = pixels.find(wanted)
    while at >= 0:
        if not at % kind.itemsize:
            y, x = divmod(at // kind.itemsize, image.shape[1])
            part = image[max(y - row, 0) : y - row + len(window), x : x + window.shape[1]]
            if y >= row and part.shape == window.shape and (part == window).all():
                return True
        at = pixels.find(wanted, at + 1)
    return False
