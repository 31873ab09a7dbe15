"""The grid: every method on every structure with every seed, then the table."""

import dataclasses
import logging
from pathlib import Path

from bench.cluster.clusters import choose_cluster
from bench.config.running import BenchmarkConfig
from bench.config.scoring import CompareConfig
from bench.config.settings import typed_settings
from bench.core.files import check_output
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.dataset.volumes import find_volumes
from bench.errors import BenchError
from bench.metrics.table import requested_metrics
from bench.search.candidates import check_metric
from bench.steps.compare import compare
from bench.steps.grid.causes import describe_causes
from bench.steps.grid.cells import GridCell, evaluate_cell, search_structure, take_turns
from bench.steps.grid.grid import check_external
from bench.steps.grid.plan import Plan, make_plan
from bench.steps.saying import say_next
from bench.steps.used_data import describe_run
from bench.tracking.opening import name_adopted, open_run
from bench.tracking.ownership.claims import BusyError
from bench.tracking.ownership.stale import reap
from bench.tracking.queries import Cell
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import NONE

log = logging.getLogger(__name__)


def benchmark(config: BenchmarkConfig) -> str:
    """Runs the grid and returns the id of the parent run, empty where only the plan is wanted.

    Everything that the cells need is checked before the first of them runs. A cell that was
    finished before is reused, one whose process is gone is resumed; one that fails does not stop
    the others.

    Raises:
        BenchError: If the grid cannot be made, or, at the end, if a cell failed.
    """
    store = open_store()
    store.resume, store.watch.expiry_s = config.resume, config.stale_min * 60
    dataset = PreparedDataset.open(config.dataset)
    dataset.sections(config.split)
    check_metric(config.metric)
    of_volumes = bool(find_volumes(dataset, config.split))
    for structure in dataset.structures:
        requested_metrics(config.metrics, structure, volumes=of_volumes)
    check_annotated(dataset)
    check_external(config, dataset)
    check_output(Path(config.output))
    cluster = choose_cluster(config.cluster, config.workers, config.device)
    plan = make_plan(dataclasses.replace(config, cluster=cluster), dataset, store)
    for line in plan.notes:
        log.warning("%s", line)
    for line in plan.lines:
        log.info("plan: %s", line)
    if config.plan:
        typed = {name: value for name, value in typed_settings(config).items() if name != "plan"}
        say_next("benchmark", typed, "run what was planned")
        name_adopted("benchmark")
        return ""
    reap(store)
    return _run_plan(plan, dataset, store)


def _run_plan(plan: Plan, dataset: PreparedDataset, store: Store) -> str:
    cells, config, digest = plan.cells, plan.config, dataset.content_hash
    identity = Identity("benchmark", config.identity(), {}, dataset=digest)
    with open_run(store, identity, reuse=False) as run:
        describe_run(run, dataset, config, vars(config), config.split)
        run.keep_warnings(plan.notes)
        run.log_text("\n".join([*plan.lines, *plan.notes, ""]), "plan.txt")
        failures = _run_grid(cells, config, store, run)
        if len(failures) < len(cells):
            table = CompareConfig(
                output=config.output,
                split=config.split,
                protocol=config.protocol,
                augmentations=config.augmentations,
                dataset=digest,
            )
            reasons = {
                Cell(cell.method.name, cell.structure.name, digest, cell.seed, cell.labelled): why
                for cell, why in failures.items()
                # That of a training with pseudo-masks is told by its own run.
                if not (cell.external or cell.pseudo)
            }
            compare(table, store, run.id, reasons, lambda found: run.log_metrics(found.scores()))
        if failures:
            raise BenchError(
                f"{len(failures)} of {len(cells)} cells failed ({describe_causes(failures)}): "
                "mend the cause, the same command then does only what is missing"
            )
    return run.id


def _run_grid(
    cells: list[GridCell], config: BenchmarkConfig, store: Store, run: Run
) -> dict[GridCell, str]:
    if config.cluster != NONE:
        from bench.steps.grid.graph import run_on_cluster

        return run_on_cluster(cells, config, store, run)
    evaluations, failures = _run_cells(cells, config, store, run)
    if config.optimize:
        _search_all(evaluations, config, store, run)
    return failures


def _run_cells(
    cells: list[GridCell], config: BenchmarkConfig, store: Store, run: Run
) -> tuple[dict[GridCell, dict[str, str]], dict[GridCell, str]]:
    """The evaluations of the cells, by split, and the reasons of those that failed."""
    evaluations: dict[GridCell, dict[str, str]] = {}
    failures: dict[GridCell, str] = {}

    def attempt(cell: GridCell) -> None:
        number = len(evaluations) + len(failures) + 1
        log.info("cell %d of %d: %s", number, len(cells), cell)
        try:
            if cell.own in failures:
                raise BenchError(failures[cell.own])
            evaluations[cell] = evaluate_cell(cell, config, store, run.id)
        except BusyError:
            raise
        except BenchError as error:
            failures[cell] = str(error)
            log.error("cell %s failed: %s", cell, error)
        except Exception as error:
            # Whatever it is, it is this cell's: the others may well be fine.
            failures[cell] = f"{type(error).__name__}: {error}"
            log.exception("cell %s failed", cell)
        run.log_metrics({"work/cells_done": number, "work/cells_failed": len(failures)}, number)

    take_turns(cells, attempt)
    return evaluations, failures


def _search_all(
    evaluations: dict[GridCell, dict[str, str]], config: BenchmarkConfig, store: Store, run: Run
) -> None:
    """Searches the best combination of every structure, over models that saw all annotations.

    A search that cannot be made is a warning: the table of the cells is worth having without.
    """
    by_structure: dict[str, list[str]] = {}
    for cell, found in evaluations.items():
        if cell.searched:
            by_structure.setdefault(cell.structure.name, []).append(found["val"])

    def attempt(structure: str) -> None:
        try:
            search_structure(structure, by_structure[structure], config, store, run.id)
        except BusyError:
            raise
        except BenchError as error:
            run.add_warning(f"no best combination of {structure}: {error}")

    take_turns(by_structure, attempt)
