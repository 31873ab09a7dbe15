"""Many processes that log at once to one store: is anything lost, and how fast is it.

Four stores in turn: an SQLite file, `mlflow server` on SQLite, PostgreSQL, and `mlflow server` on
PostgreSQL (left out where it is not installed). Every writer makes runs of its own through
bench.tracking, as the steps do. Afterwards everything is counted, and compared with what was
logged: runs, parameters, tags, every value of every metric, and the bytes of every artifact.

    PYTHONPATH=src python benchmarks/many_writers.py [--writers 16] [--runs 4] [--steps 200]
"""

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import MlflowServer, make_database, postgres_programs, running_postgres

STORES = ("SQLite", "server on SQLite", "PostgreSQL", "server on PostgreSQL")
METRICS = ("train/loss", "train/lr", "val/dice")
PARAMS = 15
# Steps that one call logs.
FLUSH = 20


@dataclass(frozen=True)
class Load:
    """What is written: processes, runs of each, steps of each run."""

    writers: int
    runs: int
    steps: int


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        found: Runs that are there, finished.
        lost: Parameters, tags, metric values and artifacts that are not as they were logged.
        late: Runs that had to wait for the store.
        seconds: From the first writer's start to the last one's end.
    """

    found: int
    lost: int
    late: int
    seconds: float


def logged_by(writer: int, number: int, steps: int) -> dict[str, Any]:
    """What a run logs, made from its number."""
    key = f"{writer}-{number}"
    return {
        "params": {f"p{index}": f"{key}-{index}" for index in range(PARAMS)},
        "tags": {"bench.dataset_name": key},
        "series": [
            (step, {name: writer + number + step / (i + 1) for i, name in enumerate(METRICS)})
            for step in range(1, steps + 1)
        ],
        "text": f"{key}\n" * 100,
    }


def write_runs(uri: str, experiment: str, load: Load, writer: int, start: Any) -> None:
    """Logs the runs of one writer, once all are ready."""
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_ID": experiment}
    # mlflow says on stdout where every run is seen.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from bench.tracking.opening import open_run
    from bench.tracking.runs import Identity
    from bench.tracking.store import open_store

    store = open_store()
    start.wait()
    for number in range(load.runs):
        content = logged_by(writer, number, load.steps)
        identity = Identity("finetune", {"writer": writer, "number": number}, {}, seed=number)
        with open_run(store, identity) as run:
            run.log_params(content["params"])
            run.set_tags(content["tags"])
            for first in range(0, load.steps, FLUSH):
                run.log_series(content["series"][first : first + FLUSH])
            run.log_text(content["text"], "written.txt")


def write_all(uri: str, artifacts: str | None, load: Load) -> Outcome:
    """Lets all writers write, and compares what is there."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    name = f"writers {time.time_ns()}"
    experiment = client.create_experiment(name, artifact_location=artifacts)
    # What every writer imports is imported once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.tracking.opening"])
    start = context.Barrier(load.writers + 1)
    processes = [
        context.Process(target=write_runs, args=(uri, experiment, load, writer, start))
        for writer in range(load.writers)
    ]
    for process in processes:
        process.start()
    start.wait()
    begun = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - begun
    return compare_content(client, experiment, load, seconds)


def compare_content(client: Any, experiment: str, load: Load, seconds: float) -> Outcome:
    """Counts what is there of what was logged."""
    runs = {
        run.data.tags.get("bench.dataset_name"): run
        for run in client.search_runs([experiment], max_results=10_000)
        if run.info.status == "FINISHED"
    }
    lost = late = 0
    for writer in range(load.writers):
        for number in range(load.runs):
            content, run = logged_by(writer, number, load.steps), runs.get(f"{writer}-{number}")
            if run is None:
                lost += PARAMS + len(METRICS) * load.steps + 2
                continue
            late += "bench.sent_late" in run.data.tags
            lost += sum(
                run.data.params.get(name) != value for name, value in content["params"].items()
            )
            for name in METRICS:
                there = client.get_metric_history(run.info.run_id, name)
                values = sorted((point.step, point.value) for point in there)
                wanted = [(step, numbers[name]) for step, numbers in content["series"]]
                lost += len(set(wanted) ^ set(values)) + abs(len(values) - len(set(values)))
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(run.info.run_id, "written.txt", folder)
                lost += Path(path).read_text() != content["text"]
    return Outcome(len(runs), lost, late, seconds)


@contextlib.contextmanager
def running_store(kind: str) -> Iterator[tuple[str, str | None]]:
    """Runs one of STORES; yields its address, and where artifacts go unless a server takes them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if "PostgreSQL" in kind:
            backend = make_database(stack.enter_context(running_postgres()), "mlflow")
        else:
            backend = f"sqlite:///{folder / 'mlflow.db'}"
        if not kind.startswith("server"):
            prepare(backend)
            yield backend, str(folder / "artifacts")
            return
        server = MlflowServer(folder / "server", backend)
        stack.callback(server.kill)
        yield server.start().uri, None


def prepare(backend: str) -> None:
    """Makes the tables of a database, by one process."""
    from mlflow.tracking import MlflowClient

    MlflowClient(tracking_uri=backend).search_experiments(max_results=1)


def main() -> None:
    """Measures all stores and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--stores", default=",".join(STORES))
    options = parser.parse_args()
    load = Load(options.writers, options.runs, options.steps)
    values = load.writers * load.runs * load.steps * len(METRICS)
    print("| store | writers | runs | lost | late | metrics/s |\n|---|---|---|---|---|---|")
    for kind in options.stores.split(","):
        if "PostgreSQL" in kind and postgres_programs() is None:
            print(f"| {kind} | not installed |")
            continue
        with running_store(kind) as (uri, artifacts):
            outcome = write_all(uri, artifacts, load)
        print(
            f"| {kind} | {load.writers} | {outcome.found} of {load.writers * load.runs} | "
            f"{outcome.lost} | {outcome.late} | {values / outcome.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
