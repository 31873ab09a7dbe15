"""Test-time augmentation: a section predicted under symmetries of the square, and their mean."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from bench.inference.ensembles import round_mean
from bench.inference.prediction import Predictor, SectionPrediction
from bench.inference.symmetries import find_symmetries


def predict_augmented(
    predict: Predictor,
    raw: np.ndarray,
    pixel_size_nm: float | None,
    augmentations: Sequence[str],
) -> Iterator[tuple[str, SectionPrediction]]:
    """Predicts a section under symmetries, as they become ready.

    The section is transformed, not its tiles: what the network sees is the transformed section
    with a tile grid of its own, so every map is that of the transformed section alone. Tiles of
    several symmetries share batches.

    Args:
        predict: The model.
        raw: Section (y, x) of any bit depth.
        pixel_size_nm: Its pixel size; None if not known.
        augmentations: Names of the symmetries.

    Yields:
        Name and maps (y, x), back in the section's geometry, in the given order.

    Raises:
        BenchError: If there is no such symmetry.
    """
    symmetries = find_symmetries(augmentations)
    views = (np.ascontiguousarray(symmetry.forward(raw)) for symmetry in symmetries)
    predictions = predict.predict_all(views, pixel_size_nm)
    for symmetry, prediction in zip(symmetries, predictions, strict=True):
        yield symmetry.name, map_back(prediction, symmetry.inverse)


def map_back(
    prediction: SectionPrediction, inverse: Callable[[np.ndarray], np.ndarray]
) -> SectionPrediction:
    """Applies an inverse to all maps."""
    foreground, *others = (
        None if pixels is None else inverse(pixels)
        for pixels in (prediction.foreground, prediction.boundary, prediction.instances)
    )
    assert foreground is not None
    return SectionPrediction(foreground, *others)


def mean_prediction(predictions: Iterable[SectionPrediction]) -> SectionPrediction:
    """The mean of the probabilities, halves of a level rounded up; a single prediction is itself.

    They are summed as they come, so memory does not grow with their number.

    Args:
        predictions: At least one, all of one model and section. Of several, none has instances:
            ids have no mean.
    """
    iterator = iter(predictions)
    first = next(iterator)
    sums = [pixels.astype(np.uint16) for pixels in levels_of(first)]
    count = 1
    for prediction in iterator:
        count += 1
        for total, pixels in zip(sums, levels_of(prediction), strict=True):
            total += pixels
    if count == 1:
        return first
    return SectionPrediction(*(round_mean(total, count) for total in sums))


def levels_of(prediction: SectionPrediction) -> list[np.ndarray]:
    """The maps of probability: the foreground, and the boundary where there is one."""
    maps = (prediction.foreground, prediction.boundary)
    return [pixels for pixels in maps if pixels is not None]
