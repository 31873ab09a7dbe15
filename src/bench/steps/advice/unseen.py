"""What models say of sections that they never saw: one model for each fold of a dataset."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.config.advice import SuspectsConfig
from bench.config.settings import parse_settings
from bench.config.training import FinetuneConfig
from bench.core.files import write_binary
from bench.core.names import first_names
from bench.dataset.folds import Fold, write_fold
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.methods import METHODS
from bench.steps.finetune import finetune
from bench.steps.training.source import fetch_weights_of
from bench.tracking.pretrained import leave_out_of_tables
from bench.tracking.store import Store
from bench.words import AUTO

log = logging.getLogger(__name__)

_STEP = "finetune"
# What the step itself says of a training.
_OWN = ("dataset", "structure", "method", "minutes", "seed", "device", "labelled", "structures")


def training_of(config: SuspectsConfig, structure: str, dataset: Path) -> FinetuneConfig:
    """The settings of the training of a fold.

    Raises:
        BenchError: If there is no such method or setting.
    """
    given = parse_settings(FinetuneConfig, config.training)
    if twice := sorted(given.keys() & set(_OWN)):
        raise BenchError(
            f"training must not name {twice[0]}, received {config.training!r}: it is a setting of "
            "suspects itself, or chosen by it"
        )
    if config.method not in METHODS or METHODS[config.method].step != _STEP:
        rows = ", ".join(row.name for row in METHODS.values() if row.step == _STEP)
        raise BenchError(
            f"method must be one that finetune trains, received {config.method!r}: choose one of "
            f"{rows}"
        )
    return FinetuneConfig(
        dataset=str(dataset),
        structure=structure,
        method=config.method,
        minutes=config.minutes,
        seed=config.seed,
        device=config.device,
        **given,
    )


def predict_unseen(
    config: SuspectsConfig,
    dataset: PreparedDataset,
    structure: str,
    folds: Sequence[Fold],
    folder: Path,
    store: Store,
    parent: str,
) -> Mapping[str, Path]:
    """Trains a model for each fold, and keeps what it says of the sections that it never saw.

    What an earlier process kept in the folder is not done again, nor are trainings that finished.

    Args:
        config: The settings.
        dataset: The dataset that the folds are of.
        structure: What is looked for.
        folds: The folds.
        folder: Where to keep it.
        store: The tracking store.
        parent: Id of the run that the trainings are children of.

    Returns:
        By section the file of its probabilities, (y, x) uint8, round(255 p).
    """
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{name}.npy" for fold in folds for name in fold.judged}
    for fold in folds:
        left = [name for name in fold.judged if not files[name].is_file()]
        if not left:
            continue
        log.info("part %d of %d: %s", fold.number + 1, fold.of, first_names(fold.judged))
        place = folder / f"fold{fold.number}_of_{dataset.root.name}"
        write_fold(dataset, structure, fold, place)
        run_id = finetune(training_of(config, structure, place), store, parent)
        leave_out_of_tables(store, run_id)
        weights = fetch_weights_of(store, run_id)
        compute = choose_compute(config.device, AUTO)
        predictor, _ = open_predictor(weights, compute, structure)
        found = predictor.predict_all(map(dataset.read_raw, left), dataset.pixel_size_nm)
        for name, prediction in zip(left, found, strict=True):
            write_binary(files[name], partial(np.save, arr=prediction.foreground))
    return files
