"""What micro_sam's trainers minimise, as the objective of our resumable loop."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.sam import SamNetwork, add_lora
from bench.training.objective import Objective
from bench.training.sam_patches import InstancePatchFeed

NOTHING = "none"
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
# As micro_sam trains: how far boxes are distorted, and how often a mask is a prompt.
BOX_DISTORTION, MASK_PROBABILITY = 0.025, 0.5


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
        freeze: Parts that are not trained, comma-separated, of PARTS; ``none`` trains all.
        lora_rank: Rank of the updates that are trained in place of the image encoder; 0 is none.

    Raises:
        BenchError: If a part is unknown, or nothing is left to train.
    """
    frozen = split_parts(freeze)
    if lora_rank:
        # micro_sam's updates freeze the rest of the encoder themselves.
        add_lora(network, lora_rank)
        frozen -= {"image_encoder"}
    for part in frozen:
        getattr(network.sam, part).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise BenchError(f"something must be trained, received freeze={freeze}: leave a part out")


def split_parts(freeze: str) -> set[str]:
    """The parts of a list that is separated by commas or plus signs."""
    parts = {part.strip() for part in freeze.replace("+", ",").split(",")} - {NOTHING, ""}
    if unknown := parts - set(PARTS):
        raise BenchError(
            f"freeze must be none or some of {', '.join(PARTS)}, received {', '.join(unknown)}: "
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
            transform=model.transform, box_distortion_factor=BOX_DISTORTION
        ),
        "n_sub_iteration": settings.sub_iterations,
        "n_objects_per_batch": settings.objects_per_batch,
        "mask_prob": MASK_PROBABILITY,
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
    network: SamNetwork,
    feed: InstancePatchFeed,
    settings: SamTrainingSettings,
    compute: Compute,
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
        seed_everything(feed.settings.seed, iteration)
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


def seed_everything(seed: int, iteration: int) -> None:
    """Sets the random states of Python, numpy and torch by seed and iteration."""
    numbers = np.random.SeedSequence((seed, iteration)).generate_state(3)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[1]))  # noqa: NPY002
    torch.manual_seed(int(numbers[2]))
