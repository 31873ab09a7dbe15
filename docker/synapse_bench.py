#!/usr/bin/env python3
"""The command of the container: `synapse-bench ENTRY_POINT -P name=value ...`.

It imports nothing but the standard library, so that help and errors come at once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from supervise import supervise

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "entrypoints"))

from command import find_entry_points, list_entry_points  # noqa: E402

# Run as they are: a shell to look around, the server of the UI, and what docker/MLproject asks for.
PROGRAMS = ("bash", "dask", "mlflow", "pytest", "python")
HELP = """\
Usage: synapse-bench ENTRY_POINT [-P name=value]... [options of mlflow run]
       synapse-bench ENTRY_POINT --help     the settings of an entry point
       synapse-bench {programs} ...     that program, in the project's folder

Entry points:
{entry_points}

Folders: /data, /mlruns (the runs), /results (tables), /cache (models). Mount your own, made
beforehand, and say who you are:
  mkdir -p data mlruns results cache
  docker run --gpus all --user $(id -u):$(id -g) -v $PWD/data:/data -v $PWD/mlruns:/mlruns \\
      -v $PWD/results:/results -v $PWD/cache:/cache synapse-bench finetune -P structure=mito
"""


def main(words: Sequence[str]) -> int:
    """Runs what the words say; returns the exit status."""
    os.chdir(PROJECT)
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0
    if name == "--health":
        check_folders()
        return 0
    if name in PROGRAMS:
        if not shutil.which(name):
            fail(f"{name} must be in the image, it is not: build that with --target tests")
        refuse_mounted_database()
        return supervise(words)
    known = find_entry_points()
    if name not in known:
        fail(f"the first word must be one of {', '.join(known)}, received {name!r}: see --help")
    if "--help" in words:
        return supervise(["python", f"entrypoints/{name}.py", "--help"])
    check_folders()
    make_store()
    command = ["mlflow", "run", ".", "--env-manager", "local", "-e", name, *words[1:]]
    return supervise(command, interrupt=True)


def help_text() -> str:
    """The list of what can be run."""
    listed = list_entry_points()
    return HELP.format(programs="|".join(PROGRAMS), entry_points=listed)


def check_folders() -> None:
    """Ends the process where a folder that every step writes to cannot be written to."""
    for folder in (PROJECT / "mlruns", PROJECT / "results", Path.home()):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            fail(
                f"{folder.resolve()} must be a folder that user {os.getuid()} may write to "
                f"({error.strerror}): make it before you mount it, and run with "
                "--user $(id -u):$(id -g)"
            )


def refuse_mounted_database() -> None:
    """Ends the process where `mlflow run docker` has mounted an SQLite file without its journal.

    A crash would leave the host's database broken.
    """
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("sqlite:////mlflow/tmp/"):
        fail(
            "`mlflow run docker` needs a tracking server, received an SQLite file: start `mlflow "
            "server` and set MLFLOW_TRACKING_URI, or use `docker run` with /mlruns mounted"
        )


def make_store() -> None:
    """Makes the embedded store where there is none: `mlflow run` itself can fail halfway."""
    if "MLFLOW_TRACKING_URI" in os.environ or (PROJECT / "mlruns" / "mlflow.db").exists():
        return
    environment = os.environ | {"PYTHONPATH": "src"}
    made = subprocess.run(["python", "-m", "bench.tracking.store"], env=environment, check=False)
    if made.returncode:
        sys.exit(made.returncode)


def fail(message: str) -> NoReturn:
    """Ends the process with status 2 and one line."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
