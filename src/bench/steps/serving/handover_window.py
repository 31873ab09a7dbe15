"""The test image of a model that is handed over: a window of a section that it should know."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.config.data import ExportModelConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.handover.contents import HandoverModel
from bench.inference.feeding import EnlargedSection
from bench.inference.prediction import feed_section
from bench.ingest.images.planes import list_planes
from bench.tracking.datasets import UsedDataset
from bench.words import NONE


@dataclass(frozen=True, eq=False)
class HandoverWindow:
    """A window, and what it is of.

    Attributes:
        pixels: Raw values (y, x), at the pixel size that the model wants.
        origin: The section, in a line.
    """

    pixels: np.ndarray
    origin: str


def cut_window(
    config: ExportModelConfig, model: HandoverModel, used: UsedDataset | None
) -> HandoverWindow:
    """Cuts the window: of the user's image, or of a validation section of the model's data set.

    Args:
        config: The settings.
        model: The models.
        used: The data set that they were made on; None if no run says it.

    Raises:
        BenchError: If neither is there.
    """
    if config.input != NONE:
        plane = list_planes(config.input, config.pixel_size_nm)[0]
        raw, size_nm = plane.read(), plane.pixel_size_nm
        middle = tuple(side / 2 for side in raw.shape)
        origin = f"of the image {plane.name}"
    else:
        dataset = _open_dataset(model, used)
        name, middle = _choose_section(dataset, model.recipe.structure)
        raw, size_nm = dataset.read_raw(name), dataset.pixel_size_nm
        origin = f"of section {name} of data set {dataset.root.name}"
    fed = feed_section(raw, model.info, size_nm if model.recipe.rescale else None)
    rows, columns = (
        _place(new, centre * new / old, model.window_px)
        for new, old, centre in zip(fed.shape, raw.shape, middle, strict=True)
    )
    if isinstance(fed, EnlargedSection):
        return HandoverWindow(fed.window(rows, columns), origin)
    return HandoverWindow(np.ascontiguousarray(fed[np.ix_(rows, columns)]), origin)


def _open_dataset(model: HandoverModel, used: UsedDataset | None) -> PreparedDataset:
    """The data set of a model, if it is still where it was."""
    remedy = "give an image of such tissue as input"
    if used is None:
        raise BenchError(
            f"a model is handed over with a test image, no run says on which data set the model of "
            f"{model.recipe.structure} was made: {remedy}"
        )
    try:
        dataset = PreparedDataset.open(used.folder)
    except BenchError as error:
        raise BenchError(
            f"a model is handed over with a test image of its data set, which cannot be read "
            f"({error}); or {remedy}"
        ) from error
    if not dataset.content_hash.startswith(used.digest):
        raise BenchError(
            f"a model is handed over with a test image of its data set {used.digest[:12]}, in "
            f"{used.folder} is {dataset.content_hash[:12]}: {remedy}"
        )
    return dataset


def _choose_section(dataset: PreparedDataset, structure: str) -> tuple[str, tuple[float, ...]]:
    """The validation section with most of a structure, and the middle of that (y, x)."""

    def measured() -> Iterator[tuple[int, str, tuple[float, ...]]]:
        for name in dataset.sections("val"):
            places = np.argwhere(dataset.read_labels(name, structure))
            middle = np.median(places, axis=0) if len(places) else np.array(dataset.shape(name)) / 2
            yield len(places), name, tuple(map(float, middle))

    _, name, middle = max(measured(), key=lambda found: found[0])
    return name, middle


def _place(side: int, centre: float, window_px: int) -> np.ndarray:
    """Which pixels of a side a window around a centre has; a shorter side is mirrored."""
    start = int(min(max(centre - window_px / 2, 0), max(side - window_px, 0)))
    inside = np.arange(start, min(start + window_px, side))
    return np.pad(inside, (0, window_px - len(inside)), mode="reflect" if side > 1 else "edge")
