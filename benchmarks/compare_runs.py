"""Time and memory of the benchmark table of many runs, beside mlflow.search_runs and a pivot.

Both ways give the mean of ten scores of every method and structure over the newest run of each
seed; ours also reads the scores of the sections, intervals and costs. Each way runs in a process of
its own, in turns; seconds are without its imports.

    PYTHONPATH=src python benchmarks/compare_runs.py [--cases "a cell each, server" ...]
"""

import argparse
import contextlib
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from filled_store import SCORES, fill_store
from measuring import Line, report
from servers import make_database, running_postgres

# Runs: a size, and four times that.
SIZES = (2500, 10_000)
# Seeds in each of 24 cells: few with many older versions of the code, or as many as there are runs.
LAYOUTS = {"120 cells": 5, "a cell each": 10_000}
STORES = ("SQLite", "PostgreSQL", "server")
# Asked for at the larger size; half a second to one of ours does not depend on it.
GOALS = {"SQLite": 5.0, "PostgreSQL": 5.0, "server": 3.0}
CASES = [f"{layout}, {kind}" for layout in LAYOUTS for kind in STORES]
WAYS = ("compare", "search_runs")
PORT = 5391
Means = dict[tuple[str, str, str], float]


def tabulate(queue: multiprocessing.Queue, uri: str, experiment: str, way: str) -> None:
    """Tabulates one way; reports seconds, CPU seconds, memory taken (MB), and the means."""
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_ID": experiment}
    import pandas as pd  # noqa: F401

    from bench.tracking.store import open_store

    open_store()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, worked = time.perf_counter(), time.process_time()
    means = {"compare": ours, "search_runs": theirs}[way](uri, experiment)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    queue.put((seconds, cpu, taken, means))


def ours(uri: str, experiment: str) -> Means:
    """The rows of compare, with all that it reads for them."""
    from bench.config.scoring import CompareConfig
    from bench.steps.compare import Scope, find_scores
    from bench.tracking.store import open_store

    findings = find_scores(Scope(CompareConfig(), open_store(), experiment, "", [], {}))
    return {
        (row.method, row.structure, name): row.scores[name]
        for row in findings.rows
        for name in SCORES
    }


def theirs(uri: str, experiment: str) -> Means:
    """The same means by pandas."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    tags = {"step": "evaluate", "split": "test", "protocol": "data"}
    clauses = [f"tags.`bench.{name}` = '{value}'" for name, value in tags.items()]
    clauses.append("attributes.status = 'FINISHED'")
    runs = mlflow.search_runs([experiment], " AND ".join(clauses), max_results=100_000)
    cell = [f"tags.bench.{name}" for name in ("method", "structure", "seed")]
    newest = runs.drop_duplicates(cell)
    columns = [f"metrics.test/{name}" for name in SCORES]
    means = newest.groupby(cell[:2])[columns].mean()
    return {
        (*keys, name): float(value)
        for keys, row in zip(means.index, means.to_numpy(), strict=True)
        for name, value in zip(SCORES, row, strict=True)
    }


def measure(uri: str, experiment: str, way: str) -> tuple[float, float, float, Means]:
    """Runs one way in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=tabulate, args=(queue, uri, experiment, way))
    process.start()
    found = queue.get()
    process.join()
    return found


def measure_store(
    uri: str,
    experiment: str,
    size: str,
    goal: float | None,
    repeats: int,
    server: psutil.Process | None = None,
) -> Line:
    """Both ways in turns, each time in new processes; their seconds are those without imports."""
    found: dict[str, list] = {way: [] for way in WAYS}
    served: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            before = cpu_seconds(server)
            found[way].append(measure(uri, experiment, way))
            served[way].append(cpu_seconds(server) - before)
    seconds = {way: statistics.median(run[0] for run in found[way]) for way in WAYS}
    work = {way: statistics.median(run[1] for run in found[way]) for way in WAYS}
    memory = {way: max(run[2] for run in found[way]) for way in WAYS}
    mine, peer = (found[way][0][3] for way in WAYS)
    assert mine.keys() == peer.keys()
    difference = max(abs(mine[key] - peer[key]) for key in peer)
    theirs_too = {way: statistics.median(seconds) for way, seconds in served.items()}
    beside = f", the server's {theirs_too['compare']:.2f} of {theirs_too['search_runs']:.2f}"
    return Line(
        "compare, through a server" if server else "compare",
        size,
        seconds["compare"],
        "mlflow.search_runs, pivot",
        seconds["search_runs"],
        goal,
        f"largest difference of {len(peer)} means {difference:.1g}",
        f"CPU {work['compare']:.2f} s of {work['search_runs']:.2f}"
        f"{beside if server else ''}; memory taken "
        f"{memory['compare']:.0f} MB of {memory['search_runs']:.0f}",
    )


def cpu_seconds(process: psutil.Process | None) -> float:
    """CPU seconds of a process and all that it started so far; 0 of none."""
    if process is None:
        return 0.0
    each = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(times.user + times.system for times in each)


def serve(uri: str, artifacts: Path, log: Path) -> subprocess.Popen:
    """Starts `mlflow server` on this machine and waits until it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(PORT), "--workers", "2"]
    command += ["--backend-store-uri", uri, "--artifacts-destination", str(artifacts)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health"):
                return server
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    server.terminate()
    raise SystemExit(f"the server does not answer: {log.read_text()}")


def measure_layout(runs: int, layout: str, kind: str, repeats: int) -> Line:
    """Measures both ways on a store made for it."""
    size, goal = f"{runs:,} runs, {layout}, {kind}", GOALS[kind] if runs == SIZES[-1] else None
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        database = ""
        if kind == "PostgreSQL":
            database = make_database(stack.enter_context(running_postgres()), "many")
        served = kind == "server"
        uri, experiment = fill_store(place, runs, LAYOUTS[layout], served=served, uri=database)
        if not served:
            return measure_store(uri, experiment, size, goal, repeats)
        server = serve(uri, place / "artifacts", place / "server.log")
        try:
            address, process = f"http://127.0.0.1:{PORT}", psutil.Process(server.pid)
            return measure_store(address, experiment, size, goal, repeats, process)
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Measures both ways at both sizes, each case of cells and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lines = []
    for case in options.cases:
        layout, kind = case.split(", ")
        for runs in SIZES:
            lines.append(measure_layout(runs, layout, kind, options.repeats))
    report(__file__, lines)


if __name__ == "__main__":
    main()
