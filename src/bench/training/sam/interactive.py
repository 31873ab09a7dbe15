"""Training of micro_sam: its objective in our resumable loop."""

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import CONTIGUOUS, Compute
from bench.inference.sam.embedding_store import EmbeddingStore
from bench.inference.sam.embeddings import RESIZED_FLOAT, KeptEncoder
from bench.models.sam import SamNetwork, add_lora
from bench.training.objectives import Objective
from bench.training.sam.patches import InstancePatchFeed
from bench.training.sam.prompted import fed_size, prompted_loss

# How weights lie in memory. micro_sam's decoder convolves 1024 x 1024 px of up to 128 channels, and
# its step takes 1.5 times as long in channels_last (fp32, measured on a CPU without AVX512).
SAM_LAYOUT = CONTIGUOUS
_NOTHING = "none"
_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
# As micro_sam trains: how far boxes are distorted, and how often a mask is a prompt.
_BOX_DISTORTION, _MASK_PROBABILITY = 0.025, 0.5


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


def encoder_is_frozen(network: SamNetwork) -> bool:
    """Whether nothing of the image encoder is trained: what it makes of an image stays the same."""
    return not any(p.requires_grad for p in network.sam.image_encoder.parameters())


def interactive(
    network: SamNetwork,
    feed: InstancePatchFeed,
    settings: SamTrainingSettings,
    compute: Compute,
    store: EmbeddingStore | None = None,
) -> Objective:
    """The loss of micro_sam's interactive training, and of its decoder where there is one.

    micro_sam takes a step of the optimiser for each of both; here it is one step for their sum.
    With a frozen image encoder they share no parameters, and that is the same. They share the
    embeddings, which micro_sam computes for each: the same to the last bit, but for batches of
    several patches with a frozen encoder, whose embeddings are computed one by one.

    Prompts are drawn from the global random states of Python, numpy and torch, which are
    therefore set anew by seed and iteration: a resumed run draws the same.

    Args:
        network: The network, with what is not trained frozen.
        feed: Its patches.
        settings: How it is prompted.
        compute: Device and precision.
        store: Where embeddings of a fixed number of patches are kept, if the encoder is frozen.
    """
    trainer = make_trainer(network, settings, compute)
    frozen = encoder_is_frozen(network)
    kept = KeptEncoder(network, store if feed.settings.patches else None)

    def compute_loss(iteration: int) -> tuple[torch.Tensor, dict[str, float]]:
        images, targets = feed.batch(iteration)
        seed_everything(feed.settings.seed, iteration)
        # Even iterations prompt with a point, odd ones with a box.
        trainer._iteration = iteration
        with compute.autocast():
            if frozen:
                features = _embed_patches(trainer.model, kept, images, compute.precision)
            else:
                features = _embed(trainer.model, images)
            # fp16 has gradients only of a loss that the loop has scaled.
            loss, numbers = prompted_loss(
                trainer, features, images, targets[:, :1], at_once=compute.precision == "fp16"
            )
            if network.unetr is not None:
                instance = _decoder_loss(network, trainer, features, images, targets[:, 1:])
                numbers["decoder_loss"] = float(instance.detach())
                loss = loss + instance
        return loss, numbers

    remedy = (
        f"lower objects_per_batch (now {settings.objects_per_batch}), sub_iterations (now "
        f"{settings.sub_iterations}) or patch_px (now {feed.settings.patch_px}), or freeze the "
        "image_encoder"
    )
    return Objective(compute_loss, feed.settings.batch_size, remedy)


def _embed_patches(
    model: Any, kept: KeptEncoder, images: torch.Tensor, precision: str
) -> torch.Tensor:
    """Embeddings (batch, channels, y, x) of patches (batch, 3, y, x) from 0 to 255, one by one."""
    with torch.no_grad():
        features = [
            kept.find(
                image[0].numpy().astype(np.uint8),
                RESIZED_FLOAT,
                precision,
                partial(_embed, model, image[None]),
            )
            for image in images
        ]
    return torch.cat(features)


def _embed(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Embeddings (batch, channels, y, x) of images (batch, 3, y, x) from 0 to 255."""
    fed, _ = model.preprocess(images.to(model.sam.device, non_blocking=True))
    return torch.as_tensor(model.sam.image_encoder(fed))


def _decoder_loss(
    network: SamNetwork,
    trainer: Any,
    features: torch.Tensor,
    images: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """The loss of micro_sam's decoder, from embeddings of the images."""
    shape = images.shape[-2:]
    found = network.instance_decoder(features, fed_size(trainer.model, shape), tuple(shape))
    return torch.as_tensor(trainer.instance_loss(found, targets.to(trainer.device)))


def seed_everything(seed: int, iteration: int) -> None:
    """Sets the global random states of Python, numpy and torch, from which prompts are drawn."""
    numbers = np.random.SeedSequence((seed, iteration)).generate_state(3)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[1]))  # noqa: NPY002
    torch.manual_seed(int(numbers[2]))
