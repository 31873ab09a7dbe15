"""Sections at another pixel size."""

import numpy as np


def resize_section(section: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes a section (y, x) to a shape (px); float32, smoothed first when it shrinks."""
    from skimage.transform import resize

    shrinks = any(new < old for new, old in zip(shape, section.shape, strict=True))
    resized = resize(
        section.astype(np.float32), shape, order=1, anti_aliasing=shrinks, preserve_range=True
    )
    return np.asarray(resized, dtype=np.float32)


def resize_labels(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes instance labels (y, x) to a shape (px): every pixel takes the nearest one's id."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])
