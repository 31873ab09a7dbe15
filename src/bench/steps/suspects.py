"""List the objects of an annotation that models doubt which never saw them."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.advice.suspects import Suspect, judge_section, rank_suspects, usual_area
from bench.config.advice import SuspectsConfig
from bench.core.folders import unfinished_folder
from bench.core.progress import show_progress
from bench.dataset.folds import Fold, divide_sections
from bench.dataset.partial import read_ignored
from bench.dataset.prepared import PreparedDataset
from bench.steps.advice.output import begin_content, open_annotated, publish_content
from bench.steps.advice.suspects_report import (
    log_suspects,
    say_suspects,
    write_suspects,
)
from bench.steps.advice.unseen import predict_unseen, training_of
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)


def suspects(config: SuspectsConfig, store: Store | None = None) -> str:
    """Lists doubtful objects and returns the id of the run.

    Killed, the same command goes on: trainings that finished and sections that were predicted are
    not done again.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If the settings or the dataset do not fit, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    dataset, structure = open_annotated(config)
    folds = divide_sections(dataset, structure, config.folds)
    training_of(config, structure, dataset.root)
    identity = Identity(
        "suspects",
        config.identity(),
        {},
        method=config.method,
        structure=structure,
        dataset=dataset.content_hash,
        seed=config.seed,
    )
    with (
        unfinished_folder(output, identity.fingerprint()) as folder,
        open_run(store, identity, reuse=False) as run,
    ):
        settings = vars(config) | {"structure": structure, "folds": len(folds)}
        describe_run(run, dataset, config, settings, "checked")
        files = predict_unseen(
            *(config, dataset, structure, folds, folder / "predictions", store, run.id)
        )
        found = _judge(dataset, structure, folds, files)
        content = begin_content(folder)
        write_suspects(config, dataset, structure, found, files, content)
        log_suspects(run, found, content)
        publish_content(folder, content, output)
    say_suspects(config, structure, found)
    return run.id


def _judge(
    dataset: PreparedDataset, structure: str, folds: list[Fold], files: Mapping[str, Path]
) -> list[Suspect]:
    """Judges all sections; the most doubtful object first."""
    usual_px = usual_area([dataset.read_labels(name, structure) for name in files])
    found = []
    with show_progress("suspects") as advance:
        for done, name in enumerate(files, start=1):
            found += judge_section(
                name,
                labels=dataset.read_labels(name, structure),
                probability=np.load(files[name]),
                ignored=read_ignored(dataset, name, [structure]),
                usual_area_px=usual_px,
            )
            advance(done, len(files), name)
    return rank_suspects(found)
