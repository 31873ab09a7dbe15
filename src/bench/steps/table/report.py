"""What compare shows and writes of a benchmark, its HTML page included."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from rich.console import Console

from bench.config.scoring import CompareConfig
from bench.core.files import write_json, write_text, write_whole
from bench.errors import BenchError
from bench.metrics.table import HEADLINE
from bench.report import comparison_formats, external_formats
from bench.report.comparisons import Comparison, MeanRank
from bench.report.external import ExternalRow
from bench.report.figures.charts import has_curve, learning_curve, score_chart
from bench.report.figures.crops import PANELS
from bench.report.figures.curves import Curve
from bench.report.figures.overlays import typical_sections
from bench.report.gains import Gain, gains_to_markdown, print_gains
from bench.report.page.page import benchmark_page
from bench.report.page.pictures_section import encode_webp, panel_budget
from bench.report.page.records import Panel, Picture, Setting, Shown
from bench.report.prompts import find_prompt_scores, prompts_to_json, prompts_to_markdown
from bench.report.table_formats import cost_table, print_table, to_csv, to_latex, to_markdown
from bench.report.table_json import to_json
from bench.report.tables import ScoreRecord, TableRow
from bench.steps.scoring.score_files import (
    CROP_TITLE,
    PRECISION_RECALL_FILE,
    crop_file,
    overlay_file,
)
from bench.steps.table.trainings import read_trainings, write_training_figure
from bench.tracking.evaluations import day_of_end, experiment_name
from bench.tracking.queries import fetch_artifact
from bench.tracking.store import Store
from bench.tracking.views import CHART_FILE, PAGE_FILE

log = logging.getLogger(__name__)
# Scores of the table that the benchmark's own run has.
_OF_A_ROW = (HEADLINE, "iou", "instance_f1")
_WHOLE = "Annotation, prediction and errors of the whole section"


@dataclass(frozen=True)
class Findings:
    """All that compare found.

    Attributes:
        rows: The rows of the table.
        published: Rows of published scores, which stand below them.
        records: What the rows were made of.
        comparisons: Every pair of methods.
        ranks: Mean ranks of the methods.
        gains: What sections brought that were added to a dataset.
        external: What models score on other data than they were trained on.
    """

    rows: Sequence[TableRow]
    published: Sequence[TableRow]
    records: Sequence[ScoreRecord]
    comparisons: Sequence[Comparison]
    ranks: Sequence[MeanRank]
    gains: Sequence[Gain] = ()
    external: Sequence[ExternalRow] = ()

    @property
    def all_rows(self) -> list[TableRow]:
        """The rows of the whole table."""
        return [*self.rows, *self.published]

    def scores(self) -> dict[str, float]:
        """The scores of our rows by names such as ``mitochondria/dice finetuned``."""
        return {
            f"{row.structure}/{metric} {row.method}{' oracle' * row.oracle}": row.scores[metric]
            for row in self.rows
            for metric in _OF_A_ROW
            if metric in row.scores
        }


def print_findings(findings: Findings, console: Console) -> None:
    """Prints the table, and what follows of it for every structure."""
    print_table(findings.all_rows, console)
    comparison_formats.print_comparisons(findings.comparisons, console)
    print_gains(findings.gains, console)
    external_formats.print_external(findings.external, console)


def write_findings(findings: Findings, output: Path) -> list[Path]:
    """Writes everything into a folder; returns the files."""
    rows, comparisons = findings.all_rows, findings.comparisons
    prompts = find_prompt_scores(rows)
    texts = {
        "benchmark.md": "\n".join(filter(None, _markdown_parts(findings))),
        "benchmark.csv": to_csv(rows),
        "benchmark.tex": "\n".join(
            filter(None, [to_latex(rows), external_formats.external_to_latex(findings.external)])
        ),
        "comparisons.md": comparison_formats.to_markdown(comparisons, findings.ranks),
        "comparisons.csv": comparison_formats.to_csv(comparisons),
    }
    if findings.external:
        texts["external.csv"] = external_formats.external_to_csv(findings.external)
    for name, text in texts.items():
        write_text(output / name, text)
    whole = output / "benchmark.json"
    content = to_json(rows, findings.records, comparisons, findings.ranks)
    if prompts:
        content["prompts"] = prompts_to_json(prompts)
    if findings.gains:
        content["gains"] = [asdict(gain) | {"text": gain.describe()} for gain in findings.gains]
    if findings.external:
        content["external"] = external_formats.external_to_json(findings.external)
    write_json(whole, content)
    return [*(output / name for name in texts), whole, *_draw_charts(findings.rows, output)]


def _markdown_parts(findings: Findings) -> list[str]:
    rows = findings.all_rows
    return [
        to_markdown(rows),
        prompts_to_markdown(find_prompt_scores(rows)),
        external_formats.external_to_markdown(findings.external),
        gains_to_markdown(findings.gains),
        cost_table(rows),
    ]


def _draw_charts(rows: Sequence[TableRow], output: Path) -> list[Path]:
    charts = {output / CHART_FILE: score_chart}
    if has_curve(rows):
        charts[output / "learning_curve.png"] = learning_curve
    for path, draw in charts.items():
        write_whole(path, partial(draw(rows).savefig, format="png", dpi=130))
    return list(charts)


def write_page(
    store: Store, experiment: str, config: CompareConfig, findings: Findings
) -> list[Path]:
    """Writes the page into the output folder; what a run no longer has is named on it.

    The curves of trainings, for which the runs are read as well, are a picture beside it.

    Args:
        store: The tracking store.
        experiment: Id of the experiment that was compared.
        config: The settings of compare.
        findings: What compare found.

    Returns:
        The files.
    """
    runs = [(row, _typical_run(row, findings.records)) for row in findings.rows if row.scores]
    sections = [typical_sections(record.section_scores) for _, record in runs]
    budget = panel_budget(len(PANELS) * sum(map(len, sections)))
    trainings = {
        (row.method, row.structure, row.dataset): read_trainings(store, row.run_ids, record.run_id)
        for row, record in runs
    }
    shown = [
        Shown(
            row,
            record.seed,
            record.run_id,
            [_read_picture(store, record, name, role, budget) for name, role in roles.items()],
            _no_curve() if row.oracle else read_precision_recall(store, record.run_id),
            trainings[row.method, row.structure, row.dataset],
        )
        for (row, record), roles in zip(runs, sections, strict=True)
    ]
    days = sorted(day_of_end(store, run) for row in findings.rows for run in row.run_ids)
    setting = Setting(
        experiment_name(store, experiment),
        config.split,
        config.protocol,
        config.augmentations,
        tuple(dict.fromkeys((days[0], days[-1]))),
    )
    page = benchmark_page(
        setting,
        findings.rows,
        findings.published,
        shown,
        findings.comparisons,
        findings.ranks,
        findings.external,
    )
    path = Path(config.output) / PAGE_FILE
    write_text(path, page)
    return [path, *write_training_figure(trainings, Path(config.output))]


def _typical_run(row: TableRow, records: Sequence[ScoreRecord]) -> ScoreRecord:
    """The record of a row whose Dice is the median over its seeds, the lower of two."""
    members = [record for record in records if record.run_id in row.run_ids and record.scores]
    members.sort(key=lambda record: record.scores.get(HEADLINE, 0.0))
    return members[(len(members) - 1) // 2]


def _read_picture(
    store: Store, record: ScoreRecord, section: str, role: str, limit: int
) -> Picture:
    """The crop of a section in panels of at most ``limit`` bytes; without one, why.

    Runs of an earlier version have an overlay of the whole section in its place.
    """
    scores, name = record.section_scores[section], overlay_file(section)
    try:
        with Image.open(fetch_artifact(store, record.run_id, crop_file(section))) as image:
            place, width = image.info.get(CROP_TITLE, ""), image.width // len(PANELS)
            panels = [
                Panel(title, *encode_webp(image.crop((left, 0, left + width, image.height)), limit))
                for title, left in zip(PANELS, range(0, image.width, width), strict=True)
            ]
            return Picture(section, role, scores, panels, place)
    except (BenchError, OSError):
        log.debug("run %s has no crop of %s", record.run_id, section)
    try:
        with Image.open(fetch_artifact(store, record.run_id, name)) as image:
            panel = Panel(_WHOLE, *encode_webp(image, len(PANELS) * limit))
            return Picture(section, role, scores, [panel])
    except (BenchError, OSError) as error:
        log.warning("warning: run %s has no readable %s: %s", record.run_id, name, error)
        missing = f"run {record.run_id} has no readable {name} (moved or cleaned?)"
        return Picture(section, role, scores, missing=missing)


def _no_curve() -> Curve:
    return Curve(missing="masks of prompts have no threshold (oracle)")


def read_precision_recall(store: Store, run_id: str) -> Curve:
    """Precision against recall of an evaluation at every threshold that finds anything."""
    try:
        text = fetch_artifact(store, run_id, PRECISION_RECALL_FILE).read_text()
        points = [
            (float(line["recall"]), float(line["precision"]))
            for line in csv.DictReader(text.splitlines())
        ]
    except (BenchError, OSError, KeyError, ValueError):
        return Curve(
            missing=f"no readable {PRECISION_RECALL_FILE} in the run (of an earlier version, moved "
            "or cleaned?), evaluate again to have it"
        )
    found = [(recall, precision) for recall, precision in points if recall + precision > 0]
    if not found:
        return Curve(missing="no pixel was found at any threshold")
    recall, precision = zip(*found, strict=True)
    return Curve(recall, precision)
