"""The benchmark table of everything that was evaluated."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.config.scoring import CompareConfig
from bench.core.files import check_output
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.metrics.table import HEADLINE, find_metric
from bench.report.comparisons import compare_pairs, mean_ranks
from bench.report.references import read_reference
from bench.report.tables import TableRow, benchmark_table
from bench.report.variants import variant_order
from bench.steps.table.external import find_external
from bench.steps.table.gains import find_gains
from bench.steps.table.records import collect_records
from bench.steps.table.report import Findings, print_findings, write_findings, write_page
from bench.steps.table.watch import Watch
from bench.structures import order_structures
from bench.tracking.newest import newest_evaluations
from bench.tracking.opening import open_run
from bench.tracking.ownership.stale import Activity, observe, reap
from bench.tracking.queries import Cell
from bench.tracking.runs import Identity
from bench.tracking.store import Store, experiment_id_of, open_store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scope:
    """What is compared.

    Attributes:
        config: The settings.
        store: The tracking store.
        experiment: Id of the experiment that is read.
        digest: Content hash of the dataset, or its start; empty for any.
        published: Rows of published scores.
        failures: Why cells have no score, where that is known.
    """

    config: CompareConfig
    store: Store
    experiment: str
    digest: str
    published: Sequence[TableRow]
    failures: Mapping[Cell, str]


def compare(
    config: CompareConfig,
    store: Store | None = None,
    parent: str | None = None,
    failures: Mapping[Cell, str] | None = None,
    tell: Callable[[Findings], None] = lambda findings: None,
) -> str:
    """Prints and writes the benchmark table; returns the id of the run that keeps it.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.
        failures: Why cells have no score, where that is known; an older score of such a cell is
            left out.
        tell: Takes what was found, but where it is watched.

    Raises:
        BenchError: If there is no such experiment, dataset or metric, nothing was evaluated, or
            the reference cannot be read.
    """
    check_output(Path(config.output))
    _check_metric(config.metric)
    published = [] if config.reference == NONE else read_reference(Path(config.reference))
    store = store or open_store()
    experiment = experiment_id_of(store, config.experiment)
    digest = _find_digest(config.dataset)
    if parent is None:
        reap(store, experiment)
    scope = Scope(config, store, experiment, digest, published, failures or {})
    if config.watch:
        return _watch(scope, parent)
    findings = find_scores(scope)
    if findings is None:
        raise _nothing_evaluated(config)
    print_findings(findings, Console())
    tell(findings)
    return _keep_findings(scope, findings, parent)


def _watch(scope: Scope, parent: str | None) -> str:
    """Shows the table until nothing changes it any more; an interruption keeps what is there."""

    def look_around() -> Activity:
        # A run whose process is gone would be waited for without end.
        reap(scope.store, scope.experiment)
        return observe(scope.store, scope.experiment)

    watching = Watch(
        look=lambda: find_scores(scope),
        observe=look_around,
        keep=lambda findings: write_findings(findings, Path(scope.config.output)),
        console=Console(),
    )
    try:
        watching.run(scope.config.watch_seconds)
    except KeyboardInterrupt:
        if watching.findings:
            _keep_findings(scope, watching.findings, parent)
        raise
    if watching.findings is None:
        raise _nothing_evaluated(scope.config)
    return _keep_findings(scope, watching.findings, parent)


def _nothing_evaluated(config: CompareConfig) -> BenchError:
    return BenchError(
        f"there must be an evaluation to tabulate, the experiment has none of split "
        f"{config.split} with protocol {config.protocol} and augmentations "
        f"{config.augmentations}: run evaluate or benchmark first"
    )


def find_scores(scope: Scope) -> Findings | None:
    """Everything that can be said of the evaluations; None if there is none."""
    config, metric = scope.config, scope.config.metric
    evaluations = newest_evaluations(scope.store, scope.experiment, config.split, config.protocol)
    asked = (scope.store, scope.experiment, config, scope.digest, evaluations)
    records = collect_records(*asked, scope.failures)
    if not any(record.scores for record in records):
        return None
    structures = order_structures(record.structure for record in records)
    methods = sorted({record.method for record in records}, key=variant_order)
    rows = benchmark_table(records, methods, structures, metric)
    pairs = compare_pairs(records, structures, metric)
    gains, external = find_gains(*asked), find_external(*asked)
    return Findings(rows, scope.published, records, pairs, mean_ranks(rows), gains, external)


def _keep_findings(scope: Scope, findings: Findings, parent: str | None) -> str:
    files = write_findings(findings, Path(scope.config.output))
    files += write_page(scope.store, scope.experiment, scope.config, findings)
    inputs = {"experiment": scope.experiment}
    identity = Identity("compare", scope.config.identity(), inputs, dataset=scope.digest)
    with open_run(scope.store, identity, parent=parent, reuse=False) as run:
        run.log_settings(vars(scope.config), scope.config)
        for file in files:
            run.log_file(file)
        log.info("written: %s (run %s)", ", ".join(str(file) for file in files), run.id)
    return run.id


def _check_metric(name: str) -> None:
    if find_metric(name).basis == "probability":
        raise BenchError(
            f"methods are compared by a metric that sections have, {name} is of a whole split: "
            f"choose one of pixels or instances, such as {HEADLINE}"
        )


def _find_digest(dataset: str) -> str:
    """The content hash of a dataset given by its folder or (start of its) hash; empty for auto."""
    if dataset == AUTO:
        return ""
    if re.fullmatch("[0-9a-f]{8,64}", dataset) and not Path(dataset).exists():
        return dataset
    return PreparedDataset.open(dataset).content_hash
