"""What an evaluation leaves in its run: scores, tables and pictures."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.files import write_json
from bench.core.pixels import shrink_factor
from bench.dataset.prepared import PreparedDataset
from bench.metrics.curves import precision_recall
from bench.metrics.table import HEADLINE
from bench.postprocess.instances import Instances
from bench.recipe.recipe import RECIPE_FILE, Recipe, recipe_to_json
from bench.recipe.scores import SplitResult
from bench.report.figures.charts import precision_recall_figure
from bench.report.figures.figures import overlay_figure
from bench.report.figures.overlays import draw_overlay, spread_sections
from bench.tracking.queries import SCORES_TAG
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

# What a store takes as the value of a tag.
LIMIT = 8000
# Sections shown as pictures, by Dice: the worst, the best and others between. The page of compare
# shows the median too, which is among any odd number.
_SHOWN_SECTIONS = 9
# Longest side of the overlays in the table, px.
_TABLE_SIDE_PX = 2048
SCORES_FILE = "scores.json"
PRECISION_RECALL_FILE = "precision_recall.csv"


def pack_scores(
    pooled: Mapping[str, float], sections: Mapping[str, Mapping[str, float]]
) -> str | None:
    """Packs scores, to the last digit.

    Args:
        pooled: Metric -> value, over the whole split.
        sections: The same per section.

    Returns:
        The text; None where it is longer than a tag may be (about 40 sections).
    """
    names = list(dict.fromkeys(name for scores in (pooled, *sections.values()) for name in scores))
    content = {
        "metrics": names,
        "pooled": [pooled.get(name) for name in names],
        "sections": {
            section: [scores.get(name) for name in names] for section, scores in sections.items()
        },
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= LIMIT else None


def unpack_scores(text: str) -> dict[str, Any]:
    """Returns ``pooled`` and ``sections`` as in scores.json."""
    content = json.loads(text)
    names = content["metrics"]

    def named(values: list[float | None]) -> dict[str, float]:
        pairs = zip(names, values, strict=True)
        return {name: value for name, value in pairs if value is not None}

    sections = {section: named(values) for section, values in content["sections"].items()}
    return {"pooled": named(content["pooled"]), "sections": sections}


def log_scores(run: Run, result: SplitResult, split: str, level: int) -> None:
    """Logs the pooled scores as metrics, those per section as a table and as JSON.

    Args:
        run: The run that made them.
        result: The scores.
        split: What they are of.
        level: The level from which a pixel counted.
    """
    pooled = result.all_scores()
    if undefined := [name for name in result.metrics if name not in pooled]:
        log.info("not defined on %s: %s", split, ", ".join(undefined))
    run.log_metrics({f"{split}/{name}": value for name, value in pooled.items()})
    if result.empty:
        run.set_tags({"bench.empty_sections": ", ".join(result.empty)})
    content = {"split": split, "pooled": pooled, "sections": result.sections}
    run.log_text(json.dumps(content, indent=2), SCORES_FILE)
    packed = pack_scores(pooled, result.sections)
    if packed:
        run.set_tags({SCORES_TAG: packed})
    # Not every section has every metric.
    names = [name for name in result.metrics if any(name in s for s in result.sections.values())]
    sections = pd.DataFrame(result.sections, index=names).T
    run.log_text(sections.to_csv(index_label="section"), "sections.csv")
    thresholds, precision, recall = precision_recall(result.histogram)
    curve = {"level": thresholds, "precision": precision, "recall": recall}
    run.log_text(pd.DataFrame(curve).to_csv(index=False), PRECISION_RECALL_FILE)
    figure = precision_recall_figure(thresholds, precision, recall, level)
    run.log_figure(figure, "precision_recall.png")


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
    dataset: PreparedDataset,
    structure: str,
    result: SplitResult,
    clean: Callable[[str], Instances],
) -> None:
    """Logs overlays of the worst, the best and some sections between.

    Args:
        run: The evaluation's run.
        dataset: What was evaluated.
        structure: Its structure.
        result: The scores, by which sections are chosen.
        clean: From the name of a section to its instances.
    """
    shown = spread_sections(result.sections, _SHOWN_SECTIONS)
    pictures = {}
    for name in shown:
        raw, truth = dataset.read_raw(name), dataset.read_labels(name, structure)
        labels = clean(name).labels
        scores = result.sections[name]
        title = f"{structure}, {name}"
        figure = overlay_figure(raw, truth=truth, prediction=labels, title=title, scores=scores)
        run.log_figure(figure, overlay_file(name))
        pictures[name] = draw_overlay(
            raw, truth=truth, prediction=labels, factor=shrink_factor(raw.shape, _TABLE_SIDE_PX)
        )
    # A table with an image column: the Artifacts view of several runs puts them side by side.
    run.log_image_table(pictures, {name: result.sections[name][HEADLINE] for name in shown})


def overlay_file(section: str) -> str:
    """The artifact with the overlay of a section."""
    return f"overlays/{section}.png"
