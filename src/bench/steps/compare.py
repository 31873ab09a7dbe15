"""The benchmark table of everything that was evaluated."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console

from bench.comparisons import compare_pairs, mean_ranks
from bench.config import AUTO, NONE, CompareConfig
from bench.data.prepared import PreparedDataset
from bench.errors import BenchError
from bench.methods import variant_order
from bench.references import read_reference
from bench.steps.compare_report import Findings, print_findings, write_findings
from bench.steps.score_records import collect_records
from bench.structures import STRUCTURES
from bench.tables import benchmark_table
from bench.tracking.queries import Cell
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
        BenchError: If there is no such experiment or dataset, nothing was evaluated, or the
            reference cannot be read.
    """
    published = [] if config.reference == NONE else read_reference(Path(config.reference))
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
    structures = order_names(STRUCTURES, {record.structure for record in records})
    methods = sorted({record.method for record in records}, key=variant_order)
    rows = benchmark_table(records, methods, structures)
    findings = Findings(
        rows, published, records, compare_pairs(records, structures), mean_ranks(rows)
    )
    print_findings(findings, Console())
    files = write_findings(findings, Path(config.output))
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


def order_names(table: Iterable[str], found: set[str]) -> list[str]:
    """The names found, those of a literal table first and in its order."""
    known = [name for name in table if name in found]
    return known + sorted(found - set(known))
