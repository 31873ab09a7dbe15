import copy

import pytest
import torch

from bench.errors import BenchError
from bench.models.unet3d_torch_em import build_unet3d_planes, needed_planes, pool_planes

FACTORS = [[1, 2, 2], [2, 2, 2]]
ARGUMENTS = {
    "in_channels": 1,
    "out_channels": 2,
    "features": 4,
    "scale_factors": FACTORS,
    "planes": 6,
}


def make_pair(seed=0):
    """The network, and torch_em's own with the same weights."""
    from torch_em.model import AnisotropicUNet

    torch.manual_seed(seed)
    network = build_unet3d_planes(**ARGUMENTS).eval()
    other = AnisotropicUNet(1, 2, scale_factors=FACTORS, initial_features=4).eval()
    other.load_state_dict(network.state_dict())
    return network, other


def test_section_gives_the_middle_plane_of_the_repeated_volume():
    network, other = make_pair()
    sections = torch.randn(3, 1, 16, 24)
    volume = torch.stack([sections] * 6, dim=2)
    with torch.no_grad():
        expected = other(volume)
        logits = network(sections)
    assert logits.shape == (3, 2, 16, 24)
    assert torch.equal(logits, expected[:, :, 3])
    assert not torch.allclose(logits, expected[:, :, 0], atol=1e-3), "the end planes differ"
    assert logits.min() < 0, "logits, not probabilities"


def test_a_copy_works_alone():
    """A mean teacher is a deep copy of its student."""
    network, _ = make_pair()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        assert twin(torch.randn(1, 1, 8, 8)).abs().max() > 0


def test_it_trains():
    network, _ = make_pair()
    network.train()
    network(torch.randn(2, 1, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("planes", "usable"), [(0, False), (2, True), (5, False), (-2, False)])
def test_planes_are_a_multiple_of_the_pooling(planes, usable):
    arguments = {**ARGUMENTS, "planes": planes}
    if usable:
        build_unet3d_planes(**arguments)
        return
    with pytest.raises(BenchError, match=f"along z, 2, received {planes}: use 16"):
        build_unet3d_planes(**arguments)


@pytest.mark.parametrize(
    ("factors", "pooling", "planes"),
    [
        ([[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]], 8, 16),
        ([[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]], 4, 16),
        ([[3, 2, 2], [2, 2, 2]], 6, 18),
        ([[2, 2, 2]] * 5, 32, 32),
        ([[1, 2, 2]], 1, 16),
    ],
)
def test_planes_that_a_network_needs(factors, pooling, planes):
    assert (pool_planes(factors), needed_planes(factors)) == (pooling, planes)
