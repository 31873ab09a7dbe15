"""What a command ends with: the scores, one picture, and the next command, ready to paste."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.settings import typed_settings
from bench.core.commands import shown_path, write_command
from bench.dataset.prepared import read_manifest
from bench.export.sphere_table import SPHERES_FILE
from bench.methods import METHODS, ORACLE, PRETRAIN
from bench.metrics.table import HEADLINE, METRICS
from bench.report.data_facts import DataFacts
from bench.report.intervals import section_interval
from bench.report.serial import describe_worth
from bench.report.variants import is_oracle_variant
from bench.steps.scoring.evaluation_report import SCORES_FILE, overlay_file, unpack_scores
from bench.steps.serving.files import OVERLAYS
from bench.steps.table.report import CHART_FILE
from bench.structures import find_structures
from bench.tracking.queries import fetch_artifact, get_run, local_artifact, read_run
from bench.tracking.store import Store, open_store
from bench.tracking.views import PAGE_FILE

log = logging.getLogger(__name__)

# Of a split, where it has them.
_SHOWN = (HEADLINE, "iou", "instance_f1", "mask_dice", "vesicle_f1", "centre_error_nm", "box_iou")
# Where mlflow keeps the images of its sliders, and how their names hold the step.
_IMAGES = "images"
_STEP = re.compile(r"[+%]step[+%]([0-9]+)[+%]")


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


def say_picture(picture: Path | str) -> None:
    """Says where a picture of the result is."""
    log.info("picture: %s", shown_path(picture) if isinstance(picture, Path) else picture)


def say_next(step: str, settings: Mapping[str, object], purpose: str) -> None:
    """Says the next command.

    Args:
        step: Its entry point.
        settings: What it is given.
        purpose: What it is for, in a few words.
    """
    log.info("next, to %s:\n  %s", purpose, write_command(step, settings))


def say_artifact(store: Store, run_id: str, folder: str) -> None:
    """Says where a picture is that a run keeps; nothing where it has none.

    Args:
        store: The tracking store.
        run_id: The run.
        folder: Folder of its artifacts; empty are those in no folder. Of several pictures, one
            of the last step of a training is named.
    """
    kept = [item.path for item in store.client.list_artifacts(run_id, folder or None)]
    pictures = sorted((path for path in kept if path.endswith(".png")), key=_step_of)
    if pictures:
        _say_kept(store, run_id, pictures[-1])


def _step_of(path: str) -> int:
    """The training step in the name that mlflow gives an image."""
    found = _STEP.search(path)
    return int(found[1]) if found else 0


def _say_kept(store: Store, run_id: str, path: str) -> None:
    here = local_artifact(store, run_id, path)
    say_picture(here or f"artifact {path} of run {run_id}, in the MLflow UI")


def say_scores(store: Store, run_id: str) -> None:
    """Says the scores of an evaluation, and where a picture of them is."""
    run = get_run(store, run_id)
    found, scores = read_run(run), dict[str, Any]()
    method = found.cell.method
    if is_oracle_variant(method):
        method = f"{method} {ORACLE}"
    if found.scores:
        scores = unpack_scores(found.scores)
    else:
        scores = json.loads(fetch_artifact(store, run_id, SCORES_FILE).read_text(encoding="utf-8"))
    unit = DataFacts(**json.loads(found.data or "{}")).unit
    log.info(
        "%s by %s, %s %ss of %s: %s",
        found.cell.structure,
        method,
        run.data.tags["bench.split"],
        unit,
        found.dataset_label,
        describe_scores(scores["pooled"], scores["sections"], unit),
    )
    ranked = sorted(scores["sections"], key=lambda name: scores["sections"][name].get(HEADLINE, 0))
    _say_kept(store, run_id, overlay_file(ranked[len(ranked) // 2]))


def describe_scores(
    pooled: Mapping[str, float],
    sections: Mapping[str, Mapping[str, float]],
    unit: str = DataFacts.unit,
) -> str:
    """Says the scores of a split in a line, with the interval of the first.

    Args:
        pooled: Metric -> value, over all pixels and instances of the split.
        sections: The same of each section, or volume.
        unit: Which of both.
    """
    row = METRICS[HEADLINE]
    values = {name: scores[HEADLINE] for name, scores in sections.items() if HEADLINE in scores}
    interval, dependence = section_interval(values, limits=(row.low, row.high), unit=unit)
    shown = {name: METRICS[name] for name in _SHOWN if name in pooled}
    parts = [
        f"{metric.label} {metric.write(pooled[name])} {metric.unit}".rstrip()
        for name, metric in shown.items()
    ]
    if interval is None:
        sure = f"one {unit}, which cannot say how sure {row.label} is"
    else:
        low, high = map(row.write, interval)
        count = f"{len(values)} {unit}s" + describe_worth(
            dependence.effective if dependence else None
        )
        sure = f"{count}, 95 % interval of their mean {row.label} {low} to {high}"
    return f"{', '.join(parts)} ({sure})"
