"""The residual U-Net: which network it is, and that tiles do not matter to it."""

import numpy as np
import pytest
import torch

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import predict_all_at_model_scale
from bench.models.checkpoint import ModelInfo, build_model
from bench.models.networks import NETWORKS
from bench.models.unet_residual import fit_to_objects

ROW = NETWORKS["unet_residual"]
# How far (px) a pixel of the output sees, at most: two convolutions at each of three levels, down
# and up again, the stem, and those at full resolution.
REACH_PX = 104
# Of objects for which blocks have 4 px and 2 px.
DIAMETERS = pytest.mark.parametrize("diameter_px", [60, 10])


def make_network(features: int = 4, diameter_px: float = 60) -> tuple[torch.nn.Module, dict]:
    arguments = ROW.arguments(FinetuneConfig(features=features)) | {"out_channels": 2}
    arguments = fit_to_objects(arguments, diameter_px)
    torch.manual_seed(0)
    network = build_model("unet_residual", arguments)
    # Statistics of their own, as after a training.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval(), arguments


def test_size_and_shape():
    network, _ = make_network(64)
    assert sum(part.numel() for part in network.parameters()) == 1_877_106
    assert network(torch.zeros(2, 1, 48, 64)).shape == (2, 2, 48, 64)


def test_objects_of_less_than_four_blocks_have_finer_ones():
    arguments = ROW.arguments(FinetuneConfig(features=64))
    assert fit_to_objects(arguments, 16.0) == arguments
    finer = fit_to_objects(arguments, 15.9)
    assert finer == arguments | {"features": [32, 64, 128, 256], "stride": 2}
    assert [ROW.multiples(each) for each in (arguments, finer)] == [(16, 16)] * 2
    network, _ = make_network(64, 12.6)
    assert network(torch.zeros(2, 1, 48, 64)).shape == (2, 2, 48, 64)


def test_a_pixel_is_found_where_it_is():
    """What the image shows is not moved by the blocks of the stem: turned, the output is turned.

    Its kernels are made symmetric, so that nothing else is allowed to be one-sided.
    """
    network, _ = make_network()
    with torch.no_grad():
        for name, kernel in network.named_parameters():
            if name == "spread.weight":
                # The same for every pixel of a block.
                first = kernel.reshape(-1, 16, *kernel.shape[1:])[:, :1]
                kernel.copy_(first.expand(-1, 16, -1, -1, -1).reshape(kernel.shape))
            elif name == "stem.weight":
                first = kernel[:, :1]
                kernel.copy_((first + first.flip(2, 3)).expand_as(kernel))
            elif kernel.ndim == 4:
                kernel.add_(kernel.flip(2, 3).clone())
        network.spread.bias.zero_()
        image = torch.randn(1, 1, 64, 64)
        found = network(image)
        turned = network(image.rot90(2, (2, 3))).rot90(2, (2, 3))
    torch.testing.assert_close(found, turned, rtol=1e-4, atol=1e-4)


@DIAMETERS
def test_a_tile_with_its_halo_is_as_the_whole(diameter_px):
    network, arguments = make_network(diameter_px=diameter_px)
    section = np.random.default_rng(0).integers(0, 255, (352, 352), dtype=np.uint8)
    info = ModelInfo(
        *("unet_residual", arguments, ("foreground", "boundary"), "membrane", None, "section"),
        *(352, 64),
    )
    maps = []
    for tile_px, halo_px in ((352, 0), (144, REACH_PX)):
        tiled = ModelInfo(**vars(info) | {"tile_px": tile_px, "halo_px": halo_px})
        compute = Compute(torch.device("cpu"), "fp32")
        (found,) = predict_all_at_model_scale(
            network, [section], info=tiled, pixel_size_nm=None, compute=compute
        )
        maps.append(found[:, REACH_PX:-REACH_PX, REACH_PX:-REACH_PX].astype(int))
    # Apart from the border of the section, where tiles mirror and the network pads.
    assert np.abs(maps[0] - maps[1]).max() <= 1
    assert np.ptp(maps[0]) > 20


@DIAMETERS
def test_a_pixel_sees_no_farther(diameter_px):
    network, _ = make_network(diameter_px=diameter_px)
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    (seen,) = torch.autograd.grad(network(image)[0, 0, 135, 130], image)
    rows, columns = np.nonzero(seen[0, 0].numpy())
    assert max(abs(rows - 135).max(), abs(columns - 130).max()) < REACH_PX


def test_a_patch_must_be_a_multiple_of_16():
    arguments = make_network()[1]
    assert ROW.fit_patch(None, arguments) == 128
    with pytest.raises(BenchError, match="patch_px must be a multiple of 16, received 40"):
        ROW.fit_patch(40, arguments)
    assert all((tile + 2 * halo) % 16 == 0 for tile, halo in ROW.choices(arguments))
