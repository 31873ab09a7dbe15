"""Correct labels by hand, in a window."""

from typing import TYPE_CHECKING

from bench.config.data import CorrectConfig
from bench.steps.serving.display import check_display

if TYPE_CHECKING:
    from bench.tracking.store import Store

_OTHERWISE = (
    "or write the labels for another program (-e export -P format=imod_spheres, imod or tiff), "
    "correct them there, and prepare that folder"
)


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
    check_display("correct", _OTHERWISE)
    # Imported late: a machine without a display says so at once.
    from bench.steps.serving.correction import correct_labels

    return correct_labels(config, store)
