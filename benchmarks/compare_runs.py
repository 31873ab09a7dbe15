"""Time and memory of the benchmark table of many runs, beside mlflow.search_runs and a pivot.

Both ways give the mean of ten scores of every method and structure over the newest run of each
seed; ours also reads the scores of the sections, intervals and costs. Each way runs in a process of
its own, in turns. Prints a table and writes compare_runs.json beside this file.

    PYTHONPATH=src python benchmarks/compare_runs.py [--repeats 3] [--server_repeats 1]
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from filled_store import SCORES, fill_store
from servers import make_database, postgres_programs, running_postgres

# Runs: a size, and four times that.
SIZES = (2500, 10_000)
# Seeds in each of 24 cells: few with many older versions of the code, or as many as there are runs.
LAYOUTS = {"120 cells, older versions of each": 5, "every run a cell of its own": 10_000}
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
    from bench.config import CompareConfig
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


def measure_store(uri: str, experiment: str, repeats: int) -> dict[str, object]:
    """Medians of both ways, their ratio, and the largest difference of a mean."""
    found = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            found[way].append(measure(uri, experiment, way))
    row: dict[str, object] = {}
    for way, runs in found.items():
        row[f"{way}_s"] = round(statistics.median(run[0] for run in runs), 2)
        row[f"{way}_cpu_s"] = round(statistics.median(run[1] for run in runs), 2)
        row[f"{way}_taken_mb"] = round(max(run[2] for run in runs))
    row["ratio"] = round(row["search_runs_s"] / row["compare_s"], 1)
    mine, peer = (found[way][0][3] for way in WAYS)
    assert mine.keys() == peer.keys()
    row["largest_difference"] = max(abs(mine[key] - peer[key]) for key in peer)
    return row


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


def measure_layout(size: int, seeds: int, kind: str, repeats: int) -> dict[str, object]:
    """Measures both ways on a store made for it."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        database = ""
        if kind == "PostgreSQL":
            database = make_database(stack.enter_context(running_postgres()), "many")
        served = kind == "server"
        uri, experiment = fill_store(place, size, seeds, served=served, uri=database)
        if not served:
            return measure_store(uri, experiment, repeats)
        server = serve(uri, place / "artifacts", place / "server.log")
        try:
            return measure_store(f"http://127.0.0.1:{PORT}", experiment, repeats)
        finally:
            server.terminate()
            server.wait()


def repeats_of(options: argparse.Namespace) -> dict[str, int]:
    """The stores, and how often each is measured; PostgreSQL where it is installed."""
    databases = ["SQLite"] + (["PostgreSQL"] if postgres_programs() else [])
    return dict.fromkeys(databases, options.repeats) | {"server": options.server_repeats}


def main() -> None:
    """Measures both ways on both layouts and sizes, in the database and through a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server_repeats", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for layout, seeds in LAYOUTS.items():
        for size in SIZES:
            for kind, repeats in repeats_of(options).items():
                if repeats:
                    name = {"runs": size, "layout": layout, "store": kind}
                    rows.append(name | measure_layout(size, seeds, kind, repeats))
                    print(rows[-1], flush=True)
    content = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores, shared",
        "repeats": options.repeats,
        "server_repeats": options.server_repeats,
        "rows": rows,
    }
    text = json.dumps(content, indent=2) + "\n"
    (Path(__file__).parent / "compare_runs.json").write_text(text)


if __name__ == "__main__":
    main()
