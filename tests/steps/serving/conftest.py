"""Tomograms with vesicles, and a 3D network that finds what is dark, for segment on volumes."""

import mrcfile
import numpy as np
import pytest
import torch
from scipy import ndimage

from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint

VOXEL_NM = 2.2
SHAPE = (26, 44, 48)
# Centre along z, y, x and radius, in voxels; no two touch, and none lies alike in a mirror.
BALLS = ((12, 10, 10, 7), (13, 12, 32, 8), (11, 31, 11, 8), (14, 33, 37, 7))


def make_tomogram(seed: int) -> np.ndarray:
    """Vesicles with a dark inside and a darker membrane, int16, the first stored row at y 0."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[tuple(slice(side) for side in SHAPE)]
    raw = np.full(SHAPE, 1000.0)
    for *centre, radius in BALLS:
        cz, cy, cx = np.add(centre, rng.uniform(-0.5, 0.5, 3))
        away = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        raw[away < radius + 2.5] = 1060
        raw[away < radius] = 600
        raw[away < radius - 2] = 880
    raw = ndimage.gaussian_filter(raw, 0.7) + rng.normal(0, 12, SHAPE)
    return raw.astype(np.int16)


def write_tomogram(path, pixels, nm=VOXEL_NM, origin=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.voxel_size = 10 * nm
        file.set_volume()
        if origin is not None:
            file.header.origin.x, file.header.origin.y, file.header.origin.z = origin
    return path


def make_dark_finder(path, section_nm=VOXEL_NM):
    """A checkpoint of a 3D U-Net that says foreground where a volume is darker than its mean."""
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 2}
    network = build_model("unet3d", arguments)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.zero_()
        for block in (network.down[0], network.up[-1]):
            for layer in block:
                layer[1].weight.fill_(1)
                layer[0].weight[0, 0, 1, 1, 1] = 1
        # Dark is large: 4 - x; joined with what is coarser, it is the channel after that.
        network.down[0][0][0].weight[0, 0, 1, 1, 1] = -1
        network.down[0][0][0].bias[0] = 4
        network.up[-1][0][0].weight[0, 0, 1, 1, 1] = 0
        network.up[-1][0][0].weight[0, 2, 1, 1, 1] = 1
        network.out.weight[0, 0] = 9
        network.out.bias[0] = -9 * 4.5
    info = ModelInfo(
        *("unet3d", arguments, ("foreground",), "vesicles", VOXEL_NM, "volume", 16, 8),
        **{"tile_planes": 16, "halo_planes": 8, "input_section_nm": section_nm},
    )
    save_checkpoint(path, network.eval(), info)
    return path


@pytest.fixture(scope="session")
def dark_finder(tmp_path_factory):
    return make_dark_finder(tmp_path_factory.mktemp("dark") / "dark.safetensors")


@pytest.fixture(scope="session")
def tiny_section_network(tmp_path_factory):
    """A checkpoint of a U-Net of sections with random weights."""
    torch.manual_seed(3)
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 2}
    network = build_model("unet2d", arguments)
    with torch.no_grad():
        network.out_conv.weight.mul_(20)
    info = ModelInfo("unet2d", arguments, ("foreground",), "vesicles", VOXEL_NM, "section", 32, 16)
    path = tmp_path_factory.mktemp("sections") / "sections.safetensors"
    save_checkpoint(path, network, info)
    return path
