"""Pieces of annotated sections, filtered: what the trees of a pixel classifier are fitted on."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from bench.inference.feeding import Moments
from bench.models.pixels.filters import MULTIPLE, STRIDE, Maps

# Largest edge of a piece, px.
_PIECE_PX = 1024
# What is filtered around a piece, px: the section's own, or mirrored. Coarse filters need some.
_AROUND_PX = 32
AROUND = _AROUND_PX // STRIDE
# Shares of a sample: the structure, near its outline, and what is not the structure.
_SHARES = (0.25, 0.25, 0.5)
_NEAR_PX = 6


@dataclass(frozen=True)
class Place:
    """Where a piece lies: the number of its section, its rows and its columns (px)."""

    section: int
    rows: slice
    columns: slice

    @property
    def area_px(self) -> int:
        """Its pixels."""
        return int(self.rows.stop - self.rows.start) * int(self.columns.stop - self.columns.start)


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a section on the grid of pixels that is classified.

    Attributes:
        maps: Filters (y, x) by name, with AROUND pixels around.
        truth: Whether the structure is there, (y, x) without them.
        inside: Whether the section is there, and annotated, (y, x) without them.
    """

    maps: Maps
    truth: np.ndarray
    inside: np.ndarray

    @property
    def sides_px(self) -> tuple[int, int]:
        """Its height and width in px of the section, as whole multiples of the coarsest pixel."""
        height, width = self.truth.shape
        return STRIDE * height, STRIDE * width

    def features(self, chosen: np.ndarray, context: Iterable[torch.Tensor] = ()) -> np.ndarray:
        """Filters, and what else there are maps of, of pixels inside: (pixels, features)."""
        width = self.truth.shape[1]
        y, x = (torch.from_numpy(each + AROUND) for each in np.divmod(chosen, width))
        rows = [each[y, x] for each in (*self.maps.values(), *context)]
        return np.ascontiguousarray(torch.stack(rows, dim=1).numpy())

    def draw(self, number: int, among: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draws pixels: half of them of the structure or near its outline.

        Args:
            number: How many; fewer where there are not as many of a kind.
            among: Where to draw, (y, x) bool.
            random: Draws them.
        """
        near = np.zeros_like(self.truth)
        if self.truth.any() and not self.truth.all():
            apart = distance_transform_edt(self.truth) + distance_transform_edt(~self.truth)
            near = apart <= _NEAR_PX / STRIDE
        drawn = []
        for share, kind in zip(_SHARES, (self.truth, near, ~self.truth), strict=True):
            found = np.flatnonzero(kind & among & self.inside)
            count = min(len(found), round(share * number))
            drawn.append(random.choice(found, count, replace=False))
        return np.concatenate(drawn)


def list_places(number: int, truth: np.ndarray) -> list[tuple[Place, bool]]:
    """Cuts a section into pieces of about one size; with each, whether the structure is there."""
    cuts = [np.linspace(0, n, -(-n // _PIECE_PX) + 1).round().astype(int) for n in truth.shape]
    rows, columns = ([slice(*map(int, ends)) for ends in itertools.pairwise(cut)] for cut in cuts)
    return [
        (Place(number, *window), bool(truth[window].any()))
        for window in itertools.product(rows, columns)
    ]


def choose_places(
    places: list[tuple[Place, bool]], most_px: int, random: np.random.Generator
) -> list[Place]:
    """Chooses pieces until they have so many pixels, but one at least.

    As neighbours are alike, they are evenly spread; those with the structure come first.

    Args:
        places: Of all sections in order, with whether the structure is there.
        most_px: So many pixels at most.
        random: Draws where the even steps begin.

    Returns:
        Places in order.
    """
    count = max(1, int(most_px / np.mean([place.area_px for place, _ in places])))
    if count >= len(places):
        return [place for place, _ in places]
    good = [n for n, (_, there) in enumerate(places) if there]
    others = [n for n, (_, there) in enumerate(places) if not there]
    first = _spread(good, min(count, len(good)), random)
    chosen = first + _spread(others, count - len(first), random)
    return [places[n][0] for n in sorted(chosen)]


def _spread(numbers: list[int], count: int, random: np.random.Generator) -> list[int]:
    step = len(numbers) / max(1, count)
    start = random.uniform(0, step)
    return [numbers[min(int(start + step * n), len(numbers) - 1)] for n in range(count)]


def make_piece(
    raw: np.ndarray,
    truth: np.ndarray,
    ignored: np.ndarray,
    place: Place,
    filter_image: Callable[[torch.Tensor], Maps],
    device: torch.device,
) -> Piece:
    """Filters a piece of a section.

    Args:
        raw: The section (y, x).
        truth: Whether the structure is there, (y, x).
        ignored: Where nobody annotated, (y, x).
        place: Which piece.
        filter_image: From a normalised image (1, 1, y, x) to its maps.
        device: Where it is filtered; maps are kept on the CPU.
    """
    rows, columns = (
        _mirrored(window, side)
        for window, side in zip((place.rows, place.columns), raw.shape, strict=True)
    )
    window = Moments.of(raw).apply(raw[np.ix_(rows, columns)])
    maps = filter_image(torch.from_numpy(window)[None, None].to(device))
    inner = np.ix_(rows[_AROUND_PX:-_AROUND_PX], columns[_AROUND_PX:-_AROUND_PX])
    height, width = (window_of.stop - window_of.start for window_of in (place.rows, place.columns))
    here = np.zeros(truth[inner].shape, dtype=bool)
    here[:height, :width] = True
    return Piece(
        {name: each.cpu() for name, each in maps.items()},
        _shares(truth[inner]) >= 0.5,
        (_shares(here) >= 0.5) & (_shares(ignored[inner]) == 0),
    )


def _mirrored(window: slice, side: int) -> np.ndarray:
    """Where to read a piece, as a multiple of the coarsest pixel, and around it.

    The section is mirrored at its border.
    """
    more = -(window.stop - window.start) % MULTIPLE
    padded = np.pad(np.arange(side), _AROUND_PX + MULTIPLE, mode="reflect")
    first = window.start + MULTIPLE
    return padded[first : first + window.stop - window.start + more + 2 * _AROUND_PX]


def _shares(mask: np.ndarray) -> np.ndarray:
    """The share of each block that is true."""
    height, width = (side // STRIDE for side in mask.shape)
    return np.asarray(mask.reshape(height, STRIDE, width, STRIDE).mean(axis=(1, 3)))
