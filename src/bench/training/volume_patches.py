"""Training patches of volumes, changed only in ways that leave the axis of the beam where it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.feeding import Moments
from bench.inference.volume_feed import VolumeFeed, measure_planes
from bench.training.augment import add_noise
from bench.training.patches import instance_centres


@dataclass(frozen=True)
class VolumeAugmentation:
    """What is done to a patch of a volume.

    A tilt series sees nothing of a wedge of directions around the axis of the beam, z. Mirroring
    along an axis maps the wedge onto itself; a quarter turn in the plane maps the axis of the tilt
    onto another, and any turn that moves z does worse, as it does where planes lie further apart
    than pixels. So there are no turns but those in the plane of serial sections, which were seen
    from nowhere but above.

    Attributes:
        flip: Along each axis on its own, half of the patches are mirrored.
        turn: They are turned by a multiple of 90 degrees in the plane.
        noise: Largest standard deviation of Gaussian noise; each patch draws its own up to it.
    """

    flip: bool
    turn: bool
    noise: float

    def __str__(self) -> str:
        """As people say it."""
        parts = ["mirrors along z, y and x"] if self.flip else []
        parts += ["turns by 90 degrees in the plane"] if self.turn else []
        parts += [f"noise of up to {self.noise:g} deviations"] if self.noise else []
        return ", ".join(parts) or "none"


@dataclass(frozen=True)
class VolumePatchSettings:
    """How patches are drawn.

    Attributes:
        shape: Voxels of a patch along z, y, x.
        batch_size: Patches in a batch.
        foreground_fraction: Share of patches drawn around an instance.
        augmentation: What is done to them.
        seed: Every batch is a function of this seed and the iteration.
    """

    shape: tuple[int, int, int]
    batch_size: int
    foreground_fraction: float
    augmentation: VolumeAugmentation
    seed: int

    @property
    def patch_px(self) -> int:
        """Edge of a patch in the plane."""
        return self.shape[-1]


@dataclass(frozen=True, eq=False)
class HeldVolume:
    """A volume in memory, of which patches are normalised when they are drawn.

    Attributes:
        image: Grey values (z, y, x): as they are, or smoothed, resampled and normalised before.
        moments: What scales them.
        target: Whether a voxel is in an instance, bool (z, y, x).
        centres: For each instance (z, y, x) of up to CENTRES_PER_INSTANCE of its voxels.
        sure: Where a voxel is annotated, bool (z, y, x); None where all volumes are whole.
    """

    image: np.ndarray
    moments: Moments
    target: np.ndarray
    centres: list[np.ndarray]
    sure: np.ndarray | None = None


def hold_volume(
    raw: np.ndarray, labels: np.ndarray, feed: VolumeFeed, sure: np.ndarray | None = None
) -> HeldVolume:
    """Keeps a volume as a network will be fed it, in as few bytes as it takes.

    What is neither smoothed nor resampled keeps its own type beside a mean and a deviation; else
    it is kept normalised in half precision, whose error is a thousandth of the grey value.

    Args:
        raw: Grey values (z, y, x) of any bit depth.
        labels: Instance ids (z, y, x), 0 background.
        feed: What reads the same volume for predictions: its scale, smoothing and normalisation.
        sure: Where it is annotated, bool (z, y, x); None where all volumes are annotated whole.
    """
    labels = _resize_ids(labels, feed.fed_shape)
    sure = None if sure is None else _resize_ids(sure, feed.fed_shape)
    target, centres = labels != 0, instance_centres(labels)
    as_it_is = feed.shape == feed.fed_shape and not feed.smoothing_px
    if as_it_is and feed.normalisation == "volume":
        moments = measure_planes(plane.astype(np.float32) for plane in raw)
        return HeldVolume(raw, moments, target, centres, sure)
    image = np.empty(feed.fed_shape, np.float16)
    for z, plane in enumerate(feed.planes()):
        image[z] = plane
    return HeldVolume(image, Moments(0.0, 1.0), target, centres, sure)


def _resize_ids(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes ids (z, y, x): every voxel takes the nearest one's."""
    if labels.shape == shape:
        return labels
    places = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(*places)]


class VolumePatchFeed:
    """Batches of patches from volumes held in memory.

    As ``PatchFeed`` does, it places a share of ``foreground_fraction`` of the patches around an
    instance, each instance equally likely whatever its size, and the others uniformly, all of them
    inside their volume. A volume with a side smaller than the patch's is mirrored beyond its
    border. A batch depends on the seed and the iteration alone.
    """

    def __init__(
        self, volumes: Sequence[HeldVolume], settings: VolumePatchSettings, device: torch.device
    ) -> None:
        """Takes the volumes.

        Args:
            volumes: What to draw from.
            settings: How to draw.
            device: Where batches end up.

        Raises:
            BenchError: If nothing at all is annotated.
        """
        self.settings, self.device = settings, device
        # All volumes say where they are annotated, or none does.
        self.weighted = volumes[0].sure is not None
        if self.weighted and not any(each.sure is not None and each.sure.any() for each in volumes):
            raise BenchError(
                f"training needs annotated voxels, received {len(volumes)} volumes, or parts of "
                "them, that are ignored as a whole: annotate some, or take other volumes"
            )
        self.volumes = [_complete(volume, settings.shape) for volume in volumes]
        self.centres = [
            (index, centres)
            for index, volume in enumerate(self.volumes)
            for centres in volume.centres
        ]

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the batch of an iteration.

        Returns:
            Images and targets (batch, 1, z, y, x), the latter 0 or 1, both float32. Where not all
            is annotated, targets have a second channel: 1 where a voxel is.
        """
        settings = self.settings
        rng = np.random.default_rng((settings.seed, iteration))
        size = (settings.batch_size, 1, *settings.shape)
        channels = 1 + self.weighted
        image = np.empty(size, np.float32)
        target = np.empty((size[0], channels, *settings.shape), np.float32)
        for place in range(settings.batch_size):
            index, corner = self.draw_place(rng)
            volume, move = self.volumes[index], _draw_move(settings.augmentation, rng)
            window = tuple(
                slice(first, first + side)
                for first, side in zip(corner, settings.shape, strict=True)
            )
            image[place, 0] = volume.moments.apply(move(volume.image[window]))
            target[place, 0] = move(volume.target[window])
            if volume.sure is not None:
                target[place, 1] = move(volume.sure[window])
        images, targets = (torch.from_numpy(each).to(self.device) for each in (image, target))
        if settings.augmentation.noise > 0:
            images = add_noise(images, settings.augmentation.noise, rng)
        return images, targets

    def draw_place(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Draws a volume and the corner (z, y, x) of a patch in it, some of which is annotated."""
        while True:
            index, corner = self._draw_any(rng)
            sure = self.volumes[index].sure
            sides = zip(corner, self.settings.shape, strict=True)
            if sure is None or sure[tuple(slice(at, at + side) for at, side in sides)].any():
                return index, corner

    def _draw_any(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        patch = np.array(self.settings.shape)
        if self.centres and rng.random() < self.settings.foreground_fraction:
            index, centres = self.centres[rng.integers(len(self.centres))]
            middle = centres[rng.integers(len(centres))] + rng.integers(-patch // 3, patch // 3)
        else:
            index = int(rng.integers(len(self.volumes)))
            middle = rng.integers(self.volumes[index].image.shape)
        room = np.array(self.volumes[index].image.shape) - patch
        return index, tuple(np.clip(middle - patch // 2, 0, room).tolist())


class _Move:
    """Mirrors and turns that only move voxels; the same of image and target."""

    def __init__(self, axes: tuple[int, ...], turns: int) -> None:
        self.axes, self.turns = axes, turns

    def __call__(self, patch: np.ndarray) -> np.ndarray:
        return np.rot90(np.flip(patch, self.axes), self.turns, axes=(1, 2))


def _draw_move(augmentation: VolumeAugmentation, rng: np.random.Generator) -> _Move:
    """Draws what is done to a patch; as much is drawn whatever is used of it."""
    mirrored, turns = rng.random(3) < 0.5, int(rng.integers(4))
    axes = tuple(np.flatnonzero(mirrored).tolist()) if augmentation.flip else ()
    return _Move(axes, turns if augmentation.turn else 0)


def _complete(volume: HeldVolume, shape: tuple[int, int, int]) -> HeldVolume:
    """Mirrors a volume beyond its border where a patch does not fit into it."""
    missing = [
        max(0, wanted - side) for wanted, side in zip(shape, volume.image.shape, strict=True)
    ]
    if not any(missing):
        return volume
    widths = [(each // 2, each - each // 2) for each in missing]
    image, target = (
        np.pad(each, widths, mode="symmetric") for each in (volume.image, volume.target)
    )
    sure = None if volume.sure is None else np.pad(volume.sure, widths, mode="symmetric")
    before = np.array([first for first, _ in widths])
    centres = [each + before for each in volume.centres]
    return HeldVolume(image, volume.moments, target, centres, sure)
