"""Training of micro_sam: its patches, and its objective in our resumable loop."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skimage.measure import label

from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.sam import SamNetwork, add_lora
from bench.training.objectives import Objective
from bench.training.patches import clip_centre, instance_centres

# Parts of an instance smaller than this, cut off by the patch's border, are no instances: as in
# micro_sam's loaders.
_MIN_PART_PX = 25
_MOST_ATTEMPTS = 100
_NOTHING = "none"
_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
# As micro_sam trains: how far boxes are distorted, and how often a mask is a prompt.
_BOX_DISTORTION, _MASK_PROBABILITY = 0.025, 0.5


@dataclass(frozen=True)
class InstancePatchSettings:
    """How patches are drawn.

    Attributes:
        patch_px: Edge of a patch.
        batch_size: Patches in a batch.
        distances: Whether targets of micro_sam's decoder are made too.
        seed: Every batch is a function of this seed and the iteration.
    """

    patch_px: int
    batch_size: int
    distances: bool
    seed: int


class InstancePatchFeed:
    """Batches of patches, each with at least one instance, from sections held in memory.

    Does what micro_sam's MinInstanceSampler is for, without drawing in vain where instances are
    sparse: an instance is drawn, each equally likely, and the patch is placed around one of its
    pixels. It is turned by quarters and mirrored at random. A batch depends on the seed and the
    iteration alone.
    """

    def __init__(
        self, sections: Sequence[tuple[np.ndarray, np.ndarray]], settings: InstancePatchSettings
    ) -> None:
        """Loads the sections.

        Args:
            sections: Raw (y, x) of any bit depth and instance labels (y, x) of every section.
                One that is smaller than the patch gets a black margin without instances.
            settings: How to draw.

        Raises:
            BenchError: If there is no instance.
        """
        self.settings = settings
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
        rng = np.random.default_rng((self.settings.seed, iteration))
        patches = [self.draw(rng) for _ in range(self.settings.batch_size)]
        images = np.stack([np.repeat(image[None], 3, axis=0) for image, _ in patches])
        targets = np.stack([self.make_target(labels) for _, labels in patches])
        return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(targets)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws a patch with instances and background: image (y, x) uint8, ids (y, x) int32."""
        patch = self.settings.patch_px
        for _ in range(_MOST_ATTEMPTS):
            section, centres = self.centres[rng.integers(len(self.centres))]
            y, x = centres[rng.integers(len(centres))] + rng.integers(-patch // 3, patch // 3, 2)
            height, width = self.images[section].shape
            y0 = clip_centre(int(y), height, patch) - patch // 2
            x0 = clip_centre(int(x), width, patch) - patch // 2
            window = np.s_[y0 : y0 + patch, x0 : x0 + patch]
            labels = label_parts(self.labels[section][window])
            if labels.any() and not labels.all():
                turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
                image = _turn(self.images[section][window], turns, mirrored)
                return image, _turn(labels, turns, mirrored)
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


@dataclass(frozen=True)
class SamTrainingSettings:
    """Settings of the objective.

    Attributes:
        sub_iterations: Prompts per iteration; after the first, where the masks are wrong.
        objects_per_batch: Instances of a batch that are prompted; the others are left out.
    """

    sub_iterations: int
    objects_per_batch: int


def prepare_network(network: SamNetwork, *, freeze: str, lora_rank: int) -> None:
    """Decides which parameters of a SAM are trained.

    Args:
        network: The network; it is changed in place.
        freeze: Parts that are not trained, comma-separated, of _PARTS; ``none`` trains all.
        lora_rank: Rank of the updates that are trained in place of the image encoder; 0 is none.

    Raises:
        BenchError: If a part is unknown, or nothing is left to train.
    """
    frozen = _split_parts(freeze)
    if lora_rank:
        # micro_sam's updates freeze the rest of the encoder themselves.
        add_lora(network, lora_rank)
        frozen -= {"image_encoder"}
    for part in frozen:
        getattr(network.sam, part).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise BenchError(f"something must be trained, received freeze={freeze}: leave a part out")


def _split_parts(freeze: str) -> set[str]:
    parts = {part.strip() for part in freeze.replace("+", ",").split(",")} - {_NOTHING, ""}
    if unknown := parts - set(_PARTS):
        raise BenchError(
            f"freeze must be none or some of {', '.join(_PARTS)}, received {', '.join(unknown)}: "
            "correct the name"
        )
    return parts


def make_trainer(network: SamNetwork, settings: SamTrainingSettings, compute: Compute) -> Any:
    """Makes micro_sam's trainer of a network, of which we use the loss of a batch."""
    from micro_sam.training.joint_sam_trainer import JointSamTrainer
    from micro_sam.training.sam_trainer import SamTrainer
    from micro_sam.training.trainable_sam import TrainableSAM
    from micro_sam.training.util import ConvertToSamInputs
    from torch_em.loss import DiceBasedDistanceLoss

    model = TrainableSAM(network.sam)
    arguments = {
        "name": "synapse-bench",
        "model": model,
        "convert_inputs": ConvertToSamInputs(
            transform=model.transform, box_distortion_factor=_BOX_DISTORTION
        ),
        "n_sub_iteration": settings.sub_iterations,
        "n_objects_per_batch": settings.objects_per_batch,
        "mask_prob": _MASK_PROBABILITY,
        "device": compute.device,
        # Its loop is not run: loaders, optimiser and files are ours.
        "train_loader": None,
        "val_loader": None,
        "optimizer": None,
        "logger": None,
        "mixed_precision": False,
        "compile_model": False,
    }
    if network.unetr is None:
        return SamTrainer(**arguments)
    loss = DiceBasedDistanceLoss(mask_distances_in_bg=True)
    return JointSamTrainer(
        unetr=network.unetr, instance_loss=loss, instance_metric=loss, **arguments
    )


def interactive(
    network: SamNetwork, feed: InstancePatchFeed, settings: SamTrainingSettings, compute: Compute
) -> Objective:
    """The loss of micro_sam's interactive training, and of its decoder where there is one.

    micro_sam takes a step of the optimiser for each of both; here it is one step for their sum.
    With a frozen image encoder they share no parameters, and that is the same.

    Prompts are drawn from the global random states of Python, numpy and torch, which are
    therefore set anew by seed and iteration: a resumed run draws the same.
    """
    trainer = make_trainer(network, settings, compute)

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        images, targets = feed.batch(iteration)
        _seed_everything(feed.settings.seed, iteration)
        # Even iterations prompt with a point, odd ones with a box.
        trainer._iteration = iteration
        with compute.autocast():
            loss, mask, iou, _, _ = trainer._interactive_train_iteration(images, targets[:, :1])
            numbers = {"mask_loss": float(mask.detach()), "iou_loss": float(iou.detach())}
            if network.unetr is not None:
                instance = trainer._instance_iteration(images, targets[:, 1:])
                numbers["decoder_loss"] = float(instance.detach())
                loss = loss + instance
        return loss, numbers

    remedy = (
        f"lower objects_per_batch (now {settings.objects_per_batch}), sub_iterations (now "
        f"{settings.sub_iterations}) or patch_px (now {feed.settings.patch_px}), or freeze the "
        "image_encoder"
    )
    return Objective(compute_loss, feed.settings.batch_size, remedy)


def _seed_everything(seed: int, iteration: int) -> None:
    numbers = np.random.SeedSequence((seed, iteration)).generate_state(3)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[1]))  # noqa: NPY002
    torch.manual_seed(int(numbers[2]))
