"""How long a pixel classifier takes, and how much of it fits into minutes: from its speed here."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.errors import BenchError
from bench.models.pixels.filters import Maps, filter_maps
from bench.models.pixels.pixel_classifier import HALO_PX
from bench.training.pixels.fitting import PixelWork

_TIMED_PX = 512
_MPX = 2**20
# In seconds of filtering a Mpx, as it goes with the speed of that: fitting the usual trees on the
# usual pixels; applying the first stage to a Mpx of training sections; both to one of a prediction.
_FITTED, _APPLIED, _PREDICTED = 13.0, 0.5, 2.5
# Pieces are held in memory, in half of a GB for 5 Mpx.
_LARGEST_AREA_PX = 32 * _MPX
# The seconds of a fit grow with pixels times trees.
_OF_PIXELS, _OF_TREES = 0.6, 0.4
_FEWEST_PIXELS = 1000
# Halvings by which a plan is found.
_HALVINGS = 40


@dataclass(frozen=True)
class PixelSpeed:
    """Seconds that a Mpx takes here.

    Attributes:
        filter_s: To be filtered: what trees take goes with it.
        feature_s: Until there is all that the trees see.
    """

    filter_s: float
    feature_s: float

    def tile_s(self, tile_px: int) -> float:
        """Seconds of a prediction of a tile of an edge."""
        with_halo = (tile_px + 2 * HALO_PX) ** 2
        return (with_halo * self.feature_s + tile_px**2 * _PREDICTED * self.filter_s) / _MPX

    def training_s(self, work: PixelWork, training_px: int, validation_s: float) -> float:
        """Seconds of a training on sections of so many pixels.

        Args:
            work: How much is done.
            training_px: Pixels of the training sections.
            validation_s: Seconds of a prediction of the validation sections, which is a part of it.
        """
        area = min(work.area_px, training_px) / _MPX
        usual = PixelWork()
        fits = work.pixels / usual.pixels * work.trees / usual.trees
        trees_s = (area * _APPLIED + fits * _FITTED) * self.filter_s
        return area * self.feature_s + trees_s + validation_s


def time_features(find_maps: Callable[[torch.Tensor], Maps], device: torch.device) -> PixelSpeed:
    """Times filters, and all that trees see if it is more than these."""
    filter_s = _time_maps(filter_maps, device)
    if find_maps is filter_maps:
        return PixelSpeed(filter_s, filter_s)
    return PixelSpeed(filter_s, _time_maps(find_maps, device))


@torch.no_grad()
def _time_maps(find_maps: Callable[[torch.Tensor], Maps], device: torch.device) -> float:
    """Seconds that a Mpx takes."""
    image = torch.zeros(1, 1, _TIMED_PX, _TIMED_PX, device=device)
    for _ in range(2):
        # The first is slower.
        begun = time.monotonic()
        for each in find_maps(image).values():
            each.cpu()
    return (time.monotonic() - begun) * _MPX / _TIMED_PX**2


def plan_work(
    minutes: float,
    speed: PixelSpeed,
    usual: PixelWork,
    *,
    training_px: int,
    validation_s: float,
) -> PixelWork:
    """What can be done in so many minutes.

    Args:
        minutes: For all, validation included.
        speed: Of this machine.
        usual: What is done without minutes.
        training_px: Pixels of the training sections.
        validation_s: Seconds of a prediction of the validation sections.

    Raises:
        BenchError: If that is next to nothing.
    """
    # Of the usual work, so many times: the largest of which there is time for.
    most, least = 2.0 ** (_HALVINGS // 4), 0.0
    for _ in range(_HALVINGS):
        tried = (most + least) / 2
        if speed.training_s(_scale(usual, tried), training_px, validation_s) > 60 * minutes:
            most = tried
        else:
            least = tried
    work = _scale(usual, least)
    if work.pixels < _FEWEST_PIXELS:
        raise BenchError(
            f"minutes must suffice for a fit on {_FEWEST_PIXELS} pixels, received {minutes:g}: "
            f"a million pixels take {speed.feature_s:.2g} s here, and the validation "
            f"sections about {validation_s:.0f} s: give more minutes, or leave them out"
        )
    return work


def _scale(usual: PixelWork, times: float) -> PixelWork:
    return PixelWork(
        area_px=min(_LARGEST_AREA_PX, round(usual.area_px * times)),
        pixels=round(usual.pixels * times**_OF_PIXELS),
        trees=max(1, round(usual.trees * times**_OF_TREES)),
    )
