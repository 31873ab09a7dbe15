"""Synthetic sections with many instances, images from files, and how fast memory is read."""

import importlib
import time
from pathlib import Path
from types import ModuleType

import numpy as np


def draw_disks(side: int, number: int, *, seed: int) -> np.ndarray:
    """Draws disks of different sizes apart from each other: ids 1 .. number, int32 (y, x).

    Args:
        side: Height and width, px.
        number: Disks, one in each cell of a square grid.
        seed: Decides sizes and places.
    """
    random = np.random.default_rng(seed)
    cells = int(np.ceil(number**0.5))
    step = side / cells
    labels = np.zeros((side, side), np.int32)
    for place in range(number):
        radius = random.uniform(0.2, 0.35) * step
        row, column = (np.array(divmod(place, cells)) + random.uniform(0.36, 0.64, 2)) * step
        rows = np.arange(max(int(row - radius), 0), min(int(row + radius) + 2, side))
        columns = np.arange(max(int(column - radius), 0), min(int(column + radius) + 2, side))
        inside = (rows[:, None] - row) ** 2 + (columns - column) ** 2 <= radius**2
        labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][inside] = place + 1
    return labels


def read_image(path: Path) -> np.ndarray:
    """Reads one section (y, x) from a .npy file or a TIFF."""
    if path.suffix == ".npy":
        return np.load(path)
    import tifffile

    return tifffile.imread(path)


def read_seconds(*images: np.ndarray) -> float:
    """Seconds to read images once from memory: the nearest limit of what looks at every pixel."""
    best = []
    for _ in range(3):
        started = time.perf_counter()
        for image in images:
            image.max()
        best.append(time.perf_counter() - started)
    return min(best)


def describe_limit(seconds: float, read_s: float) -> str:
    """How far a time is from reading the images once."""
    return (
        f"reading the images once: {1000 * read_s:.3g} ms, {100 * read_s / seconds:.0f} % of ours"
    )


def import_peer(name: str) -> ModuleType | None:
    """A peer's module; None, and a line that says so, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(f"{name} is skipped: {error}; run make bench, which installs it into .peers")
        return None
