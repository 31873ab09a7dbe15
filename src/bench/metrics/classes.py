"""Scores of several classes at once, from the pixels of every pair of true and predicted class."""

import math
from collections.abc import Sequence

import numpy as np

from bench.errors import BenchError
from bench.metrics.instances import count_pairs
from bench.metrics.overlap import check_mask, check_same_shape


def count_confusion(*, truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Counts the pixels of every pair of true and predicted class.

    Counts add, so pooling sections is adding their tables.

    Args:
        truth: Class of each pixel, any shape and integer type.
        prediction: Classes of the same pixels.
        classes: How many classes there are, 0 included.

    Returns:
        (classes, classes) int64, true class by predicted class.

    Raises:
        BenchError: If the shapes differ, or a class is not 0 to ``classes`` - 1.

    Examples:
        >>> count_confusion(
        ...     truth=np.array([0, 1, 1]), prediction=np.array([0, 1, 0]), classes=2
        ... ).tolist()
        [[1, 0], [1, 1]]
    """
    check_same_shape(truth=truth, prediction=prediction)
    for name, labels in (("truth", truth), ("prediction", prediction)):
        check_mask(name, labels)
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise BenchError(
                f"{name} must hold classes from 0 to {classes - 1}, received {labels.min()} to "
                f"{labels.max()}: map what it holds to classes first"
            )
    true, predicted, pixels = count_pairs(
        truth.reshape(-1).astype(np.uint32, copy=False),
        prediction.reshape(-1).astype(np.uint32, copy=False),
    )
    table = np.zeros((classes, classes), np.int64)
    table[true.astype(np.intp), predicted.astype(np.intp)] = pixels
    return table


def class_ious(confusion: np.ndarray, *, ignored: int | None = 0) -> np.ndarray:
    """IoU of every class; NaN for one that neither side has, and for the ignored.

    Args:
        confusion: (classes, classes) pixels, true class by predicted class.
        ignored: True class whose pixels are left out, whatever was predicted there; None for none.

    Raises:
        BenchError: If the table is not square.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise BenchError(
            f"a confusion table must be (classes, classes), received {confusion.shape}: count it "
            "with as many classes on both sides"
        )
    seen = np.array(confusion, dtype=np.float64)
    if ignored is not None:
        seen[ignored] = 0
    shared = np.diag(seen).copy()
    united = seen.sum(axis=0) + seen.sum(axis=1) - shared
    if ignored is not None:
        united[ignored] = 0
    nothing = np.full(shared.shape, np.nan)
    return np.asarray(np.divide(shared, united, out=nothing, where=united > 0))


def mean_class_iou(
    confusion: np.ndarray, *, ignored: int | None = 0, averaged: Sequence[int] | None = None
) -> float:
    """Mean IoU over classes, as published for Guay's platelets.

    There the pixels whose true label is 0 are left out, and classes 2 to 6 are averaged. A class
    that is neither annotated nor predicted has no IoU, and is left out of the mean.

    Args:
        confusion: (classes, classes) pixels, true class by predicted class.
        ignored: True class whose pixels are left out; None for none.
        averaged: Classes that are averaged; None for all but the ignored.

    Returns:
        NaN where none of the classes is there.

    Raises:
        BenchError: If the table is not square, or lacks a class that is averaged.

    Examples:
        >>> round(mean_class_iou(np.array([[9, 9, 0], [0, 2, 1], [0, 0, 3]])), 4)
        0.7083
    """
    ious = class_ious(confusion, ignored=ignored)
    chosen = range(len(ious)) if averaged is None else averaged
    if missing := [label for label in chosen if not 0 <= label < len(ious)]:
        raise BenchError(
            f"classes that are averaged must be 0 to {len(ious) - 1}, received "
            f"{', '.join(map(str, missing))}: count the confusion with more classes"
        )
    found = [float(ious[label]) for label in chosen if not math.isnan(ious[label])]
    return math.fsum(found) / len(found) if found else math.nan
