"""Whether a window can be opened here, found out before anything heavy is loaded."""

import os
import subprocess
import sys

from bench.errors import BenchError

# Any of them says where windows open; other systems have one place for them.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
# Qt ends a process that cannot open a window.
_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"
_LONGEST_PROBE_S = 60


def check_display(step: str, otherwise: str) -> None:
    """Raises BenchError where no window can be opened, before anything is loaded.

    Args:
        step: The entry point that would open one.
        otherwise: What else can be done, as the end of the error.
    """
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        raise BenchError(
            f"{step} needs a display for its window, received neither DISPLAY nor WAYLAND_DISPLAY: "
            f"run it at a desktop, through 'ssh -X' or a remote desktop, {otherwise}"
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
        raise _no_window(f"none within {_LONGEST_PROBE_S} s", otherwise) from error
    if probe.returncode:
        lines = [line for line in probe.stderr.splitlines() if line.strip()]
        raise _no_window(
            repr(lines[0].strip()) if lines else f"exit status {probe.returncode}", otherwise
        )


def _no_window(received: str, otherwise: str) -> BenchError:
    return BenchError(
        f"Qt must be able to open a window, received {received}: correct the display, install "
        f"what it names (Debian: libegl1 libgl1 libxcb-cursor0 libxkbcommon-x11-0), {otherwise}"
    )
