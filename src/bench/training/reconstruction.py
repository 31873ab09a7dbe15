"""Patches of images without labels, in pairs of views, and the loss of their reconstruction."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from bench.core.memory import free_bytes
from bench.errors import BenchError
from bench.training.patches import clip_centre
from bench.training.views import draw_placements, place_views, spoil_views, view_window_edge

# Images read at once: disks and servers of files like to be asked for several.
_READ_AT_ONCE = 8
# Of images that were read, so many bytes are kept at most, and this share of the free memory; the
# others are read again when they are drawn.
_KEPT_BYTES, _KEPT_SHARE = 2**33, 0.25
# How often another place is drawn where a patch shows nothing, such as the margin of a montage.
_ATTEMPTS = 50


class _ImagePool(Protocol):
    """Images that patches are drawn from; only those are read that are drawn."""

    @property
    def areas_px(self) -> np.ndarray:
        """Pixels of each, by which they are drawn."""

    def name(self, number: int) -> str:
        """What one is called, for people."""

    def read(self, number: int) -> np.ndarray:
        """Reads one (y, x), at any bit depth."""


@dataclass(frozen=True)
class ViewSettings:
    """How patches are drawn.

    Attributes:
        patch_px: Edge of a patch.
        batch_size: Patches in a batch.
        seed: Every batch is a function of this seed and the iteration.
        moments: Mean and standard deviation by which all images are normalised, as shares of the
            white of their depth; None normalises every image by its own.
    """

    patch_px: int
    batch_size: int
    seed: int
    moments: tuple[float, float] | None = None


class ViewFeed:
    """Batches of pairs of views: what the network sees, and what it reconstructs.

    An image is drawn in proportion to its area, then a square of it, each as likely. Of a square
    that shows nothing (all pixels alike) another is drawn. Both views show the same place with the
    same geometry, see ``draw_placements``; only the first is spoiled, see ``spoil_views``.
    A batch depends on the seed and the iteration alone, see ``PatchFeed``.
    """

    def __init__(
        self,
        pool: _ImagePool,
        settings: ViewSettings,
        device: torch.device,
        numbers: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        """Takes the images; reads none.

        Args:
            pool: The images.
            settings: How to draw.
            device: Where the views are made and batches end up.
            numbers: The images that are drawn; all if not given.
        """
        self.pool, self.settings, self.device = pool, settings, device
        areas = pool.areas_px
        self.numbers = np.arange(len(areas)) if numbers is None else np.asarray(numbers)
        self.ends = np.cumsum(areas[self.numbers], dtype=np.float64)
        self.kept: dict[int, _Read] = {}
        self.room_bytes = min(_KEPT_BYTES, int(_KEPT_SHARE * free_bytes()))

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            What the network sees and what it reconstructs, both normalised and of the shape
            (batch, 1, patch_px, patch_px), float32.
        """
        rng = np.random.default_rng((self.settings.seed, iteration))
        windows = torch.from_numpy(np.stack(self._draw_windows(rng)))[:, None].to(self.device)
        patch = self.settings.patch_px
        whole = place_views(windows, draw_placements(len(windows), patch, rng), patch)
        return spoil_views(whole, rng), whole

    def _draw_windows(self, rng: np.random.Generator) -> list[np.ndarray]:
        # Seeds first, so that it does not matter in which order images are read.
        size = self.settings.batch_size
        drawn = [(self._draw_number(rng), int(rng.integers(2**62))) for _ in range(size)]
        with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            return list(pool.map(lambda pair: self._cut_window(*pair), drawn))

    def _draw_number(self, rng: np.random.Generator) -> int:
        place = np.searchsorted(self.ends, rng.random() * self.ends[-1], side="right")
        return int(self.numbers[min(place, len(self.numbers) - 1)])

    def _cut_window(self, number: int, seed: int) -> np.ndarray:
        """Cuts the normalised window around a square of an image, (edge, edge) float32."""
        rng = np.random.default_rng(seed)
        for _ in range(_ATTEMPTS):
            image = self._open(number)
            patch = self.settings.patch_px
            y, x = (
                clip_centre(int(rng.integers(side)), side, patch) for side in image.pixels.shape
            )
            window = cut_mirrored(image.pixels, y, x, view_window_edge(patch))
            if window.min() != window.max():
                return (window.astype(np.float32) - image.mean) / image.deviation
            number = self._draw_number(rng)
        raise BenchError(
            f"images must show something, received {_ATTEMPTS} places whose pixels are all alike, "
            f"the last in {self.pool.name(number)}: leave out images that are blank"
        )

    def _open(self, number: int) -> "_Read":
        if number in self.kept:
            return self.kept[number]
        pixels = self.pool.read(number)
        mean, deviation = self.settings.moments or (0.0, 0.0)
        if self.settings.moments:
            white = _white_of(pixels.dtype)
            image = _Read(pixels, np.float32(mean * white), np.float32(deviation * white))
        else:
            spread = float(pixels.std(dtype=np.float64)) or 1.0
            image = _Read(pixels, np.float32(pixels.mean(dtype=np.float64)), np.float32(spread))
        if pixels.nbytes <= self.room_bytes:
            self.room_bytes -= pixels.nbytes
            self.kept[number] = image
        return image


@dataclass(frozen=True, eq=False)
class _Read:
    """An image as it was read, and what it is normalised by."""

    pixels: np.ndarray
    mean: np.float32
    deviation: np.float32


def _white_of(dtype: "np.dtype[Any]") -> float:
    """The largest value of a depth; of floating point 1, as grey values are then shares."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def cut_mirrored(image: np.ndarray, y: int, x: int, edge: int) -> np.ndarray:
    """Cuts the square of an edge around a place of an image (y, x), mirrored beyond its border."""
    starts = [centre - edge // 2 for centre in (y, x)]
    if min(starts) >= 0 and (np.add(starts, edge) <= image.shape).all():
        return image[starts[0] : starts[0] + edge, starts[1] : starts[1] + edge]
    places = []
    for start, side in zip(starts, image.shape, strict=True):
        period = max(1, 2 * (side - 1))
        turned = np.arange(start, start + edge) % period
        places.append(np.minimum(turned, period - turned))
    return image[np.ix_(*places)]


def measure_moments(pool: _ImagePool, numbers: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of images together, as shares of white."""
    sums = np.zeros(3)
    for number in numbers:
        pixels = pool.read(number)
        shares = pixels.astype(np.float64) / _white_of(pixels.dtype)
        sums += shares.size, shares.sum(), np.square(shares).sum()
    count, total, squares = sums
    mean = total / count
    # Six digits say enough, and the same ones on every machine.
    return float(f"{mean:.6g}"), float(f"{np.sqrt(max(squares / count - mean**2, 0)):.6g}")


def squared_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of reconstructions (batch, 1, y, x), computed in fp32."""
    return functional.mse_loss(output.float(), target.float())


@dataclass(frozen=True, eq=False)
class HeldOutViews:
    """Pairs of views that never change, of images that are not trained on.

    Attributes:
        pairs: Batches of what the network sees and of what it reconstructs, on the CPU.
        mean_mse: Error of what knows each patch's mean and nothing else.
        view_mse: Error of what hands back the view as it is.
    """

    pairs: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    mean_mse: float
    view_mse: float

    @classmethod
    def draw(cls, feed: ViewFeed, batches: int) -> "HeldOutViews":
        """Draws the first batches of a feed of such images."""
        drawn = (feed.batch(number) for number in range(batches))
        pairs = tuple((view.cpu(), whole.cpu()) for view, whole in drawn)
        means = [
            float((whole - whole.mean((2, 3), keepdim=True)).square().mean()) for _, whole in pairs
        ]
        views = [float(squared_error(view, whole)) for view, whole in pairs]
        return cls(pairs, float(np.mean(means)), float(np.mean(views)))
