"""What an evaluation leaves in its run: scores, tables and pictures."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin

from bench.core.files import write_json
from bench.core.pixels import shrink_factor
from bench.dataset.checks import instance_areas
from bench.dataset.partial import count_open
from bench.ingest.inspection.masks import is_network
from bench.methods import METHODS
from bench.metrics.classes import class_ious
from bench.metrics.curves import LEVELS, precision_recall
from bench.metrics.overlap import cut_open, find_open
from bench.metrics.table import HEADLINE
from bench.postprocess.instances import Instances
from bench.recipe.recipe import RECIPE_FILE, Recipe, recipe_to_json
from bench.recipe.scores import SplitResult
from bench.report.data_facts import DataFacts
from bench.report.figures.charts import precision_recall_figure
from bench.report.figures.crops import choose_crop, draw_crop
from bench.report.figures.figures import overlay_figure
from bench.report.figures.overlays import (
    draw_overlay,
    hatch_ignored,
    spread_sections,
    typical_sections,
)
from bench.report.figures.planes import choose_planes, lay_out_planes
from bench.report.figures.scale_bar import draw_scale_bar
from bench.steps.scoring.score_files import (
    CROP_TITLE,
    PRECISION_RECALL_FILE,
    SCORES_FILE,
    VALIDATION_FILE,
    crop_file,
    overlay_file,
    pack_scores,
)
from bench.steps.scoring.units import Unit, list_units
from bench.tracking.queries import DATA_TAG, SCORES_TAG, Cell
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

# Sections shown as pictures, by Dice: the worst, the best and others between. The page of compare
# shows the median too, which is among any odd number.
_SHOWN_SECTIONS = 9
# Longest side of the overlays in the table, px.
_TABLE_SIDE_PX = 2048
# Per section: fewer are no instances to tell apart.
_FEWEST_INSTANCES = 2


def log_scores(run: Run, result: SplitResult, split: str) -> None:
    """Logs the pooled scores as metrics, those per section as a table and as JSON.

    Args:
        run: The run that made them.
        result: The scores.
        split: What they are of.
    """
    pooled = result.all_scores()
    if undefined := [name for name in result.metrics if name not in pooled]:
        log.info("not defined on %s: %s", split, ", ".join(undefined))
    run.log_metrics({f"{split}/{name}": value for name, value in pooled.items()})
    if result.empty:
        run.set_tags({"bench.empty_sections": ", ".join(result.empty)})
    _log_sections(run, split, pooled, result, SCORES_FILE)
    packed = pack_scores(pooled, result.sections)
    if packed:
        run.set_tags({SCORES_TAG: packed})
    # Not every section has every metric.
    names = [name for name in result.metrics if any(name in s for s in result.sections.values())]
    sections = pd.DataFrame(result.sections, index=names).T
    run.log_text(sections.to_csv(index_label="section"), "sections.csv")


def log_validation(run: Run, result: SplitResult) -> None:
    """Logs the scores of a search's winner on validation by section, as JSON."""
    _log_sections(run, "val", result.all_scores(), result, VALIDATION_FILE)


def _log_sections(
    run: Run, split: str, pooled: Mapping[str, float], result: SplitResult, name: str
) -> None:
    content = {"split": split, "pooled": pooled, "sections": result.sections}
    run.log_text(json.dumps(content, indent=2), name)


def log_curve(run: Run, result: SplitResult, level: int) -> None:
    """Logs precision and recall at every threshold, as numbers and as a chart.

    Args:
        run: The run that made them.
        result: What was scored.
        level: The level from which a pixel counted.
    """
    thresholds, precision, recall = precision_recall(result.histogram)
    curve = {"level": thresholds, "precision": precision, "recall": recall}
    run.log_text(pd.DataFrame(curve).to_csv(index=False), PRECISION_RECALL_FILE)
    # As people set and read them: probabilities.
    highest = LEVELS - 1
    figure = precision_recall_figure(thresholds / highest, precision, recall, level / highest)
    run.log_figure(figure, "precision_recall.png")


def log_confusion(run: Run, result: SplitResult, outputs: Sequence[str]) -> None:
    """Logs the pixels of every pair of classes, and the IoU of each; nothing without classes.

    Args:
        run: The run that made them.
        result: The scores.
        outputs: Names of the classes, the background first.
    """
    confusion = result.confusion()
    if confusion is None:
        return
    table = pd.DataFrame(confusion, index=list(outputs), columns=list(outputs))
    table["iou"] = class_ious(confusion, ignored=None)
    run.log_text(table.to_csv(index_label="annotated, by what was predicted (px)"), "classes.csv")


def log_recipe(run: Run, recipe: Recipe, result: SplitResult, split: str, folder: Path) -> None:
    """Logs how instances were made, and to what scores: what others apply the model by.

    Args:
        run: The evaluation's run.
        recipe: That of its one model.
        result: The scores.
        split: What they are of.
        folder: Where the file is on its way to the run.
    """
    (member,) = recipe.members
    scored = dataclasses.replace(
        recipe,
        members=(dataclasses.replace(member, evaluation=run.id),),
        validation=result.scores() if split == "val" else {},
        test=result.scores() if split == "test" else {},
    )
    write_json(folder / RECIPE_FILE, recipe_to_json(scored))
    run.log_file(folder / RECIPE_FILE)


def log_pictures(
    run: Run,
    units: Sequence[Unit],
    structure: str,
    result: SplitResult,
    clean: Callable[[Unit], Instances],
    remark: str = "",
) -> None:
    """Logs overlays of the worst, the best and some sections between, and crops of the typical.

    Of a volume the planes through the place where prediction and annotation differ most are shown,
    side by side: along z, along y and along x.

    Args:
        run: The evaluation's run.
        units: What was evaluated: sections, or volumes.
        structure: Its structure.
        result: The scores, by which they are chosen.
        clean: From one of them to its instances.
        remark: What every overlay says besides.
    """
    shown = spread_sections(result.sections, _SHOWN_SECTIONS)
    typical, size = typical_sections(result.sections), units[0].dataset.pixel_size_nm
    named, pictures = {unit.name: unit for unit in units}, {}
    for name in shown:
        unit = named[name]
        levels = unit.read_levels(structure)
        raw, truth = unit.read_raw(), unit.read_labels(structure)
        labels = cut_open(clean(unit).labels, levels)
        if unit.voxel_size_nm:
            planes = choose_planes(truth, labels)
            raw, truth, labels = (
                lay_out_planes(each, planes, unit.voxel_size_nm) for each in (raw, truth, labels)
            )
            if levels is not None:
                levels = lay_out_planes(levels, planes, unit.voxel_size_nm)
        raw = hatch_ignored(raw, find_open(levels))
        scores = result.sections[name]
        title = f"{structure}, {name} {remark}".strip()
        figure = overlay_figure(
            raw, truth=truth, prediction=labels, title=title, scores=scores, pixel_size_nm=size
        )
        run.log_figure(figure, overlay_file(name))
        if name in typical:
            _log_crop(run, name, raw, truth=truth, prediction=labels, pixel_size_nm=size)
        factor = shrink_factor(raw.shape, _TABLE_SIDE_PX)
        overlay = draw_overlay(raw, truth=truth, prediction=labels, factor=factor)
        pictures[name] = draw_scale_bar(overlay, size and size * factor)
    # A table with an image column: the Artifacts view of several runs puts them side by side.
    run.log_image_table(pictures, {name: result.sections[name][HEADLINE] for name in shown})


def _log_crop(
    run: Run,
    section: str,
    raw: np.ndarray,
    *,
    truth: np.ndarray,
    prediction: np.ndarray,
    pixel_size_nm: float | None,
) -> None:
    """Logs the panels of a crop side by side, with where it is as the file's title."""
    crop = choose_crop(truth=truth, prediction=prediction)
    panels = draw_crop(
        raw, truth=truth, prediction=prediction, crop=crop, pixel_size_nm=pixel_size_nm
    )
    title = PngImagePlugin.PngInfo()
    title.add_text(CROP_TITLE, str(crop))
    name = Path(crop_file(section))
    with TemporaryDirectory() as folder:
        file = Path(folder) / name.name
        Image.fromarray(np.hstack(list(panels.values()))).save(file, pnginfo=title)
        run.log_file(file, name.parent.as_posix())


def describe_data(
    run: Run, units: Sequence[Unit], structure: str, trained: Cell | None = None
) -> None:
    """Tags a run that has scores with what ``find_facts`` says."""
    facts = find_facts(units, structure, trained)
    run.set_tags({DATA_TAG: json.dumps(dataclasses.asdict(facts))})


def log_ignored(run: Run, units: Sequence[Unit], structure: str, split: str) -> None:
    """Logs what share of a split is not annotated, and says it; nothing where all of it is."""
    opened = pixels = 0
    for unit in units:
        levels = unit.read_levels(structure)
        opened += count_open(levels)
        pixels += sum(math.prod(unit.dataset.shape(name)) for name in unit.sections)
    if opened:
        run.log_metrics({f"{split}/ignored_fraction": opened / pixels})
        run.keep_warnings(
            [f"{100 * opened / pixels:.3g} % of {split} is not annotated, and counts for nothing"]
        )


def find_facts(units: Sequence[Unit], structure: str, trained: Cell | None = None) -> DataFacts:
    """What a table of scores must know of the data.

    Args:
        units: What was evaluated: sections, or volumes.
        structure: Its structure.
        trained: Method and data of the model; None where it is several.
    """
    dataset = units[0].dataset
    truths = (unit.read_labels(structure) for unit in units)
    areas = np.concatenate([instance_areas(truth) for truth in truths])
    uncounted = ""
    unit = DataFacts.unit if units[0].volume is None else "volume"
    if areas.size < _FEWEST_INSTANCES * len(units):
        uncounted = f"its annotation has {areas.size} in {len(units)} {unit}s"
    elif is_network(areas):
        uncounted = "its annotation is a network, most of which is in pieces far above the median"
    learned = None
    if trained and trained.dataset == dataset.content_hash and METHODS[trained.method].learns:
        of_training = list_units(dataset, "train", by_section=units[0].volume is None)
        learned = trained.labelled or len(of_training)
    return DataFacts(dataset.pixel_size_nm, learned, uncounted, unit)
