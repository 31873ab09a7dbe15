"""Write a synthetic data set."""

import logging

from bench.config.data import PhantomConfig
from bench.core.progress import show_progress
from bench.phantom.write import write_phantom
from bench.tracking.opening import name_adopted

log = logging.getLogger(__name__)


def phantom(config: PhantomConfig) -> None:
    """Writes the phantom, or finds that it is there already.

    Raises:
        BenchError: If the output folder is something else.
    """
    name_adopted("phantom")
    with show_progress("phantom") as advance:
        folder = write_phantom(config, progress=lambda done, total: advance(done, total, ""))
    log.info("phantom: %s", folder)
