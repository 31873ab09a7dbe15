"""The share of `make demo` that goes into imports.

Runs the demo's commands, each with its own process and mlflow's around it, on images and numbers of
iterations as small as they get: what is imported is the same. A hook counts the seconds in imports
of every process; they are set against the time that the demo takes (``--demo_s``, measured apart).

    PYTHONPATH=src python benchmarks/import_share.py [--demo_s 456]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import HERE, Line, report

PROJECT = HERE.parent
STRUCTURES = ("vesicles", "mitochondria", "membrane")
SHORT = "iterations=2;epoch_iterations=2;batch_size=1;patch_px=64"
SHORT_SAM = "iterations=2;patch_px=64;tile_px=64;halo_px=8;batch_size=2;sub_iterations=1"
# A twentieth of the demo.
GOAL = 20.0


def list_commands(folder: Path) -> dict[str, dict[str, str]]:
    """The demo's entry points with the settings of a tiny one."""
    data, models = str(folder / "data"), folder / "models"
    source, sam = (
        ",".join(f"{name}={models}/{name}{kind}.pt" for name in STRUCTURES) for kind in ("", "_sam")
    )
    sizes = {"tile_px": "128"}
    grid = {"patch_px": "64", "iterations": "2", "epoch_iterations": "2", "domain_adapt": SHORT}
    return {
        "phantom": {"output": f"{folder}/images", "size_px": "256", "montage_px": "320"},
        "prepare": {"input": f"{folder}/images", "output": data},
        "phantom_models": sizes
        | {"dataset": data, "output": str(models), "iterations": "2", "sam_iterations": "2"},
        "benchmark": sizes
        | grid
        | {"dataset": data, "output": f"{folder}/results", "methods": "all", "source": source}
        | {"structures": "mitochondria", "microsam": f"source={sam};{SHORT_SAM}"},
        "promote": {"structure": "mito", "replace": "true"},
        "segment": {
            "structure": "mito",
            "input": f"{folder}/images/montages/region2_section000.tif",
            "output": f"{folder}/montage",
        },
    }


def run(folder: Path, entry: str, settings: dict[str, str]) -> list[dict]:
    """Runs an entry point through mlflow; returns what its processes counted."""
    imports = folder / "imports" / entry
    imports.mkdir(parents=True)
    environment = os.environ | {
        "BENCH_IMPORTS": str(imports),
        "PYTHONPATH": str(HERE / "import_hook"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    command = ["mlflow", "run", str(PROJECT), "--env-manager", "local", "-e", entry]
    command += ["--experiment-name", "demo"]
    for name, value in settings.items():
        command += ["-P", f"{name}={value}"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{entry} failed: {done.stderr[-2000:]}")
    return [json.loads(path.read_text()) for path in imports.iterdir()]


def main() -> None:
    """Runs all of them, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo_s", type=float, default=456.0, help="what make demo takes here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counted = {
            entry: run(Path(folder), entry, settings)
            for entry, settings in list_commands(Path(folder)).items()
        }
    # The demo makes and prepares a second domain.
    times = {"phantom": 1, "prepare": 2}
    total, work = (
        sum(
            times.get(entry, 1) * process[kind]
            for entry, processes in counted.items()
            for process in processes
        )
        for kind in ("import_s", "import_cpu_s")
    )
    for entry, processes in counted.items():
        for process in processes:
            print(entry, f"{process['import_s']:.1f} s of {process['process_s']:.1f}", end=" ")
            print(f"(CPU {process['import_cpu_s']:.1f} s)", end=": ")
            print(", ".join(f"{k} {v:.2f}" for k, v in process["dearest"].items()))
    share = f"{100 * total / options.demo_s:.1f} % of the demo; CPU {work:.1f} s"
    size = f"{len(counted)} entry points and mlflow run of each"
    agreement = "the demo's commands, smaller"
    report(
        __file__,
        [Line("imports", size, total, "make demo", options.demo_s, GOAL, agreement, share)],
    )


if __name__ == "__main__":
    main()
