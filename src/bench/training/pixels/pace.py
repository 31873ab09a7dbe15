"""How much a pixel classifier does in so many minutes: from the speed of its filters here."""

import time

import torch

from bench.errors import BenchError
from bench.models.pixels.filters import filter_maps
from bench.training.pixels.fitting import PixelWork

_TIMED_PX = 512
_MPX = 2**20
# In seconds of filtering one Mpx: what PixelWork() takes, but for what grows with the validation
# sections, and a Mpx of these. On EPFL6 it was 27 and 4, of mitochondria; with something to spare.
_COST, _VALIDATION_COST = 35.0, 5.0
# Pieces are held in memory, in half of a GB for 5 Mpx.
_LARGEST_AREA_PX = 32 * _MPX
# The seconds of a fit grow with pixels times trees.
_OF_PIXELS, _OF_TREES = 0.6, 0.4
_FEWEST_PIXELS = 1000


def time_filters(device: torch.device) -> float:
    """Seconds that filtering a Mpx takes."""
    image = torch.zeros(1, 1, _TIMED_PX, _TIMED_PX, device=device)
    for _ in range(2):
        # The first is slower.
        begun = time.monotonic()
        for each in filter_maps(image).values():
            each.cpu()
    return (time.monotonic() - begun) * _MPX / _TIMED_PX**2


def plan_work(minutes: float, filter_s: float, validation_px: int) -> PixelWork:
    """What can be done in so many minutes.

    Args:
        minutes: For all, validation included.
        filter_s: Seconds that filtering a Mpx takes.
        validation_px: Pixels of the validation sections.

    Raises:
        BenchError: If that is next to nothing.
    """
    usual = PixelWork()
    validation_s = validation_px / _MPX * _VALIDATION_COST * filter_s
    scale = (60 * minutes - validation_s) / (_COST * filter_s)
    pixels = round(usual.pixels * max(scale, 0) ** _OF_PIXELS)
    if pixels < _FEWEST_PIXELS:
        raise BenchError(
            f"minutes must suffice for a fit on {_FEWEST_PIXELS} pixels, received {minutes:g}: "
            f"filtering takes {filter_s:.2g} s for a million pixels here, and the validation "
            f"sections about {validation_s:.0f} s: give more minutes, or leave them out"
        )
    return PixelWork(
        area_px=min(_LARGEST_AREA_PX, round(usual.area_px * scale)),
        pixels=pixels,
        trees=max(1, round(usual.trees * scale**_OF_TREES)),
    )
