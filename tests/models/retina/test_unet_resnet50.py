"""The U-Net with a ResNet-50: which network it is, and that tiles do not matter to it."""

import pytest
import torch
from torchvision.models import resnet50

from bench.errors import BenchError
from bench.models.checkpoint import build_model
from bench.models.networks import NETWORKS


def test_its_encoder_is_the_resnet50_of_torchvision_for_one_channel():
    with torch.device("meta"):
        network = build_model("unet_resnet50", {"out_channels": 2})
        theirs = resnet50().state_dict()
    tensors = network.state_dict()
    encoder = {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder")}
    shapes = {name: tuple(t.shape) for name, t in theirs.items() if not name.startswith("fc.")}
    assert {n: tuple(t.shape) for n, t in encoder.items()} == shapes | {
        "conv1.weight": (64, 1, 7, 7)
    }
    assert tensors["segmentation_head.0.weight"].shape[0] == 2
    assert sum(p.numel() for p in network.parameters()) == 32_514_978


def test_a_patch_must_be_a_multiple_of_32():
    row = NETWORKS["unet_resnet50"]
    assert row.fit_patch(None, {}) == 256
    with pytest.raises(BenchError, match="patch_px must be a multiple of 32, received 48"):
        row.fit_patch(48, {})
    assert all((tile + 2 * halo) % 32 == 0 for tile, halo in row.choices({}))
