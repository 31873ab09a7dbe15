"""Two views of the same unlabelled patches: one for the teacher, one for the student."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.feeding import resize_section
from bench.training.augment import StrongView, make_strong_view

# Edge (px) of the squares that an image is divided into to find where it shows something.
_CELL_PX = 32


@dataclass(frozen=True)
class UnlabelledSettings:
    """How patches are drawn.

    Attributes:
        patch_px: Edge of a patch, as the network sees it.
        batch_size: Patches in a batch.
        strong: What is done to the student's view; the teacher's is the patch itself.
        seed: Every batch is a function of this seed and the iteration.
    """

    patch_px: int
    batch_size: int
    strong: StrongView
    seed: int


class UnlabelledFeed:
    """Batches of patches from images held in memory, at the depth of their files.

    An image is divided into squares, and those that show nothing (all pixels alike, such as the
    black margin of a montage) are left out. Each of the others, of all images, is equally likely
    to lie in a patch; so no patch is empty, and a large montage gives more patches than a crop.
    An image smaller than a patch is mirrored beyond its border.

    The values are normalised by the mean and deviation of the whole image, as in inference.
    A batch depends on the seed and the iteration alone, see ``PatchFeed``.

    Attributes:
        mirrored: How many images are smaller than a patch.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        settings: UnlabelledSettings,
        device: torch.device,
        scales: Sequence[float] | None = None,
    ) -> None:
        """Takes the images.

        Args:
            images: Images (y, x) of any bit depth.
            settings: How to draw.
            device: Where the batches end up.
            scales: Pixels of the network per pixel of each image; a patch is cut smaller or
                larger by it and resampled. Without it they are fed as they are.

        Raises:
            BenchError: If no image shows anything.
        """
        self.settings, self.device = settings, device
        patch = settings.patch_px
        self.edges = [max(1, round(patch / scale)) for scale in scales or [1.0] * len(images)]
        self.moments = [(float(i.mean(dtype=np.float64)), float(i.std())) for i in images]
        pairs = list(zip(images, self.edges, strict=True))
        self.images = [mirror_to(image, edge) for image, edge in pairs]
        self.mirrored = sum(min(image.shape) < edge for image, edge in pairs)
        large_enough = zip(self.images, self.edges, strict=True)
        found = [find_content(image, cell_edge(edge)) for image, edge in large_enough]
        self.cells = np.concatenate([np.insert(c, 0, i, axis=1) for i, c in enumerate(found)])
        if not len(self.cells):
            raise BenchError(
                f"unlabelled images must show something, received {len(images)} whose pixels are "
                "all alike: check the files"
            )

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            The teacher's and the student's view, both (batch, 1, patch_px, patch_px) float32:
            the same pixels at the same places.
        """
        settings = self.settings
        rng = np.random.default_rng((settings.seed, iteration))
        patches = np.stack([self.draw_patch(rng) for _ in range(settings.batch_size)])
        weak = torch.from_numpy(patches)[:, None].to(self.device)
        return weak, make_strong_view(weak, settings.strong, rng)

    def draw_patch(self, rng: np.random.Generator) -> np.ndarray:
        """Draws a normalised patch, flipped and turned by right angles; (y, x) float32."""
        index, *corner = self.cells[rng.integers(len(self.cells))]
        image, edge = self.images[index], self.edges[index]
        cell = cell_edge(edge)
        # The whole square lies in the patch, anywhere in it.
        offsets = rng.integers(edge - cell + 1, size=2)
        y, x = (
            int(np.clip(start - offset, 0, side - edge))
            for start, offset, side in zip(corner, offsets, image.shape, strict=True)
        )
        patch = image[y : y + edge, x : x + edge].astype(np.float32)
        if edge != self.settings.patch_px:
            patch = resize_section(patch, (self.settings.patch_px,) * 2)
        mean, deviation = self.moments[index]
        patch = np.rot90((patch - np.float32(mean)) / np.float32(deviation), int(rng.integers(4)))
        return np.ascontiguousarray(patch[::-1] if rng.random() < 0.5 else patch)


def cell_edge(window_px: int) -> int:
    """Edge of the squares of an image that patches of an edge are cut from."""
    return max(1, min(_CELL_PX, window_px // 2))


def find_content(image: np.ndarray, cell: int) -> np.ndarray:
    """Finds the squares of an image (y, x) that are not all alike.

    Returns:
        The corners (y, x) of the squares, (squares, 2) int; a remainder narrower than a square
        at the far edges is not looked at.
    """
    rows, columns = (side // cell for side in image.shape)
    squares = image[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    varied = squares.max(axis=(1, 3)) != squares.min(axis=(1, 3))
    return np.argwhere(varied) * cell


def mirror_to(image: np.ndarray, edge: int) -> np.ndarray:
    """Mirrors an image (y, x) beyond its border until both sides have an edge (px)."""
    widths = [((missing := max(0, edge - side)) // 2, -(-missing // 2)) for side in image.shape]
    return np.pad(image, widths, mode="symmetric") if np.any(widths) else image
