"""What a model was made on, and what is far from it in the images that it is given."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.planes import Plane
from bench.models.grey_values import GreyValues, find_contrast_warnings
from bench.models.scales import find_scale_warnings, is_far
from bench.recipe.predictor import grey_values_of
from bench.steps.serving.subject import SegmentSubject
from bench.steps.training.data import measure_training_sections
from bench.tracking.datasets import UsedDataset, find_used_dataset
from bench.tracking.store import Store

# Sections of the images whose contrast is looked at.
_LOOKED_AT = 6
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a model was made on.

    Attributes:
        dataset: The name of the data set; its hash where the run that says it is gone.
        pixel_size_nm: Its pixel size; None if not known.
        test_dice: Dice on its test sections; None if not known.
        grey: Grey values of the training sections of each model; empty if not known.
    """

    dataset: str
    pixel_size_nm: float | None
    test_dice: float | None
    grey: tuple[GreyValues, ...]

    def describe(self) -> str:
        """All of it in one line, for who applies the model to other images."""
        size = f"{self.pixel_size_nm:g} nm" if self.pixel_size_nm else "pixel size unknown"
        dice = "not scored on test sections"
        if self.test_dice is not None:
            dice = f"Dice {self.test_dice:.3f} on its test sections"
        return f"made on data set {self.dataset} ({size}), {dice}"

    def find_warnings(
        self,
        planes: Sequence[Plane],
        seen: Iterable[tuple[str, np.ndarray]],
        subject: SegmentSubject,
    ) -> list[str]:
        """What is far from it in pixel size and contrast, one line each.

        Args:
            planes: All planes.
            seen: Name and pixels (y, x) of some, whose contrast is looked at.
            subject: The models.
        """
        sizes = [plane.pixel_size_nm for plane in planes if plane.pixel_size_nm]
        warnings = find_scale_warnings(subject.infos, sizes, rescale=subject.recipe.rescale)
        mine = self.pixel_size_nm
        if mine and not warnings:
            warnings = [
                f"the image has pixels of {size:g} nm and those of data set {self.dataset}, on "
                f"which the model was made, {mine:g} nm: check pixel_size_nm, and the pictures"
                for size in sorted(set(sizes))
                if is_far(size, mine)
            ]
        return warnings + find_contrast_warnings(self.grey, seen)


def sample_planes(planes: Sequence[Plane]) -> Iterator[tuple[str, np.ndarray]]:
    """Reads a few sections, from the first to the last."""
    numbers = np.linspace(0, len(planes) - 1, min(_LOOKED_AT, len(planes))).astype(int)
    for plane in (planes[number] for number in numbers):
        yield plane.name, plane.read()


def find_origin(subject: SegmentSubject, store: Store) -> Origin:
    """Finds what the models that are applied were made on.

    Models of earlier versions do not say which grey values they saw: they are then measured in
    their data set, if that is where it was.
    """
    used = find_used_dataset(store, subject.trained_on)
    grey = grey_values_of(subject.infos) or (_measure_again(used) if used else ())
    return Origin(
        dataset=used.name if used else subject.recipe.dataset[:12],
        pixel_size_nm=subject.recipe.pixel_size_nm,
        test_dice=subject.test_dice,
        grey=grey,
    )


def _measure_again(used: UsedDataset) -> tuple[GreyValues, ...]:
    try:
        dataset = PreparedDataset.open(used.folder)
        if dataset.content_hash.startswith(used.digest):
            return (measure_training_sections(dataset),)
    except BenchError as error:
        log.info("which contrast the model saw is not known: %s", error)
    return ()
