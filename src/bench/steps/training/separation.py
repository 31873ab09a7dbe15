"""How a model with a boundary channel separates touching instances, chosen on validation."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.models.checkpoint import load_checkpoint, save_checkpoint
from bench.postprocess.segmentation import settings_from_annotations
from bench.postprocess.watershed import choose_watershed
from bench.recipe.scores import threshold_level
from bench.steps.training.data import TrainingData
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

HALF = 0.5


def choose_separation(best: Path, data: TrainingData, compute: Compute, run: Run) -> None:
    """Chooses the settings of the watershed on the validation sections, into the checkpoint.

    Args:
        best: The checkpoint; its description is written anew.
        data: What the model was trained on.
        compute: Where it runs.
        run: Gets the scores of all settings as a table.
    """
    predict, _ = open_predictor(best, compute, data.structure)
    settings = settings_from_annotations(
        (data.read(name)[1] for name in data.names), pixel_size_nm=data.dataset.pixel_size_nm
    )

    def predicted() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for raw, labels in data.validation().values():
            prediction = predict(raw, data.dataset.pixel_size_nm)
            assert prediction.boundary is not None
            yield labels, prediction.foreground, prediction.boundary

    chosen, scores = choose_watershed(
        predicted(),
        threshold_level=threshold_level(HALF),
        opening_radius_px=settings.opening_radius_px,
        min_area_px=settings.min_area_px,
    )
    network, info = load_checkpoint(best)
    described = dataclasses.replace(info, inference={"watershed": dataclasses.asdict(chosen)})
    save_checkpoint(best, network, described)
    run.log_text(pd.DataFrame(scores).to_csv(index=False), "watershed.csv")
    log.info("separation of touching instances: %s", chosen.origin)
