"""What a machine does while a run works: mlflow's own measures, in the UI's tab of that name."""

import time

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

# mlflow's own thread measures as often; it would wait for a server that is away.
INTERVAL_S = 10.0


class SystemMetrics:
    """Use of processor, memory and GPUs."""

    def __init__(self) -> None:
        """Begins; the first measure is due after an interval."""
        self._monitors: list[BaseMetricsMonitor] = []
        self._measured = time.monotonic()
        # It says what was used since it was asked before.
        psutil.cpu_percent()

    def measure(self) -> dict[str, float]:
        """Measures, where it is due; returns numbers by their names in the UI, or none."""
        if time.monotonic() - self._measured < INTERVAL_S:
            return {}
        self._measured = time.monotonic()
        self._monitors = self._monitors or open_monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {
                f"system/{name}": value for name, value in monitor.aggregate_metrics().items()
            }
            monitor.clear_metrics()
        return found


def open_monitors() -> list[BaseMetricsMonitor]:
    """The monitors of this machine: that of GPUs where there are any."""
    try:
        return [CPUMonitor(), GPUMonitor()]
    except (ImportError, RuntimeError):  # no driver, or no GPU
        return [CPUMonitor()]
