"""CPU seconds that an entry point takes until its step can begin: its imports, and the store open.

Each in a process of its own, on one thread, in turns, with all files in the page cache; the best of
the rounds. What a step imports later (matplotlib, a network's package) is not in it:
`import_share.py` counts that in whole commands.

    PYTHONPATH=src python benchmarks/start_up.py [--rounds 3] [--only prepare compare]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from measuring import HERE, Line, report

PROJECT = HERE.parent
NAMES = sorted({path.stem for path in (PROJECT / "entrypoints").glob("*.py")} - {"cli", "command"})
# Goals in CPU seconds: of a step that loads torch, and of any other.
WITH_TORCH_S, OTHERS_S = 3.0, 1.5
# As an entry point begins, in the same order; some steps open the store later, or not at all.
BEGIN = """
import importlib, sys, time
sys.path.insert(0, sys.argv[1])
import cli
importlib.import_module(sys.argv[2])
with cli.importing():
    importlib.import_module(f"bench.steps.{sys.argv[2]}")
imported = time.process_time()
if "bench.tracking.store" in sys.modules:
    sys.modules["bench.tracking.store"].open_store()
print(imported, time.process_time(), *sorted({name.split(".")[0] for name in sys.modules}))
"""
# What a script begins with that keeps its runs as ours do, and computes with a network or not.
PEERS = {
    False: "import mlflow; mlflow.MlflowClient().search_experiments(max_results=1)",
    True: "import mlflow, torch; mlflow.MlflowClient().search_experiments(max_results=1)",
}
SAY = "; import time; print(0, time.process_time())"


@dataclass(frozen=True)
class Start:
    """CPU seconds of a process: after its imports, and once the store is open."""

    imported_s: float
    opened_s: float
    torch: bool


def start(environment: dict[str, str], *command: str) -> Start:
    """Runs Python until a step could begin."""
    imported, opened, *packages = subprocess.run(
        [sys.executable, "-c", *command],
        check=True,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
    ).stdout.split()
    return Start(float(imported), float(opened), "torch" in packages)


def measure(names: list[str], rounds: int) -> dict[str, Start]:
    """The best start of each entry point, and of each peer by its program."""
    commands = {name: (BEGIN, str(PROJECT / "entrypoints"), name) for name in names}
    commands |= {peer: (peer + SAY,) for peer in PEERS.values()}
    best: dict[str, Start] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: text for name, text in os.environ.items() if "MLFLOW" not in name} | {
            "PYTHONPATH": str(PROJECT / "src"),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        # Makes the store.
        start(environment, *commands["prepare" if "prepare" in names else names[0]])
        for _ in range(rounds):
            for name, command in commands.items():
                found = start(environment, *command)
                if name not in best or found.opened_s < best[name].opened_s:
                    best[name] = found
    return best


def main() -> None:
    """Measures all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    best = measure(options.only, options.rounds)
    print("| entry point | torch | imports, CPU s | store open, CPU s |\n|---|---|---:|---:|")
    for name, found in best.items():
        torch = "yes" if found.torch else "no"
        print(f"| {name} | {torch} | {found.imported_s:.2f} | {found.opened_s:.2f} |")
    lines = []
    for torch, peer in PEERS.items():
        group = {name: best[name] for name in options.only if best[name].torch == torch}
        if not group:
            continue
        slowest = max(group, key=lambda name: group[name].opened_s)
        room = (WITH_TORCH_S if torch else OTHERS_S) - group[slowest].opened_s
        goal = f"< {WITH_TORCH_S if torch else OTHERS_S} s"
        lines.append(
            Line(
                "start",
                f"slowest of {len(group)} {'with' if torch else 'without'} torch, {slowest}",
                group[slowest].opened_s,
                peer,
                best[peer].opened_s,
                None,
                "the same store is open",
                f"CPU, {goal}: {'met' if room > 0 else 'missed'} by {abs(room):.2f} s; quickest "
                f"{min(found.opened_s for found in group.values()):.2f} s",
            )
        )
    report(__file__, lines)


if __name__ == "__main__":
    main()
