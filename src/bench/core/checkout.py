"""Where the project is, and where runs and results are kept without one."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
# The command that `pip install` makes; the container has one of the same name.
COMMAND = "synapse-bench"


def find_checkout() -> Path | None:
    """The project's folder; None where only the package is installed."""
    return _ROOT if (_ROOT / "MLproject").is_file() else None


def find_home() -> Path:
    """The folder whose ``mlruns`` is the embedded store: the project's, else the current one."""
    return find_checkout() or Path.cwd()
