"""Correct labels by hand, in a window."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.config.data import CorrectConfig
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.tracking.store import Store

# Any of them says where windows open; other systems have one place for them.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
_OTHERWISE = (
    "or write the labels for another program (-e export -P format=imod_spheres, imod or tiff), "
    "correct them there, and prepare that folder"
)
# Qt ends a process that cannot open a window.
_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"
_LONGEST_PROBE_S = 60


def correct(config: CorrectConfig, store: "Store | None" = None) -> str:
    """Opens a window on labels; what is saved there becomes a new annotation folder.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Returns:
        The id of the run that says what was done; empty if nothing was saved.

    Raises:
        BenchError: If no window can be opened, there are no such labels, or the output exists.
    """
    _check_display()
    # Imported late: a machine without a display says so at once.
    from bench.steps.serving.correction import correct_labels

    return correct_labels(config, store)


def _check_display() -> None:
    """Raises BenchError where no window can be opened, before anything is loaded."""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        raise BenchError(
            "correct needs a display for its window, received neither DISPLAY nor WAYLAND_DISPLAY: "
            f"run it at a desktop, through 'ssh -X' or a remote desktop, {_OTHERWISE}"
        )
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_LONGEST_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _no_window(f"none within {_LONGEST_PROBE_S} s") from error
    if probe.returncode:
        lines = [line for line in probe.stderr.splitlines() if line.strip()]
        raise _no_window(repr(lines[0].strip()) if lines else f"exit status {probe.returncode}")


def _no_window(received: str) -> BenchError:
    return BenchError(
        f"Qt must be able to open a window, received {received}: correct the display, install "
        f"what it names (Debian: libegl1 libgl1 libxcb-cursor0 libxkbcommon-x11-0), {_OTHERWISE}"
    )
