"""The evaluation of a model that is prompted by the annotation: every object's mask by itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.core.memory import explain_out_of_memory
from bench.core.progress import say_while, show_progress
from bench.inference.device import choose_compute
from bench.inference.prediction import model_shape
from bench.inference.prompts.masks import PromptedMask, prompt_objects
from bench.inference.prompts.objects import PromptSettings
from bench.inference.sam.embedding_store import open_embeddings
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.windows import paint_masks
from bench.methods import ORACLE
from bench.metrics.prompted import GOOD_IOUS
from bench.models.checkpoint import ModelInfo, load_checkpoint
from bench.models.sam import SamNetwork
from bench.postprocess.instances import Instances
from bench.recipe.scores import SplitResult
from bench.report.figures.prompts import distortion_figure
from bench.steps.scoring.evaluation_report import describe_data, log_pictures, log_scores
from bench.steps.scoring.evaluation_task import EvaluationTask
from bench.steps.scoring.units import Unit
from bench.tracking.runs import Run
from bench.words import AUTO

_PROMPTS_FILE, _OBJECTS_FILE = "prompts.csv", "prompted_objects.csv"
_WARNING = (
    "oracle: prompts are made from the annotation that is scored, so that this row is told where "
    "every object is"
)


def evaluate_prompts(task: EvaluationTask, prompts: PromptSettings, run: Run, folder: Path) -> None:
    """Prompts a SAM with every annotated object of a split, and logs how well it outlines them.

    Nothing is kept that could be searched, applied or exported: no predictions, no recipe.

    Args:
        task: What is evaluated.
        prompts: How.
        run: Its run.
        folder: Where painted sections wait until pictures are drawn of them.
    """
    run.keep_warnings([_WARNING])
    run.set_tags({"bench.oracle": "true"})
    result = SplitResult(metrics=task.metrics, pixel_size_nm=task.dataset.pixel_size_nm)
    found = _prompt_split(task, prompts, run, result, folder)
    log_scores(run, result, task.config.split)
    _log_tables(run, found, task.structure.name, task.config.split)
    describe_data(run, task.units, task.structure.name, task.subject.cell)
    painted = {unit.name: path for unit, path in zip(task.units, _paths(task, folder), strict=True)}

    def read(unit: Unit) -> Instances:
        return _as_instances(np.load(painted[unit.name]))

    with say_while("drawing pictures"):
        log_pictures(run, task.units, task.structure.name, result, read, ORACLE)


def _paths(task: EvaluationTask, folder: Path) -> list[Path]:
    return [folder / f"{number}.npy" for number in range(len(task.units))]


def _prompt_split(
    task: EvaluationTask, prompts: PromptSettings, run: Run, result: SplitResult, folder: Path
) -> pd.DataFrame:
    """Adds the scores of every section to a result, and returns a row per mask."""
    compute = choose_compute(task.config.device, AUTO)
    network, info = load_checkpoint(task.subject.weights)
    assert isinstance(network, SamNetwork)
    encoder = KeptEncoder(network.to(compute.device).eval(), open_embeddings())
    tile_px, halo_px = _window_sizes(info, task)
    run.log_settings({"tile_px": info.tile_px, "halo_px": info.halo_px})
    run.log_settings({"device": str(compute.device), "precision": compute.precision})
    tables, remedy = [], f"lower tile_px (now {info.tile_px}) or use device=cpu"
    with show_progress(f"prompt {task.structure.name}") as advance:
        for number, (unit, path) in enumerate(zip(task.units, _paths(task, folder), strict=True)):
            labels = unit.read_labels(task.structure.name)
            with torch.inference_mode(), explain_out_of_memory("a window of SAM", remedy):
                masks = list(
                    prompt_objects(
                        encoder,
                        unit.read_raw(),
                        labels,
                        prompts,
                        tile_px=tile_px,
                        halo_px=halo_px,
                        section=number,
                    )
                )
            _add_section(result, unit.name, labels, masks, path)
            tables.append(_tabulate(unit.name, masks))
            advance(number + 1, len(task.units), unit.name)
    return pd.concat(tables, ignore_index=True)


def _window_sizes(info: ModelInfo, task: EvaluationTask) -> tuple[int, int]:
    """Tile and halo in px of the sections, at the scale at which the model sees them."""
    # From what the model is fed at back to sections.
    tile, halo = model_shape(
        (info.tile_px, info.halo_px), task.fed_nm, task.fed_nm and info.input_pixel_size_nm
    )
    return tile, halo if info.halo_px else 0


def _add_section(
    result: SplitResult, name: str, truth: np.ndarray, masks: Sequence[PromptedMask], path: Path
) -> None:
    """Scores a section, with the masks of the first prompts painted into one image."""
    kept = [each.mask for each in masks if each.mask is not None and each.mask.area]
    painted, _ = paint_masks(kept, truth.shape, min_area_px=1, max_area_px=None)
    np.save(path, painted)
    ious: dict[str, list[float]] = {}
    for each in masks:
        if not each.distortion_px:
            ious.setdefault(each.kind, []).append(each.iou)
    result.add(
        name,
        truth=truth,
        probability=np.where(painted, np.uint8(255), np.uint8(0)),
        instances=_as_instances(painted),
        prompted=ious,
    )


def _as_instances(painted: np.ndarray) -> Instances:
    area = int(np.count_nonzero(painted))
    return Instances(painted, area, area)


def _tabulate(section: str, masks: Sequence[PromptedMask]) -> pd.DataFrame:
    rows = [
        (section, each.object_id, each.area_px, each.kind, each.distortion_px, each.iou)
        for each in masks
    ]
    columns = ["section", "object", "area_px", "prompt", "distortion_px", "iou"]
    return pd.DataFrame(rows, columns=columns)


def _log_tables(run: Run, found: pd.DataFrame, structure: str, split: str) -> None:
    """Logs every mask, the means by prompt and distortion, and the curves of boxes."""
    run.log_text(found.to_csv(index=False), _OBJECTS_FILE)
    ious: dict[str, dict[float, list[float]]] = {}
    for kind, distortion_px, iou in zip(
        found["prompt"], found["distortion_px"], found["iou"], strict=True
    ):
        ious.setdefault(kind, {}).setdefault(distortion_px, []).append(iou)
    rows = [
        {"prompt": kind, "distortion_px": distortion_px, **_summarise(of_round)}
        for kind, curve in ious.items()
        for distortion_px, of_round in sorted(curve.items())
    ]
    run.log_text(pd.DataFrame(rows).to_csv(index=False), _PROMPTS_FILE)
    curves = {kind: curve for kind, curve in ious.items() if len(curve) > 1}
    if curves:
        run.log_figure(distortion_figure(curves, f"{structure}, {split}"), "box_distortion.png")


def _summarise(ious: Sequence[float]) -> dict[str, float]:
    """Objects, mean IoU, and the share of objects above each limit."""
    values = np.asarray(ious)
    shares = {f"above_{name}": float((values > limit).mean()) for name, limit in GOOD_IOUS.items()}
    return {"objects": values.size, "mean_iou": float(values.mean()), **shares}
