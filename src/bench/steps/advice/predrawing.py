"""What models find in the pieces that are suggested, drawn before a person corrects it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.advice.pieces import ImagePiece
from bench.config.advice import SuggestConfig
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.postprocess.instances import clean_mask
from bench.postprocess.segmentation import PostprocessSettings, settings_from_annotations
from bench.steps.advice.asking import AskedModel, best_model, read_asked
from bench.steps.advice.pool import Pool
from bench.tracking.store import Store
from bench.words import AUTO

log = logging.getLogger(__name__)

_HALF = 128
# The split that is looked at by evaluate alone.
_UNSEEN = "test"


def list_learned(dataset: PreparedDataset, structure: str) -> list[str]:
    """The sections that are annotated for a structure, but for those of the test split."""
    return [
        entry["name"]
        for entry in dataset.manifest["sections"]
        if entry["split"] != _UNSEEN and f"labels/{structure}" in entry["datasets"]
    ]


@dataclass(frozen=True, eq=False)
class Predrawing:
    """Draws the objects of all structures that there are models of.

    Attributes:
        pool: The images.
        files: By image, what models say of the structure that is asked for.
        sizes: By structure, how a mask becomes objects; the first is the one that is asked for.
        models: Of the other structures, from a piece's pixels and their size to probabilities.
        drawn: What was drawn, by the piece's name and structure.
    """

    pool: Pool
    files: Mapping[str, Path]
    sizes: Mapping[str, PostprocessSettings]
    models: Mapping[str, Callable[[np.ndarray, float | None], np.ndarray]]
    drawn: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that are drawn, the one that is asked for first."""
        return tuple(self.sizes)

    def read(self, piece: ImagePiece) -> np.ndarray:
        """The pixels of a piece (y, x)."""
        return self.pool.images[piece.image].read()[piece.view]

    def draw(self, piece: ImagePiece, structure: str) -> np.ndarray:
        """The objects of a structure in a piece: ids (y, x)."""
        key = piece.name, structure
        if key not in self.drawn:
            if structure in self.models:
                size_nm = self.pool.images[piece.image].pixel_size_nm
                levels = self.models[structure](self.read(piece), size_nm)
            else:
                levels = read_asked(self.files[piece.image]).best[piece.view]
            sizes = self.sizes[structure]
            self.drawn[key] = clean_mask(
                levels >= _HALF,
                opening_radius_px=sizes.opening_radius_px,
                min_area_px=sizes.min_area_px,
            ).labels
        return self.drawn[key]


def prepare_drawing(
    config: SuggestConfig,
    dataset: PreparedDataset,
    structure: str,
    pool: Pool,
    files: Mapping[str, Path],
    store: Store,
) -> Predrawing:
    """Finds the models of the other structures, as a dataset takes sections with all of its own."""
    compute = choose_compute(config.device, AUTO)
    found: dict[str, AskedModel] = {}
    for other in dataset.structures:
        if other == structure:
            continue
        if model := best_model(store, other, dataset.content_hash):
            found[other] = model
        else:
            log.warning(
                "warning: no model was trained on %s of %s, so none is pre-drawn; a dataset takes "
                "sections with all of its structures only: draw it as well, or train it first",
                *(other, dataset.root),
            )

    def opened(model: AskedModel, other: str) -> Callable[[np.ndarray, float | None], np.ndarray]:
        predictor, _ = open_predictor(model.weights, compute, other)
        return lambda raw, size_nm: predictor(raw, size_nm).foreground

    def sizes_of(name: str) -> PostprocessSettings:
        learned: Sequence[str] = list_learned(dataset, name)
        return settings_from_annotations(dataset.read_labels(each, name) for each in learned)

    return Predrawing(
        pool,
        files,
        {name: sizes_of(name) for name in (structure, *found)},
        {other: opened(model, other) for other, model in found.items()},
    )
