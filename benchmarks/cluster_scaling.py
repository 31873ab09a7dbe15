"""How well a grid of 24 short cells spreads over 1, 2, 4 and 8 local workers.

Steps sleep in place of computing, so that the machine's cores do not matter: what is measured is
what the graph and dask add. A cell is a training and an evaluation; the trainings of every third
cell start from an adaptation that three of them share. Efficiency is the time of all steps
over (workers x wall time); starting the workers does not count.

    python benchmarks/cluster_scaling.py --step_s 2
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from bench.cluster.clusters import open_cluster
from bench.cluster.graph import Outcome, Task, run_graph

CELLS, WORKERS = 24, (1, 2, 4, 8)
EVALUATION, ADAPTATION = 0.25, 0.5


def sleep(given: dict[str, Any]) -> Outcome:
    """A step."""
    time.sleep(given["payload"])
    return Outcome("done")


def make_graph(step_s: float) -> list[Task]:
    """The grid: trainings of about a step's time, a fifth shorter or longer."""
    rng = random.Random(0)  # noqa: S311
    tasks = [Task(f"adapt {n}", step_s * ADAPTATION) for n in range(CELLS // 9 + 1)]
    for cell in range(CELLS):
        needs = (f"adapt {cell // 9}",) if cell % 3 == 0 else ()
        tasks.append(Task(f"train {cell}", step_s * rng.uniform(0.8, 1.2), needs))
        tasks.append(Task(f"evaluate {cell}", step_s * EVALUATION, (f"train {cell}",)))
    return tasks


def measure(workers: int, tasks: list[Task]) -> float:
    """Seconds that a graph takes."""
    with open_cluster("local", workers, {}) as client:
        client.wait_for_workers(workers, timeout=120)
        started = time.monotonic()
        outcomes = run_graph(tasks, client, sleep)
        elapsed = time.monotonic() - started
    assert all(outcome.state == "done" for outcome in outcomes.values())
    return elapsed


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step_s", type=float, default=2.0, help="Seconds of a training.")
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    arguments = parser.parse_args()
    tasks = make_graph(arguments.step_s)
    work = sum(task.payload for task in tasks)
    print(f"{CELLS} cells, {len(tasks)} steps, {work:.1f} s of work")
    print("| workers | wall s | efficiency |\n|---|---|---|")
    for workers in arguments.workers:
        elapsed = measure(workers, tasks)
        print(f"| {workers} | {elapsed:.1f} | {work / workers / elapsed:.3f} |", flush=True)


if __name__ == "__main__":
    main()
