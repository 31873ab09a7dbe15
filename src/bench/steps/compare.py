"""The benchmark table of everything that was evaluated."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.charts import score_chart
from bench.config import AUTO, CompareConfig
from bench.data.prepared import PreparedDataset
from bench.errors import BenchError
from bench.files import write_text, write_whole
from bench.inference.symmetries import NONE, find_augmentations
from bench.learning_curve import has_curve, learning_curve
from bench.methods import find_method, variant_name, variant_order
from bench.steps.evaluation_report import SCORES_FILE
from bench.structures import STRUCTURES
from bench.table_formats import print_table, to_csv, to_latex, to_markdown
from bench.tables import ScoreRecord, TableRow, benchmark_table
from bench.tracking.queries import (
    Cell,
    FoundRun,
    fetch_artifact,
    find_evaluations,
    find_trainings,
)
from bench.tracking.runs import Identity, open_run
from bench.tracking.store import Store, experiment_id_of, open_store

log = logging.getLogger(__name__)


def compare(
    config: CompareConfig,
    store: Store | None = None,
    parent: str | None = None,
    failures: Mapping[Cell, str] | None = None,
) -> str:
    """Prints and writes the benchmark table; returns the id of the run that keeps it.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.
        failures: Why cells have no score, where that is known; an older score of such a cell is
            left out.

    Raises:
        BenchError: If there is no such experiment or dataset, or nothing was evaluated.
    """
    store = store or open_store()
    experiment = experiment_id_of(store, config.experiment)
    digest = find_digest(config.dataset)
    records = collect_records(store, experiment, config, digest, failures or {})
    if not any(record.scores for record in records):
        raise BenchError(
            f"there must be an evaluation to tabulate, the experiment has none of split "
            f"{config.split} with protocol {config.protocol} and augmentations "
            f"{config.augmentations}: run evaluate or benchmark first"
        )
    rows = benchmark_table(
        records,
        sorted({record.method for record in records}, key=variant_order),
        order_names(STRUCTURES, {record.structure for record in records}),
    )
    print_table(rows, Console())
    files = write_tables(rows, Path(config.output))
    identity = Identity("compare", config.identity(), {"experiment": experiment}, dataset=digest)
    with open_run(store, identity, parent=parent, reuse=False) as run:
        run.log_params(vars(config))
        for file in files:
            run.log_file(file)
        log.info("written: %s (run %s)", ", ".join(str(file) for file in files), run.id)
    return run.id


def find_digest(dataset: str) -> str:
    """The content hash of a dataset given by its folder or (start of its) hash; empty for auto."""
    if dataset == AUTO:
        return ""
    if re.fullmatch("[0-9a-f]{8,64}", dataset) and not Path(dataset).exists():
        return dataset
    return PreparedDataset.open(dataset).content_hash


def collect_records(
    store: Store,
    experiment: str,
    config: CompareConfig,
    digest: str,
    failures: Mapping[Cell, str],
) -> list[ScoreRecord]:
    """One record per cell and seed: of the newest evaluation, else why there is none."""
    records = {cell: reason_record(cell, reason) for cell, reason in failures.items()}
    labels: dict[str, str] = {}
    for evaluation in find_evaluations(
        store, experiment, config.split, config.protocol, config.augmentations
    ):
        cell = evaluation.cell
        labels.setdefault(cell.dataset, evaluation.dataset_label)
        if cell.dataset.startswith(digest) and cell not in records:
            records[cell] = scored_record(store, evaluation, config)
    for training in find_trainings(store, experiment):
        cell = training.cell
        labels.setdefault(cell.dataset, training.dataset_label)
        if cell.dataset.startswith(digest) and cell not in records:
            records[cell] = reason_record(cell, why_no_score(training, config))
    # Folders of other names may hold the same dataset: the newest name stands for all.
    return [replace(record, dataset=labels[record.dataset]) for record in records.values()]


def scored_record(store: Store, evaluation: FoundRun, config: CompareConfig) -> ScoreRecord:
    """The record of an evaluation, with its scores per section."""
    scores = json.loads(fetch_artifact(store, evaluation.id, SCORES_FILE).read_text())
    return ScoreRecord(
        **identify_cell(evaluation.cell),
        run_id=evaluation.id,
        scores=scores["pooled"],
        section_scores=scores["sections"],
        warnings=(*evaluation.warnings, *describe_augmentations(config.augmentations)),
    )


def describe_augmentations(choice: str) -> list[str]:
    """What the table says of scores under test-time augmentation."""
    number = len(find_augmentations(choice))
    return [f"mean over {number} symmetries (augmentations={choice})"] if number > 1 else []


def reason_record(cell: Cell, reason: str) -> ScoreRecord:
    """The record of a cell without a score."""
    return ScoreRecord(**identify_cell(cell), run_id="", reason=reason)


def identify_cell(cell: Cell) -> dict[str, Any]:
    """What a record says of its cell; fewer labelled sections make a row of their own."""
    fields = vars(cell) | {"method": variant_name(cell.method, cell.labelled)}
    return {name: value for name, value in fields.items() if name != "labelled"}


def why_no_score(training: FoundRun, config: CompareConfig) -> str:
    """Why a training was not evaluated."""
    plain = config.augmentations == NONE
    if not plain and find_method(training.cell.method).start == "sam":
        return "micro-SAM finds instances, whose ids have no mean over augmentations"
    if training.status == "FINISHED":
        how = config.split if plain else f"{config.split} with augmentations={config.augmentations}"
        return f"trained, not evaluated on {how}: evaluate run {training.id}"
    if training.status == "RUNNING":
        return f"training has not ended (run {training.id})"
    return f"training {training.status.lower()}: {training.reason or 'no reason known'}"


def order_names(table: Iterable[str], found: set[str]) -> list[str]:
    """The names found, those of a literal table first and in its order."""
    known = [name for name in table if name in found]
    return known + sorted(found - set(known))


def write_tables(rows: list[TableRow], output: Path) -> list[Path]:
    """Writes the table in all formats, and the chart; returns the files."""
    texts = {"md": to_markdown(rows), "csv": to_csv(rows), "tex": to_latex(rows)}
    files = [output / f"benchmark.{suffix}" for suffix in texts]
    for file, text in zip(files, texts.values(), strict=True):
        write_text(file, text)
    chart = output / "benchmark.png"
    write_whole(chart, lambda path: score_chart(rows).savefig(path, format="png", dpi=130))
    files.append(chart)
    if has_curve(rows):
        curve = output / "learning_curve.png"
        write_whole(curve, lambda path: learning_curve(rows).savefig(path, format="png", dpi=130))
        files.append(curve)
    return files
