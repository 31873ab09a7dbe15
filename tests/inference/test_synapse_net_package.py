"""SynapseNet's own way of segmentation; where the package is not installed, what is said."""

import importlib.util

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.inference.synapse_net_package import choose_scale, open_synapse_net
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.models.synapsenet import fetch_by_package

INSTALLED = importlib.util.find_spec("synapse_net") is not None
FP32 = Compute(torch.device("cpu"), "fp32")
ARGUMENTS = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 4}
INFO = ModelInfo(
    "unet2d", ARGUMENTS, ("foreground", "boundary"), "", 1.35, "section", tile_px=96, halo_px=16
)


@pytest.mark.skipif(INSTALLED, reason="synapse_net is installed")
def test_without_the_package_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(BenchError, match=r"install the extra synapse_net of pyproject.toml"):
        open_synapse_net(tmp_path / "x.safetensors", INFO, FP32, "vesicles")
    with pytest.raises(BenchError, match="unknown SynapseNet model 'newest'"):
        fetch_by_package("newest")


def test_scale_is_that_of_the_pixel_sizes():
    assert choose_scale(1.35, 2.7) == [2.0, 2.0]
    assert choose_scale(1.35, 1.35) is choose_scale(None, 5.0) is choose_scale(1.35, None) is None


@pytest.mark.skipif(not INSTALLED, reason="synapse_net, an extra on no package index, is missing")
@pytest.mark.parametrize("structure", ["vesicles", "mitochondria"])
def test_their_probabilities_are_ours(tmp_path, structure):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build_model("unet2d", ARGUMENTS), INFO)
    raw = np.random.default_rng(0).integers(0, 255, (96, 96)).astype(np.uint8)
    theirs = open_synapse_net(path, INFO, FP32, structure)(raw, 1.35)
    assert theirs.instances.shape == raw.shape
    ours = open_predictor(path, FP32, structure)[0](raw, 1.35)
    for own, other in ((ours.foreground, theirs.foreground), (ours.boundary, theirs.boundary)):
        assert np.abs(own.astype(int) - other).max() <= 1


@pytest.mark.skipif(not INSTALLED, reason="synapse_net, an extra on no package index, is missing")
def test_membrane_has_no_segmentation_of_theirs(tmp_path):
    with pytest.raises(BenchError, match=r"separates vesicles and mitochondria.*received membrane"):
        open_synapse_net(tmp_path / "x.safetensors", INFO, FP32, "membrane")
