"""The grid: every method on every structure with every seed, then the table."""

import dataclasses
import itertools
import logging
from dataclasses import dataclass

from bench.config import BenchmarkConfig, CompareConfig, EvaluateConfig, FinetuneConfig
from bench.data.prepared import PreparedDataset
from bench.errors import BenchError
from bench.methods import Method, find_method
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.structures import Structure, find_structures, split_names
from bench.tracking import queries
from bench.tracking.runs import Identity, Run, open_run
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation."""

    method: Method
    structure: Structure
    seed: int

    def __str__(self) -> str:
        """As people say it."""
        return f"{self.method.name} {self.structure.name} seed {self.seed}"


def benchmark(config: BenchmarkConfig) -> str:
    """Runs the grid and returns the id of the parent run.

    A cell that was finished before is reused; one that fails does not stop the others.

    Raises:
        BenchError: If the grid cannot be made, or, at the end, if a cell failed.
    """
    store = open_store()
    dataset = PreparedDataset.open(config.dataset)
    dataset.sections(config.split)
    cells = make_grid(config, dataset)
    identity = Identity("benchmark", config.identity(), {}, dataset=dataset.content_hash)
    with open_run(store, identity, reuse=False) as run:
        run.log_params(vars(config))
        failures = run_cells(cells, config, store, run)
        if len(failures) < len(cells):
            table = CompareConfig(
                output=config.output,
                split=config.split,
                protocol=config.protocol,
                dataset=dataset.content_hash,
            )
            reasons = {
                queries.Cell(
                    cell.method.name, cell.structure.name, dataset.content_hash, cell.seed
                ): why
                for cell, why in failures.items()
            }
            compare(table, store, run.id, reasons)
        if failures:
            named = "; ".join(f"{cell}: {reason}" for cell, reason in failures.items())
            raise BenchError(
                f"{len(failures)} of {len(cells)} cells failed ({named}): "
                "mend the cause, the same command then does only what is missing"
            )
    return run.id


def make_grid(config: BenchmarkConfig, dataset: PreparedDataset) -> list[Cell]:
    """The cells of a config.

    Raises:
        BenchError: If a name is unknown, a structure is not in the dataset, or nothing is named.
    """
    methods = [find_method(name) for name in dict.fromkeys(split_names(config.methods))]
    names = ",".join(dataset.structures) if config.structures == "all" else config.structures
    structures = find_structures(names)
    for structure in structures:
        dataset.instances(config.split, structure.name)
    seeds = split_names(config.seeds)
    if not (methods and seeds and all(seed.isdecimal() for seed in seeds)):
        raise BenchError(
            "a benchmark needs methods, and seeds that are whole numbers, received "
            f"methods={config.methods!r} and seeds={config.seeds!r}"
        )
    grid = itertools.product(structures, methods, dict.fromkeys(int(seed) for seed in seeds))
    return [Cell(method, structure, seed) for structure, method, seed in grid]


def run_cells(
    cells: list[Cell], config: BenchmarkConfig, store: Store, run: Run
) -> dict[Cell, str]:
    """Trains and evaluates every cell; returns the reasons of those that failed."""
    failures: dict[Cell, str] = {}
    for number, cell in enumerate(cells, start=1):
        log.info("cell %d of %d: %s", number, len(cells), cell)
        try:
            trained = finetune(training_config(config, cell), store, run.id)
            evaluation = EvaluateConfig(
                dataset=config.dataset,
                run_id=trained,
                split=config.split,
                protocol=config.protocol,
                device=config.device,
            )
            evaluate(evaluation, store, run.id)
        except BenchError as error:
            failures[cell] = str(error)
            log.error("cell %s failed: %s", cell, error)
        except Exception as error:
            # Whatever it is, it is this cell's: the others may well be fine.
            failures[cell] = f"{type(error).__name__}: {error}"
            log.exception("cell %s failed", cell)
        run.log_metrics({"cells/done": number, "cells/failed": len(failures)}, number)
    return failures


def training_config(config: BenchmarkConfig, cell: Cell) -> FinetuneConfig:
    """The settings of a cell's training: those of the benchmark, and the cell's own."""
    shared = {f.name for f in dataclasses.fields(FinetuneConfig)}
    settings = {name: value for name, value in vars(config).items() if name in shared}
    settings |= {"method": cell.method.name, "structure": cell.structure.name, "seed": cell.seed}
    if not cell.method.pretrained:
        settings["source"] = "auto"
    return FinetuneConfig(**settings)
