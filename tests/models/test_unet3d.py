"""The U-Net of volumes, whole and plane after plane."""

import pytest
import torch

from bench.config.training import FinetuneConfig
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.models.networks import NETWORKS
from bench.models.unet3d import build_unet3d
from bench.models.unet3d_stream import stream_unet3d


def make_network(depth=2, features=4, out_channels=1, seed=0):
    """A network whose BatchNorms have seen something."""
    torch.manual_seed(seed)
    network = build_unet3d(in_channels=1, out_channels=out_channels, depth=depth, features=features)
    edge = 4 * 2**depth
    with torch.no_grad():
        for _ in range(3):
            network.train()(2 * torch.randn(2, 1, edge, edge, edge) + 1)
    return network.eval()


def predict_whole(network, volume):
    """Logits (1, channels, z, y, x) of a volume (z, y, x)."""
    with torch.no_grad():
        return network(volume[None, None])


def test_it_has_cryovesnets_size():
    network = build_model(
        "unet3d", {**NETWORKS["unet3d"].arguments(FinetuneConfig(features=16)), "out_channels": 1}
    )
    assert sum(part.numel() for part in network.parameters()) == 250_097
    assert sum(part.numel() for part in network.buffers() if part.ndim) == 544
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm3d)]
    assert {norm.eps for norm in norms} == {1e-3}


@pytest.mark.parametrize("slab", [1, 3, 4, 8, 40])
@pytest.mark.parametrize(("depth", "out_channels"), [(1, 2), (2, 1), (3, 1)])
def test_planes_one_after_the_other_are_the_whole_volume(slab, depth, out_channels):
    network = make_network(depth, out_channels=out_channels)
    volume = torch.randn(40, 16, 24)
    expected = predict_whole(network, volume)
    before = {name: part.clone() for name, part in network.state_dict().items()}
    parts = list(stream_unet3d(network, volume[None, None].split(slab, dim=2), torch.float32))
    found = torch.cat(parts, dim=2)
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() < 1e-5
    assert all(torch.equal(part, before[name]) for name, part in network.state_dict().items())
    if depth < 3 and slab < 8:
        assert len(parts) > 1


def test_as_few_planes_as_the_network_pools_are_enough():
    network = make_network(depth=2)
    volume = torch.randn(4, 8, 8)
    found = torch.cat(list(stream_unet3d(network, [volume[None, None]], torch.float32)), dim=2)
    assert (found - predict_whole(network, volume)).abs().max() < 1e-5
    assert list(stream_unet3d(network, [], torch.float32)) == []


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_prediction_depends_on_nothing_beyond_its_reach(depth):
    network, reach = make_network(depth), NETWORKS["unet3d"].reach({"depth": depth})
    assert reach % 2**depth == 0
    wide = torch.randn(2**depth, 2**depth, 2 * reach + 2 ** (depth + 1))
    near = wide.clone()
    near[..., reach + 2 ** (depth + 1) :] += torch.randn(1)
    # What lies beyond is changed: the first pooled voxel must not notice, and those nearer do.
    whole, changed = predict_whole(network, wide), predict_whole(network, near)
    inside = slice(0, 2 ** (depth + 1))
    assert torch.equal(whole[..., inside], changed[..., inside])
    assert not torch.equal(whole, changed)
    closer = wide.clone()
    closer[..., 2 ** (depth + 1) + reach // 2 :] += 5
    assert not torch.equal(whole[..., inside], predict_whole(network, closer)[..., inside])


def test_planes_in_half_precision_are_close():
    network = make_network()
    volume = torch.randn(16, 16, 16)
    found = torch.cat(
        list(stream_unet3d(network, volume[None, None].split(4, dim=2), torch.bfloat16)), dim=2
    )
    expected = torch.sigmoid(predict_whole(network, volume))
    assert (torch.sigmoid(found.float()) - expected).abs().max() < 0.02


def test_a_checkpoint_keeps_what_belongs_to_volumes(tmp_path):
    network = make_network()
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}
    info = ModelInfo(
        *("unet3d", arguments, ("foreground",), "vesicles", 2.2, "volume", 64, 20),
        **{"tile_planes": 64, "halo_planes": 20, "input_section_nm": 2.2},
    )
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, network, info)
    found, read = load_checkpoint(path)
    assert read == info
    volume = torch.randn(8, 8, 8)
    assert torch.equal(predict_whole(found.eval(), volume), predict_whole(network, volume))
