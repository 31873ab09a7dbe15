"""Patches with instances, for the training of micro_sam."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.measure import label

from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.training.patches import clip_centre, instance_centres

# Parts of an instance smaller than this, cut off by the patch's border, are no instances: as in
# micro_sam's loaders.
_MIN_PART_PX = 25
_MOST_ATTEMPTS, _MOST_ATTEMPTS_PARTLY = 100, 2000


@dataclass(frozen=True)
class InstancePatchSettings:
    """How patches are drawn.

    Attributes:
        patch_px: Edge of a patch.
        batch_size: Patches in a batch.
        distances: Whether targets of micro_sam's decoder are made too.
        seed: Every batch is a function of this seed and the iteration.
        patches: How many are drawn, each used once in as many; None draws new ones each time.
    """

    patch_px: int
    batch_size: int
    distances: bool
    seed: int
    patches: int | None = None


class InstancePatchFeed:
    """Batches of patches, each with at least one instance, from sections held in memory.

    Does what micro_sam's MinInstanceSampler is for, without drawing in vain where instances are
    sparse: an instance is drawn, each equally likely, and the patch is placed around one of its
    pixels. It is turned by quarters and mirrored at random. A batch depends on the seed and the
    iteration alone.
    """

    def __init__(
        self,
        sections: Sequence[tuple[np.ndarray, np.ndarray]],
        settings: InstancePatchSettings,
        ignored: Sequence[np.ndarray] = (),
    ) -> None:
        """Loads the sections.

        Args:
            sections: Raw (y, x) of any bit depth and instance labels (y, x) of every section.
                One that is smaller than the patch gets a black margin without instances.
            settings: How to draw.
            ignored: Where nobody annotated a section, bool (y, x); of no section where empty. A
                patch that shows any of it is not drawn: the losses of micro_sam take all pixels.

        Raises:
            BenchError: If there is no instance.
        """
        self.settings = settings
        self.ignored = [_pad_to(each, settings.patch_px) for each in ignored]
        self.images = [_pad_to(stretch_contrast(raw), settings.patch_px) for raw, _ in sections]
        self.labels = [_pad_to(labels, settings.patch_px) for _, labels in sections]
        self.centres = [
            (index, centres)
            for index, labels in enumerate(self.labels)
            for centres in instance_centres(labels)
        ]
        if not self.centres:
            raise BenchError(
                f"SAM is trained on instances, received {len(sections)} sections without any: "
                "annotate some, or choose another structure"
            )

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            Images (batch, 3, y, x) float32 from 0 to 255, and targets (batch, channels, y, x)
            float32: ids 1, 2 .. and, with ``distances``, foreground and the two distances.
        """
        patches = self._draw_all(iteration)
        images = np.stack([np.repeat(image[None], 3, axis=0) for image, _ in patches])
        targets = np.stack([self.make_target(labels) for _, labels in patches])
        return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(targets)

    def _draw_all(self, iteration: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draws the patches of an iteration; of a fixed number all in a new order each round."""
        seed, size, count = self.settings.seed, self.settings.batch_size, self.settings.patches
        if count is None:
            rng = np.random.default_rng((seed, iteration))
            return [self.draw(rng) for _ in range(size)]
        patches = []
        for place in range(iteration * size, (iteration + 1) * size):
            order = np.random.default_rng((seed, place // count, count)).permutation(count)
            number = int(order[place % count])
            patches.append(self.draw(np.random.default_rng((seed, number))))
        return patches

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws a patch with instances and background: image (y, x) uint8, ids (y, x) int32."""
        patch = self.settings.patch_px
        for _ in range(_MOST_ATTEMPTS_PARTLY if self.ignored else _MOST_ATTEMPTS):
            section, centres = self.centres[rng.integers(len(self.centres))]
            y, x = centres[rng.integers(len(centres))] + rng.integers(-patch // 3, patch // 3, 2)
            height, width = self.images[section].shape
            y0 = clip_centre(int(y), height, patch) - patch // 2
            x0 = clip_centre(int(x), width, patch) - patch // 2
            window = np.s_[y0 : y0 + patch, x0 : x0 + patch]
            if self.ignored and self.ignored[section][window].any():
                continue
            labels = label_parts(self.labels[section][window])
            if labels.any() and not labels.all():
                turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
                image = _turn(self.images[section][window], turns, mirrored)
                return image, _turn(labels, turns, mirrored)
        if self.ignored:
            raise BenchError(
                f"SAM is trained on patches without ignored pixels, received {len(self.ignored)} "
                f"sections in which {_MOST_ATTEMPTS_PARTLY} places for a patch of {patch} px have "
                "some: lower patch_px, annotate larger parts, or choose another method"
            )
        raise BenchError(
            f"a patch of {patch} px must hold an instance and background, {_MOST_ATTEMPTS} places "
            "do not: change patch_px"
        )

    def make_target(self, labels: np.ndarray) -> np.ndarray:
        """The channels that a patch is compared with."""
        if not self.settings.distances:
            return labels[None].astype(np.float32)
        from torch_em.transform.label import PerObjectDistanceTransform

        transform = PerObjectDistanceTransform(instances=True)
        return np.asarray(transform(labels), dtype=np.float32)


def label_parts(labels: np.ndarray) -> np.ndarray:
    """Ids 1, 2 .. (int32) of the 4-connected parts of instances, without the smallest parts.

    Where all are small, all are kept.
    """
    parts = label(labels, background=0, connectivity=1)
    areas = np.bincount(parts.reshape(-1))
    kept = areas >= _MIN_PART_PX
    kept[0] = False
    if not kept.any():
        return np.asarray(parts, dtype=np.int32)
    ids = np.where(kept, np.cumsum(kept), 0)
    return np.asarray(ids[parts], dtype=np.int32)


def _pad_to(section: np.ndarray, edge_px: int) -> np.ndarray:
    """Adds zeros below and to the right of a section (y, x) that is smaller than an edge."""
    widths = [(0, max(0, edge_px - side)) for side in section.shape]
    return np.pad(section, widths)


def _turn(patch: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    turned = np.rot90(patch, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
