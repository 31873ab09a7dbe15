"""Commands that are printed to be pasted, in the form in which the user runs the steps."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from bench.core.checkout import COMMAND, find_checkout, find_home

_PROJECT = find_home()
_ENTRY_POINTS = "entrypoints"
_STORE_VARIABLE = "MLFLOW_TRACKING_URI"
# How mlflow names the environments that it makes; any other is the user's own.
_MADE_BY_MLFLOW = "mlflow-"


def write_command(step: str, settings: Mapping[str, object]) -> str:
    """Writes the command of a step as the user runs steps.

    That is ``mlflow run`` where mlflow started this process, ``synapse-bench`` in the container
    and where the package is installed, else ``python entrypoints/STEP.py``.

    Args:
        step: The entry point.
        settings: What it is given; paths as they were typed.
    """
    given = {name: _write_value(value) for name, value in settings.items()}
    if not _is_of_mlflow():
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        return shlex.join([*_entry_point(step), *options])
    parameters = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
    return shlex.join([*_mlflow_run(step), *parameters])


def write_help(step: str) -> str:
    """Writes the command that lists the settings of a step."""
    if _is_image():
        return f"{COMMAND} {step} --help"
    return shlex.join([*_entry_point(step), "--help"])


def shown_path(path: Path) -> str:
    """A path as it is short: relative to the user's folder where it lies in it, else absolute."""
    whole = path.absolute()
    folder = _users_folder()
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


def _is_of_mlflow() -> bool:
    """Whether ``mlflow run`` made a run for this process."""
    return "MLFLOW_RUN_ID" in os.environ


def _is_image() -> bool:
    """Whether this is the container, whose ``synapse-bench`` is a file of the project."""
    found = shutil.which(COMMAND)
    return found is not None and Path(found).resolve() == _PROJECT / "docker" / "synapse_bench.py"


def _entry_point(step: str) -> list[str]:
    """What runs an entry point, as it was typed."""
    if sys.argv[0].startswith(f"{COMMAND} ") or find_checkout() is None:
        return [COMMAND, step]
    return [*_python(), str(_entry_points() / f"{step}.py")]


def _write_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _python() -> list[str]:
    """The interpreter as it was typed."""
    typed = sys.orig_argv[0] if sys.orig_argv else "python"
    return [typed if shutil.which(typed) else sys.executable]


def _entry_points() -> Path:
    """The folder of the entry points as it was typed."""
    typed = Path(sys.argv[0]).parent
    if typed.name == _ENTRY_POINTS and not _is_of_mlflow():
        return typed
    return Path(os.path.relpath(_PROJECT / _ENTRY_POINTS, _users_folder()))


def _mlflow_run(step: str) -> list[str]:
    """Everything of an ``mlflow run`` but the parameters."""
    experiment = _experiment()
    if _is_image():
        if _started_by_mlflow() is None:
            return ["mlflow", "run", "docker", *experiment, "-e", step]
        return [COMMAND, step, *experiment]
    same = _users_folder() == _PROJECT
    made = any(part.startswith(_MADE_BY_MLFLOW) for part in Path(sys.prefix).parts)
    return [
        *("mlflow", "run", "." if same else str(_PROJECT)),
        *(() if made else ("--env-manager", "local")),
        *experiment,
        *("-e", step),
    ]


def _experiment() -> list[str]:
    """The experiment, where the next command would go to another."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    if number == "0" or "MLFLOW_EXPERIMENT_NAME" in os.environ:
        return []
    return ["--experiment-id", number]


def strayed_store() -> Path | None:
    """The database that ``mlflow run`` made in another folder, as nobody told it a store."""
    folder, mlflow = _users_folder(), _started_by_mlflow()
    if not _is_of_mlflow() or mlflow is None or folder == _PROJECT:
        return None
    try:
        return None if _STORE_VARIABLE in mlflow.environ() else folder / "mlflow.db"
    except (psutil.Error, OSError):
        return None


def _users_folder() -> Path:
    """The folder in which the user typed the command: steps of ``mlflow run`` run elsewhere."""
    if _is_of_mlflow() and (mlflow := _started_by_mlflow()):
        try:
            return Path(mlflow.cwd()).resolve()
        except (psutil.Error, OSError):
            pass
    return Path.cwd()


def _started_by_mlflow() -> psutil.Process | None:
    """The ``mlflow run`` that started this process, or the shell between; None without one."""
    try:
        for process in psutil.Process().parents()[:2]:
            if "mlflow" in " ".join(process.cmdline()[:2]):
                return process
    except psutil.Error:
        pass
    return None
