"""Training patches, drawn so that small and rare foreground is seen."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.feeding import Moments, normalise_section
from bench.training.augment import ELASTIC_REACH, Augmentation, augment_windows
from bench.training.targets import pack_target, unpack_channels, unpack_target
from bench.words import BACKGROUND

# Centres remembered for every instance: enough to see all of it, little beside the images.
CENTRES_PER_INSTANCE = 1000
# Between the seeds of both kinds of patches: more than anybody types.
_SEEDS_APART = 2**40


@dataclass(frozen=True)
class PatchSettings:
    """How patches are drawn.

    Attributes:
        patch_px: Edge of a patch.
        batch_size: Patches in a batch.
        foreground_fraction: Share of patches drawn around an instance.
        augmentation: What is done to them.
        seed: Every batch is a function of this seed and the iteration.
    """

    patch_px: int
    batch_size: int
    foreground_fraction: float
    augmentation: Augmentation
    seed: int


class PatchFeed:
    """Batches of patches from sections held in memory.

    A share of ``foreground_fraction`` of the patches is placed around an instance: first one of
    all instances is drawn, each equally likely, whatever its size, then one of its pixels, and
    the patch is placed so that this pixel falls anywhere in its middle two thirds. The others
    are placed uniformly over the sections. A single vesicle is thus seen as often as a
    mitochondrion a hundred times its area. Of several structures one is drawn first, each equally
    likely, so that a rare one is seen as often as a common one.

    A batch depends on the seed and the iteration alone, so a resumed run needs no random state
    to go on with the very patches that the uninterrupted one would have seen.
    """

    def __init__(
        self,
        sections: Sequence[tuple[np.ndarray, np.ndarray]],
        settings: PatchSettings,
        device: torch.device,
        outputs: tuple[str, ...] = ("foreground",),
        moments: Moments | None = None,
        unsure: Sequence[np.ndarray] = (),
    ) -> None:
        """Loads the sections.

        Args:
            sections: Raw (y, x) of any bit depth and instance labels (y, x) of every section; of
                classes, labels (structures, y, x).
            settings: How to draw.
            device: Where augmentation runs and batches end up.
            outputs: What the network predicts, the channels of the target: see ``pack_target``.
            moments: By which all sections are normalised; None: each by its own.
            unsure: Where nobody annotated a section or is sure what it shows, bool (y, x); of no
                section where empty. With it targets have a channel more, 1 where a pixel is sure,
                and those of classes have no class where it is not; a patch of nothing that is sure
                is not drawn.

        Raises:
            BenchError: If an output is unknown, or nothing at all is sure.
        """
        self.settings, self.device = settings, device
        self.window_px = window_edge(settings.patch_px, settings.augmentation)
        pad = self.window_px // 2
        self.shapes = [raw.shape for raw, _ in sections]
        normalise = moments.apply if moments else normalise_section
        self.images = [_mirror(normalise(raw), pad) for raw, _ in sections]
        self.outputs = outputs
        self.sure = [~each for each in unsure]
        if self.sure and not any(each.any() for each in self.sure):
            raise BenchError(
                f"training needs annotated pixels, received {len(sections)} sections that are "
                "ignored as a whole: annotate some, or take other sections"
            )
        opened: list[np.ndarray | None] = list(unsure) or [None for _ in sections]
        targets = [
            pack_target(labels, outputs, ignored)
            for (_, labels), ignored in zip(sections, opened, strict=True)
        ]
        self.of_classes = outputs[:1] == (BACKGROUND,)
        self.weighted = bool(unsure) and not self.of_classes
        self.channels = len(outputs) + self.weighted
        self.targets = [_mirror(target, pad) for target in targets]
        planes = [labels if labels.ndim == 3 else labels[None] for _, labels in sections]
        drawn = [
            [
                (index, centres)
                for index, labels in enumerate(planes)
                for centres in instance_centres(labels[structure])
            ]
            for structure in range(len(planes[0]))
        ]
        # Of each structure that has any.
        self.centres = [centres for centres in drawn if centres]

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            Images (batch, 1, patch_px, patch_px) and targets (batch, channels, patch_px,
            patch_px), 0 or 1, both float32.
        """
        settings = self.settings
        rng = np.random.default_rng((settings.seed, iteration))
        places = [self.draw_place(rng) for _ in range(settings.batch_size)]
        images, targets = (
            torch.stack([self.cut(stack[section], y, x) for section, y, x in places])
            for stack in (self.images, self.targets)
        )
        image, packed = augment_windows(
            images[:, None].to(self.device, torch.float32),
            targets.to(self.device, torch.float32),
            patch_px=settings.patch_px,
            augmentation=settings.augmentation,
            rng=rng,
        )
        if self.weighted:
            return image, unpack_channels(packed, self.channels)
        return image, unpack_target(packed, self.outputs)

    def draw_place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Draws a section and the centre (y, x) of a patch in it, some of which is sure."""
        while True:
            section, y, x = self._draw_any(rng)
            if not self.sure or self._shows_sure(section, y, x):
                return section, y, x

    def _shows_sure(self, section: int, y: int, x: int) -> bool:
        half = self.settings.patch_px // 2
        rows, columns = (slice(max(0, centre - half), centre + half) for centre in (y, x))
        return bool(self.sure[section][rows, columns].any())

    def _draw_any(self, rng: np.random.Generator) -> tuple[int, int, int]:
        patch = self.settings.patch_px
        if self.centres and rng.random() < self.settings.foreground_fraction:
            several = len(self.centres) > 1
            instances = self.centres[rng.integers(len(self.centres)) if several else 0]
            section, centres = instances[rng.integers(len(instances))]
            y, x = centres[rng.integers(len(centres))] + rng.integers(-patch // 3, patch // 3, 2)
        else:
            section = int(rng.integers(len(self.images)))
            y, x = (int(rng.integers(side)) for side in self.shapes[section])
        height, width = self.shapes[section]
        return section, clip_centre(int(y), height, patch), clip_centre(int(x), width, patch)

    def cut(self, padded: torch.Tensor, y: int, x: int) -> torch.Tensor:
        """Cuts the window around a centre given in the coordinates of the unpadded section."""
        return padded[..., y : y + self.window_px, x : x + self.window_px]


def window_edge(patch_px: int, augmentation: Augmentation) -> int:
    """Edge (px, even) of the window that a patch is cut from, rotated and deformed."""
    diagonal = math.sqrt(2) if augmentation.rotate else 1.0
    reach = ELASTIC_REACH * augmentation.elastic_px
    return 2 * math.ceil(patch_px * diagonal / 2 + reach + 1)


def _mirror(section: np.ndarray, pad: int) -> torch.Tensor:
    """Mirrors a section (.., y, x) beyond its border by ``pad`` px on every side."""
    widths = [(0, 0)] * (section.ndim - 2) + [(pad, pad)] * 2
    return torch.from_numpy(np.pad(section, widths, mode="symmetric"))


def clip_centre(centre: int, side: int, patch: int) -> int:
    """Moves a centre so that the patch lies within a side; the middle where it is too small."""
    if side <= patch:
        return side // 2
    return min(max(centre, patch // 2), side - patch // 2)


def instance_centres(labels: np.ndarray) -> list[np.ndarray]:
    """Returns, for each instance, the place of up to CENTRES_PER_INSTANCE of its pixels.

    Args:
        labels: Instance ids of any number of axes, 0 background.

    Returns:
        Arrays (pixels, axes), by id.
    """
    places = np.flatnonzero(labels)
    ids = labels.ravel()[places]
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order], prepend=0))
    groups = np.split(places[order], starts[1:]) if starts.size else []
    return [np.stack(np.unravel_index(_thin(group), labels.shape), axis=1) for group in groups]


def _thin(places: np.ndarray) -> np.ndarray:
    """Every so many of them, so that CENTRES_PER_INSTANCE are left at most."""
    return places[:: -(-len(places) // CENTRES_PER_INSTANCE)]


class MixedFeed:
    """Batches of which a fixed number of patches is of pseudo-masks.

    The last channel of a target is the weight of its pixels: 1 of annotated pixels, ``weight`` of
    pseudo-masks, 0 where nobody is sure what they show.

    A batch is a function of the seed and the iteration, as those that it is made of.
    """

    def __init__(self, annotated: PatchFeed, pseudo: PatchFeed, weight: float) -> None:
        """Joins two feeds.

        Args:
            annotated: Patches of annotated sections.
            pseudo: Patches of pseudo-masks, whose last channel says where they are sure.
            weight: Weight of a pixel of these.
        """
        self.annotated, self.pseudo, self.weight = annotated, pseudo, weight

    @property
    def settings(self) -> PatchSettings:
        """How a batch is drawn, all patches counted."""
        number = self.annotated.settings.batch_size + self.pseudo.settings.batch_size
        return dataclasses.replace(self.annotated.settings, batch_size=number)

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            Images (batch, 1, patch_px, patch_px), the annotated first, and targets (batch,
            channels + 1, patch_px, patch_px) with the weight of a pixel last, all float32.
        """
        image, target = self.annotated.batch(iteration)
        other, found = self.pseudo.batch(iteration)
        if not self.annotated.weighted:
            target = torch.cat([target, torch.ones_like(target[:, :1])], dim=1)
        found = torch.cat([found[:, :-1], self.weight * found[:, -1:]], dim=1)
        return torch.cat([image, other]), torch.cat([target, found])


def divide_batch(settings: PatchSettings, fraction: float) -> tuple[PatchSettings, PatchSettings]:
    """How the annotated patches of a batch are drawn, and those of pseudo-masks.

    Args:
        settings: How all are.
        fraction: Share of a batch that is of pseudo-masks, rounded; of two patches or more, at
            least one is of either.
    """
    of_pseudo = min(max(round(settings.batch_size * fraction), 1), settings.batch_size - 1)
    annotated = dataclasses.replace(settings, batch_size=settings.batch_size - of_pseudo)
    seed = settings.seed + _SEEDS_APART
    return annotated, dataclasses.replace(settings, batch_size=of_pseudo, seed=seed)
