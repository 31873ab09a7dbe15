"""The paper's augmentations as torch_em does them, and what of them both sides have in common."""

import numpy as np
import torch
from kornia import augmentation as kornia
from torch_em.transform.augmentation import KorniaAugmentationPipeline, RandomElasticDeformation
from torch_em.transform.raw import AdditiveGaussianNoise

from bench.training.augment import ELASTIC_SPACING_PX, Augmentation, augment_windows
from bench.training.patches import window_edge

# Smoothing of torch_em's control points (px), and the strength (half edges of a patch per px of
# ours) at which its displacements are as strong as ours.
SMOOTHING_PX, STRENGTH = (8.0, 8.0), 2.0


class ElasticForSome(RandomElasticDeformation):
    """torch_em's elastic deformation, of half of the patches, each with a strength of its own.

    torch_em's deforms every patch, equally strong; where ours is none, this one does no work.
    """

    def generate_parameters(self, batch_shape):
        """Draws control points and their strength."""
        # torch_em's draws are from the global state too.
        strength = np.random.uniform() * (np.random.uniform() < 0.5)  # noqa: NPY002
        if strength == 0:
            return {"noise": None}
        return {"noise": super().generate_parameters(batch_shape)["noise"] * strength}

    def __call__(self, input, params=None):
        """Deforms, or hands back."""
        self._params = self.generate_parameters(input.shape) if params is None else params
        return input if self._params["noise"] is None else super().__call__(input, self._params)


class PeersTransform:
    """Flips, quarter turns, free rotations of half of the patches, elastic deformation, noise."""

    def __init__(self, augmentation: Augmentation, patch_px: int) -> None:
        strength = STRENGTH * augmentation.elastic_px / (patch_px / 2)
        self.geometry = KorniaAugmentationPipeline(
            kornia.RandomHorizontalFlip(p=0.5),
            kornia.RandomRotation90(times=(0, 3), p=1.0),
            kornia.RandomRotation(degrees=180.0, p=0.5),
            ElasticForSome(ELASTIC_SPACING_PX, sigma=SMOOTHING_PX, alpha=(strength, strength)),
        )
        self.noise = AdditiveGaussianNoise((0.0, augmentation.noise), clip_kwargs=None)

    def __call__(self, raw, labels):
        """Transforms a patch and its target as torch_em's datasets ask for it."""
        moved, target = self.geometry(raw, labels)
        return self.noise(moved[0].numpy()), target[0]


def apply_peers(augmentation: Augmentation, patch_px: int, image: np.ndarray, mask: np.ndarray):
    """Transforms one patch as the peer does; image and mask (y, x)."""
    moved, target = PeersTransform(augmentation, patch_px)(image, mask)
    return np.squeeze(moved), np.squeeze(target.numpy())


def apply_ours(augmentation: Augmentation, patch_px: int, rng: np.random.Generator, count: int):
    """Transforms coordinates as ours does; x and y (count, patch_px, patch_px)."""
    edge = window_edge(patch_px, augmentation)
    axis = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = (each.expand(count, 1, edge, edge) for each in (x, y))
    xs, ys = augment_windows(x, y, patch_px=patch_px, augmentation=augmentation, rng=rng)
    return xs[:, 0].numpy(), ys[:, 0].numpy()


def describe_motion(xs: np.ndarray, ys: np.ndarray) -> dict[str, float]:
    """Tells from moved coordinates (count, edge, edge) how the patches were moved.

    Returns:
        The shares of mirrored, deformed and freely turned patches (the last of those that are
        not deformed), and the deviation of the displacement in deformed ones, px.
    """
    edge = xs.shape[-1]
    y, x = np.indices((edge, edge)) - (edge - 1) / 2
    # Free rotation leaves the corners of the peer's patches empty, elastic reaches 16 px.
    inside = np.hypot(y, x) < edge / 2 - 16
    design = np.stack([x[inside], y[inside], np.ones(inside.sum())], axis=1)
    moved = np.stack([xs[:, inside], ys[:, inside]], axis=-1)
    fits = np.linalg.pinv(design) @ moved
    residuals = (moved - design @ fits).std(axis=(1, 2))
    deformed = residuals > 0.35
    right = (np.abs(fits[:, :2]) < 0.01).any(axis=(1, 2))
    return {
        "mirrored": float((np.linalg.det(fits[:, :2]) < 0).mean()),
        "deformed": float(deformed.mean()),
        "turned freely": float(1 - right[~deformed].mean()),
        "displacement": float(np.sqrt((residuals[deformed] ** 2).mean())),
    }


def compare_motion(augmentation: Augmentation, patch_px: int, count: int) -> str:
    """How many patches each side mirrors, turns freely and deforms, and how strongly."""
    quiet = Augmentation(augmentation.rotate, augmentation.flip, augmentation.elastic_px, 0.0)
    ours = describe_motion(*apply_ours(quiet, patch_px, np.random.default_rng(0), count))
    y, x = (np.indices((patch_px,) * 2) - (patch_px - 1) / 2).astype(np.float32)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    transformed = [apply_peers(quiet, patch_px, x, y) for _ in range(count)]
    theirs = describe_motion(*(np.stack(each) for each in zip(*transformed, strict=True)))
    return ", ".join(f"{name} {ours[name]:.2f}/{theirs[name]:.2f}" for name in ours)
