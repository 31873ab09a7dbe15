"""Training patches with the boxes of their instances, and what a detector minimises on them."""

from collections.abc import Sequence

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.feeding import Places, interpolate, normalise_section
from bench.metrics.detection import check_areas, label_boxes
from bench.models.detection.detector import Detector
from bench.training.objectives import Objective
from bench.training.patches import PatchSettings, clip_centre, instance_centres

# A part of an instance that is cut off by the patch's border counts as an object if it has so many
# pixels, or is so large a share of the instance.
_LEAST_PART_PX, _LEAST_SHARE = 25, 0.5
# Places for a patch that are tried where not all of a section is annotated.
_MOST_ATTEMPTS = 2000
# Deviations of a patch's change of contrast (of its logarithm) and brightness.
_CONTRAST, _BRIGHTNESS = 0.15, 0.15


class BoxPatchFeed:
    """Batches of patches and the boxes of what they show, from sections held in memory.

    A share of the patches is placed around an instance, each equally likely, the others anywhere.
    Patches are zoomed, turned by quarters and mirrored together with their labels, and boxes are
    those of what came of the labels. A batch depends on the seed and the iteration alone.
    """

    def __init__(
        self,
        sections: Sequence[tuple[np.ndarray, np.ndarray]],
        settings: PatchSettings,
        zoom: float = 1.0,
        ignored: Sequence[np.ndarray] = (),
    ) -> None:
        """Loads the sections.

        Args:
            sections: Raw (y, x) of any bit depth and instance labels (y, x) of every section; one
                that is smaller than a patch is mirrored beyond its border, without objects there.
            settings: How to draw; of the augmentation rotations are by 90 degrees, and nothing is
                deformed.
            zoom: By how much a patch is enlarged or shrunk at most; 1 leaves it.
            ignored: Where nobody annotated a section, bool (y, x); of no section where empty. A
                patch that shows any of it is not drawn: torchvision's losses take all places.

        Raises:
            BenchError: If there is no instance.
        """
        self.settings, self.zoom = settings, zoom
        edge = self._edge(1 / zoom)
        self.images = [_fill(normalise_section(raw), edge, "symmetric") for raw, _ in sections]
        self.labels = [_fill(labels, edge, "constant") for _, labels in sections]
        self.ignored = [_fill(each, edge, "constant") for each in ignored]
        self.areas = [np.bincount(labels.reshape(-1)) for labels in self.labels]
        self.centres = [
            (number, centres)
            for number, labels in enumerate(self.labels)
            for centres in instance_centres(labels)
        ]
        if not self.centres:
            raise BenchError(
                f"a detector is trained on instances, received {len(sections)} sections without "
                "any: annotate some, or choose another structure"
            )

    def batch(self, iteration: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Draws the batch of an iteration.

        Returns:
            Images (batch, 1, patch_px, patch_px) float32, and the boxes (n, 4) of each.
        """
        rng = np.random.default_rng((self.settings.seed, iteration))
        drawn = [self._draw(rng) for _ in range(self.settings.batch_size)]
        images = np.stack([image for image, _ in drawn])[:, None].astype(np.float32)
        return torch.from_numpy(images), [torch.from_numpy(boxes) for _, boxes in drawn]

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        augmentation = self.settings.augmentation
        section, window = self._draw_window(rng)
        image, labels = zoom_patch(
            self.images[section][window],
            drop_slivers(self.labels[section][window], self.areas[section]),
            self.settings.patch_px,
        )
        quarters = int(rng.integers(4)) if augmentation.rotate else 0
        mirrored = bool(rng.integers(2)) and augmentation.flip
        image, labels = (turn_patch(each, quarters, mirrored) for each in (image, labels))
        gain, shift = np.exp(rng.normal(0, _CONTRAST)), rng.normal(0, _BRIGHTNESS)
        noise = rng.uniform(0, augmentation.noise) * rng.normal(size=image.shape)
        boxes = label_boxes(labels)
        check_areas(boxes)
        return gain * image + shift + noise, boxes

    def _draw_window(self, rng: np.random.Generator) -> tuple[int, tuple[slice, slice]]:
        """Draws a section and the window of a patch in it, all of which is annotated."""
        for _ in range(_MOST_ATTEMPTS):
            section, y, x = self._draw_place(rng)
            edge = self._edge(float(np.exp(rng.uniform(-1, 1) * np.log(self.zoom))))
            y0, x0 = (
                clip_centre(at, side, edge) - edge // 2
                for at, side in zip((y, x), self.images[section].shape, strict=True)
            )
            window = np.s_[y0 : y0 + edge, x0 : x0 + edge]
            if not self.ignored or not self.ignored[section][window].any():
                return section, window
        raise BenchError(
            f"a detector is trained on patches without ignored pixels, received "
            f"{len(self.ignored)} sections in which {_MOST_ATTEMPTS} places for a patch of "
            f"{self.settings.patch_px} px have some: lower patch_px, annotate larger parts, or "
            "choose another method"
        )

    def _edge(self, factor: float) -> int:
        """Edge of what becomes a patch when it is enlarged by a factor, even."""
        return 2 * round(self.settings.patch_px / factor / 2)

    def _draw_place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        patch = self.settings.patch_px
        if rng.random() < self.settings.foreground_fraction:
            section, centres = self.centres[rng.integers(len(self.centres))]
            y, x = centres[rng.integers(len(centres))] + rng.integers(-patch // 3, patch // 3, 2)
            return section, int(y), int(x)
        section = int(rng.integers(len(self.images)))
        y, x = (int(rng.integers(side)) for side in self.images[section].shape)
        return section, y, x


def _fill(section: np.ndarray, edge_px: int, mode: str) -> np.ndarray:
    """Adds to a section (y, x) below and to the right what it is smaller than an edge."""
    widths = [(0, max(0, edge_px - side)) for side in section.shape]
    return np.pad(section, widths, mode=mode)  # type: ignore[call-overload, no-any-return]


def zoom_patch(
    image: np.ndarray, labels: np.ndarray, edge_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """An image (y, x) by bilinear interpolation and its labels by the nearest, at another edge."""
    if image.shape == (edge_px, edge_px):
        return image, labels
    places = [Places.of(side, edge_px) for side in image.shape]
    rows, columns = (
        ((np.arange(edge_px) + 0.5) * side / edge_px).astype(int) for side in image.shape
    )
    return interpolate(image, *places), labels[np.ix_(rows, columns)]


def turn_patch(patch: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    """A patch (y, x) turned by quarters, then mirrored along x."""
    turned = np.rot90(patch, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def drop_slivers(labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The instances of a patch without those of which it shows next to nothing.

    Args:
        labels: Ids (y, x) of the patch.
        areas: Pixels of every id in the whole section.
    """
    shown = np.bincount(labels.reshape(-1), minlength=areas.size)
    kept = (shown >= _LEAST_PART_PX) | (shown >= _LEAST_SHARE * areas)
    return np.where(kept[labels], labels, 0)


def detecting(network: Detector, feed: BoxPatchFeed, compute: Compute) -> Objective:
    """The sum of a detector's losses on patches with boxes."""

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        images, boxes = feed.batch(iteration)
        given = [each.to(compute.device) for each in boxes]
        with compute.autocast():
            losses = network.measure(images.to(compute.device), given)
        numbers = {f"{name}_loss": float(value.detach()) for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum(), numbers

    settings = feed.settings
    remedy = f"lower batch_size (now {settings.batch_size}) or patch_px (now {settings.patch_px})"
    return Objective(compute_loss, settings.batch_size, remedy)
