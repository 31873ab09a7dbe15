"""Annotate sections by clicks that a SAM answers, in micro_sam's window."""

from typing import TYPE_CHECKING

from bench.config.data import AnnotateConfig
from bench.steps.serving.display import check_display

if TYPE_CHECKING:
    from bench.tracking.store import Store

_OTHERWISE = "or let the model segment them (-e segment), and correct that in another program"


def annotate(config: AnnotateConfig, store: "Store | None" = None) -> str:
    """Opens micro_sam's window on sections; what is saved there is an annotation for prepare.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Returns:
        The id of the run that says what was done; empty if nothing was saved.

    Raises:
        BenchError: If no window can be opened, or there is no such model or section.
    """
    check_display("annotate", _OTHERWISE)
    # Imported late: a machine without a display says so at once.
    from bench.steps.serving.annotation import annotate_sections

    return annotate_sections(config, store)
