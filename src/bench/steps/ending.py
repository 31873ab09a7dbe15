"""What a command ends with: the scores, one picture, and the next command, ready to paste."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.settings import typed_settings
from bench.core.commands import shown_path
from bench.dataset.prepared import read_manifest
from bench.export.sphere_table import SPHERES_FILE
from bench.methods import METHODS, PRETRAIN
from bench.steps.saying import say_artifact, say_next, say_picture
from bench.steps.scoring.saying import say_scores
from bench.steps.segmented_names import OVERLAYS
from bench.structures import find_structures
from bench.tracking.queries import get_run, read_run
from bench.tracking.store import open_store
from bench.tracking.views import CHART_FILE, PAGE_FILE

log = logging.getLogger(__name__)

# Where mlflow keeps the images of its sliders.
_IMAGES = "images"


def end_command(step: str, config: Any, run_id: str) -> None:
    """Says what the user of a step wants when it has ended; nothing where it said so itself.

    Args:
        step: The entry point.
        config: Its settings as they were typed.
        run_id: The run that it made, or found finished.
    """
    if step in _ENDINGS:
        _ENDINGS[step](config, run_id)


def _end_training(config: Any, run_id: str) -> None:
    say_artifact(open_store(), run_id, _IMAGES)
    settings = {"dataset": config.dataset, "run_id": run_id}
    say_next("evaluate", settings, "score the model on the validation sections")


def _end_pretraining(config: PretrainConfig, run_id: str) -> None:
    say_artifact(open_store(), run_id, _IMAGES)
    rows = (
        row for row in METHODS.values() if (row.start, row.network) == (PRETRAIN, config.network)
    )
    for row in rows:
        settings = {"method": row.name, "source": f"runs:/{run_id}"}
        say_next("finetune", settings, "train it on annotations")


def _end_detection(config: DetectConfig, run_id: str) -> None:
    say_artifact(open_store(), run_id, _IMAGES)
    settings = {"dataset": config.dataset, "structure": config.structure, "mode": "detector"}
    purpose = "let the boxes prompt a SAM, whose masks are instances"
    say_next("microsam", {**settings, "detector": f"runs:/{run_id}"}, purpose)


def _end_evaluation(config: EvaluateConfig, run_id: str) -> None:
    say_scores(open_store(), run_id)
    sections = read_manifest(Path(config.dataset))["sections"]
    if config.split == "test":
        # Of other data, the table to look at is that of the model's own.
        other = read_run(get_run(open_store(), run_id)).trained_on
        settings = {} if other else {"dataset": config.dataset}
        say_next("compare", settings, "put it beside other methods")
    elif any(entry["split"] == "test" for entry in sections):
        settings = {**typed_settings(config), "dataset": config.dataset, "split": "test"}
        say_next("evaluate", settings, "score it on sections that chose nothing")


def _end_search(config: OptimizeConfig, run_id: str) -> None:
    say_artifact(open_store(), run_id, OVERLAYS)
    settings = {"structure": config.structure, "run_id": run_id}
    say_next("promote", settings, "register the best combination, to segment images with it")


def _end_segmentation(config: SegmentConfig, run_id: str) -> None:
    pictures = sorted((Path(config.output) / OVERLAYS).glob("*.png"))
    if pictures:
        say_picture(pictures[len(pictures) // 2])
    if (Path(config.output) / SPHERES_FILE).is_file():
        named = {"input": config.output, "output": f"{config.output.rstrip('/')}_corrected"}
        say_next("correct", named, "correct vesicles in a window, the most doubtful first")
    named = {"input": config.output, "output": f"{config.output.rstrip('/')}_measured"}
    say_next("measure", named, "measure it, with error bars")
    settings = {"run_id": run_id, "output": f"{config.output.rstrip('/')}_to_correct"}
    say_next("export", settings, "correct it in TrakEM2 (format names other programs)")


def _end_comparison(config: CompareConfig | BenchmarkConfig, run_id: str) -> None:
    say_picture(Path(config.output) / CHART_FILE)
    log.info("open %s in a browser", shown_path(Path(config.output) / PAGE_FILE))


def _end_benchmark(config: BenchmarkConfig, run_id: str) -> None:
    _end_comparison(config, run_id)
    structures = tuple(read_manifest(Path(config.dataset))["structures"])
    if config.optimize:
        for structure in find_structures(config.structures, structures):
            settings = {"structure": structure.name}
            say_next("promote", settings, f"segment {structure.name} with the best combination")


_ENDINGS: dict[str, Callable[[Any, str], None]] = {
    "finetune": _end_training,
    "pretrain": _end_pretraining,
    "detect": _end_detection,
    "domain_adapt": _end_training,
    "microsam": _end_training,
    "evaluate": _end_evaluation,
    "optimize": _end_search,
    "segment": _end_segmentation,
    "compare": _end_comparison,
    "benchmark": _end_benchmark,
}
