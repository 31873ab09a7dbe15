"""Runs every measurement, one after the other, and puts the table into README.md: `make bench`.

    PYTHONPATH=src python benchmarks/run_all.py [--only inference,matching]

A script that fails is said at the end; a goal that is missed is not a failure.
"""

import argparse
import json
import subprocess
import sys
import time

from measuring import HERE, Line, format_table

# Scripts and what they are given here; each alone measures more.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "pixel_metrics": (),
    "instance_matching": (),
    "connected_components": (),
    "sphere_refinement": (),
    "volume_instances": (),
    "tiled_inference": (),
    "volume_inference": (),
    "search_combinations": (),
    "augment_predictions": (),
    "training_feed": (),
    "training_step": (),
    "sam_training": (),
    "prompt_masks": (),
    "prepare_montages": (),
    "compare_runs": ("--cases", "a cell each, SQLite", "120 cells, server", "--repeats", "2"),
    "help_pages": (),
    "start_up": ("--only", "phantom", "prepare", "compare", "finetune", "segment"),
    "cluster_segment": (),
}
BEGIN, END = "<!-- table: written by make bench -->", "<!-- end of table -->"


def read_lines(script: str) -> tuple[str, list[Line]]:
    """The machine and the lines of the JSON that a script wrote."""
    content = json.loads((HERE / f"{script}.json").read_text())
    names = Line.__dataclass_fields__
    lines = [{k: v for k, v in line.items() if k in names} for line in content["lines"]]
    return content["machine"], [Line(**line) for line in lines]


def main() -> int:
    """Runs the scripts; returns how many failed. A goal that is missed is no failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names of scripts, separated by commas")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(SCRIPTS)
    failed, started = [], time.monotonic()
    for script in chosen:
        begun = time.monotonic()
        print(f"== {script}", flush=True)
        command = [sys.executable, str(HERE / f"{script}.py"), *SCRIPTS[script]]
        if subprocess.run(command).returncode:
            failed.append(script)
        print(f"-- {script}: {time.monotonic() - begun:.0f} s", flush=True)
    write_table([script for script in SCRIPTS if (HERE / f"{script}.json").exists()])
    print(f"{len(chosen)} scripts, {time.monotonic() - started:.0f} s; failed: {failed or 'none'}")
    return len(failed)


def write_table(scripts: list[str]) -> None:
    """Replaces the table in README.md by the lines of all scripts."""
    read = [read_lines(script) for script in scripts]
    machines = list(dict.fromkeys(machine for machine, _ in read))
    lines = [line for _, each in read for line in each]
    missed = [f"{line.path}, {line.size}" for line in lines if not line.met]
    table = "\n".join(
        [
            BEGIN,
            "",
            *(f"Machine: {machine}." for machine in machines),
            "",
            format_table(lines),
            "",
            f"{len(lines)} lines; goals missed: {'; '.join(missed) or 'none'}.",
            "",
            END,
        ]
    )
    path = HERE / "README.md"
    text = path.read_text()
    before, rest = text.split(BEGIN)
    new = path.with_suffix(".md.new")
    new.write_text(before + table + rest.split(END)[1])
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
