"""Time of `--help` of every entry point, beside what a script pays that imports mlflow at its top.

PYTHONPATH=src python benchmarks/help_pages.py [--repeats 5]
"""

import argparse
import subprocess
import sys
from functools import partial

from measuring import HERE, Line, report, time_in_turns

ENTRY_POINTS = HERE.parent / "entrypoints"
WANTED_S = 0.5
PEER = "import mlflow"


def run(*command: str) -> str:
    """Runs Python; returns what it says."""
    return subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, text=True, cwd=HERE.parent
    ).stdout


def main() -> None:
    """Measures all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    names = sorted({path.stem for path in ENTRY_POINTS.glob("*.py")} - {"cli"})
    ways = {name: partial(run, str(ENTRY_POINTS / f"{name}.py"), "--help") for name in names}
    ways[PEER] = partial(run, "-c", "import mlflow")
    seconds, said = time_in_turns(ways, repeats=options.repeats)
    for name in names:
        assert said[name].startswith(f"Usage: {name}.py"), said[name]
    slowest = max(names, key=lambda name: seconds[name])
    room = WANTED_S - seconds[slowest]
    line = Line(
        "--help",
        f"slowest of {len(names)} entry points, {slowest}",
        seconds[slowest],
        PEER,
        seconds[PEER],
        None,
        "each prints its own options",
        f"< {WANTED_S} s: {'met' if room > 0 else 'missed'} by {abs(room):.2f} s; quickest "
        f"{min(seconds[name] for name in names):.2f} s",
    )
    report(__file__, [line])


if __name__ == "__main__":
    main()
