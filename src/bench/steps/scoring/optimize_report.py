"""What a search leaves in its run and its output folder."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.core.files import write_json, write_text, write_whole
from bench.inference.blends import describe_blend
from bench.metrics.table import HEADLINE, METRICS
from bench.recipe.recipe import RECIPE_FILE, Recipe, recipe_to_json
from bench.recipe.scores import SplitResult
from bench.report.figures.search import ablation_figure, order_blends, surface_figure
from bench.report.intervals import section_interval
from bench.search.candidates import middle_of_best, pixel_curve
from bench.search.map_search import pixel_metric
from bench.search.search import SearchResult
from bench.tracking.queries import fetch_artifact
from bench.tracking.runs import Run
from bench.tracking.store import Store
from bench.words import SECTION_UNIT, VOLUME_UNIT

log = logging.getLogger(__name__)

_OUTPUT_FILES = (
    *("search.csv", "blends.csv", "ablation.csv", "surface.png", "ablation.png"),
    RECIPE_FILE,
)


@dataclass(frozen=True)
class TestScores:
    """Scores on the test split.

    Attributes:
        winner: Of the best combination.
        single: Of the best model alone, as it is evaluated without a search.
    """

    winner: SplitResult
    single: SplitResult

    # pytest would otherwise take the name for that of a test.
    __test__ = False

    def gain(self, metric: str, unit: str) -> tuple[float, tuple[float, float] | None]:
        """How much better the winner is over all sections.

        Args:
            metric: What is compared.
            unit: What has a score of its own; volumes are independent.

        Returns:
            The gain of the pooled scores, and the 95 % interval of the mean gain of a section;
            None with fewer than two sections.
        """
        row = METRICS[metric]
        pooled = row.merit(self.winner.scores()[metric] - self.single.scores()[metric])
        gains = {
            name: row.merit(scores[metric] - self.single.sections[name][metric])
            for name, scores in self.winner.sections.items()
        }
        return pooled, section_interval(gains, limits=(-row.span, row.span), unit=unit)[0]


def log_search(run: Run, result: SearchResult, recipe: Recipe, output: Path) -> None:
    """Logs tables and pictures of the search, also into the output folder."""
    metric = recipe.metric
    by_pixels = pixel_metric(metric)
    order = order_blends(result.histograms, by_pixels)
    blends = []
    for blend in order:
        curve = pixel_curve(result.histograms[blend], by_pixels)
        level = middle_of_best(curve, by_pixels)
        blends.append(describe_blend(blend) | {"level": level, by_pixels: float(curve[level])})
    ablation = [
        {"ingredient": each.name, "gain": each.gain, **each.candidate.describe()}
        for each in result.ablation
    ]
    tables = {
        "search.csv": [candidate.describe() for candidate in result.candidates],
        "blends.csv": blends,
        "ablation.csv": ablation,
    }
    for name, rows in tables.items():
        write_text(output / name, pd.DataFrame(rows).to_csv(index=False))
        run.log_file(output / name)
    figures = {
        "surface.png": surface_figure(result.histograms, order, by_pixels),
        "ablation.png": ablation_figure(result.ablation, metric),
    }
    for name, figure in figures.items():
        write_whole(output / name, partial(figure.savefig, format="png", dpi=130))
        run.log_file(output / name)
    run.log_metrics({f"val/{name}": value for name, value in recipe.validation.items()})
    run.log_facts({"search/combinations": result.combinations, "search/blends": len(order)})
    run.set_tags({"bench.recipe.recipe": recipe.describe(), "bench.chosen_by": f"val/{metric}"})
    row = METRICS[metric]
    run.keep_warnings(
        [
            f"chosen by {row.label} on validation ({row.write(recipe.validation[metric])}) of "
            f"{result.combinations:,} combinations: {recipe.describe()}"
        ]
    )


def log_combination(run: Run, recipe: Recipe, test: TestScores | None, output: Path) -> None:
    """Logs the recipe, and the gain on the test split where it was scored."""
    write_json(output / RECIPE_FILE, recipe_to_json(recipe))
    run.log_file(output / RECIPE_FILE)
    for metric in dict.fromkeys((HEADLINE, recipe.metric)) if test else ():
        assert test is not None
        gain, interval = test.gain(metric, VOLUME_UNIT if recipe.volume else SECTION_UNIT)
        run.log_metrics({f"gain/test_{metric}": gain})
        if interval is not None:
            low, high = interval
            run.log_metrics({f"gain/test_{metric}_low": low, f"gain/test_{metric}_high": high})


def show(result: SearchResult, recipe: Recipe, test: TestScores | None) -> None:
    """Prints what was found."""
    console, row = Console(), METRICS[recipe.metric]
    table = Table(title=f"{recipe.structure}: {row.label} on validation, chosen by it")
    for name in ("", row.heading, "Gain", "Combination"):
        table.add_column(name, overflow="fold")
    for each in result.ablation:
        score = row.write(each.candidate.scores[recipe.metric])
        table.add_row(each.name, score, row.write_change(each.gain), each.candidate.blend.short)
    console.print(table)
    console.print(f"Best of {result.combinations:,} combinations: {recipe.describe()}")
    if test is None:
        return
    single = result.single.blend.members[0]
    for metric in dict.fromkeys((recipe.metric, HEADLINE)):
        row = METRICS[metric]
        unit = VOLUME_UNIT if recipe.volume else SECTION_UNIT
        gain, interval = test.gain(metric, unit)
        count = len(test.winner.sections)
        within = f"{count} {unit}{'s' * (count != 1)}"
        if interval is not None:
            low, high = map(row.write_change, interval)
            within += f", 95 % interval of a {unit}'s {low} to {high}"
        score = row.write(test.winner.scores()[metric])
        console.print(
            f"{row.heading} on test: {score}, {row.write_change(gain)} against {single} alone "
            f"({within})"
        )


def restore_output(store: Store, run_id: str, output: Path) -> None:
    """Writes the files of a search that was made before into the output folder."""
    for name in _OUTPUT_FILES:
        kept = fetch_artifact(store, run_id, name)
        write_whole(output / name, partial(shutil.copyfile, kept))
    log.info("the search is kept, its files are written again to %s", output)
