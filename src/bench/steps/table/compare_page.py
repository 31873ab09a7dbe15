"""The HTML page of compare: what the runs keep, gathered and written as one file."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bench.config.scoring import CompareConfig
from bench.core.files import write_text
from bench.errors import BenchError
from bench.report.figures.ranked_sections import typical_sections
from bench.report.page.jpeg import encode_jpeg, picture_budget
from bench.report.page.page import benchmark_page
from bench.report.page.records import Curve, Picture, Setting, Shown
from bench.report.tables import ScoreRecord, TableRow
from bench.steps.scoring.evaluation_report import PRECISION_RECALL_FILE, overlay_file
from bench.steps.table.report import Findings
from bench.tracking.history import day_of_end, experiment_name, metric_history, trained_run_of
from bench.tracking.queries import fetch_artifact
from bench.tracking.store import Store

log = logging.getLogger(__name__)

PAGE_FILE = "benchmark.html"


def write_page(store: Store, experiment: str, config: CompareConfig, findings: Findings) -> Path:
    """Writes the page into the output folder; what a run no longer has is named on it.

    Args:
        store: The tracking store.
        experiment: Id of the experiment that was compared.
        config: The settings of compare.
        findings: What compare found.

    Returns:
        The file.
    """
    runs = [(row, typical_run(row, findings.records)) for row in findings.rows if row.scores]
    sections = [typical_sections(record.section_scores) for _, record in runs]
    budget = picture_budget(sum(map(len, sections)))
    shown = [
        Shown(
            row,
            record.seed,
            record.run_id,
            [read_picture(store, record, name, role, budget) for name, role in roles.items()],
            read_precision_recall(store, record.run_id),
            read_training(store, record.run_id),
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
        setting, findings.rows, findings.published, shown, findings.comparisons, findings.ranks
    )
    path = Path(config.output) / PAGE_FILE
    write_text(path, page)
    return path


def typical_run(row: TableRow, records: Sequence[ScoreRecord]) -> ScoreRecord:
    """The record of a row whose Dice is the median over its seeds, the lower of two."""
    members = [record for record in records if record.run_id in row.run_ids and record.scores]
    members.sort(key=lambda record: record.scores.get("dice", 0.0))
    return members[(len(members) - 1) // 2]


def read_picture(store: Store, record: ScoreRecord, section: str, role: str, limit: int) -> Picture:
    """The overlay of a section, in at most ``limit`` bytes; without one, why."""
    scores, name = record.section_scores[section], overlay_file(section)
    try:
        with Image.open(fetch_artifact(store, record.run_id, name)) as image:
            return Picture(section, role, scores, *encode_jpeg(image, limit))
    except (BenchError, OSError) as error:
        log.warning("warning: run %s has no readable %s: %s", record.run_id, name, error)
        missing = f"run {record.run_id} has no readable {name} (moved or cleaned?)"
        return Picture(section, role, scores, missing=missing)


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


def read_training(store: Store, run_id: str) -> Curve:
    """Validation Dice against the iteration of the training that an evaluation scored."""
    trained = trained_run_of(store, run_id)
    if not trained:
        return Curve(missing="not trained, the source was scored as it is")
    history = metric_history(store, trained, "val/dice")
    if not history:
        return Curve(missing="the training run has no validation Dice in the store")
    iterations, dice = zip(*history, strict=True)
    return Curve(iterations, dice)
