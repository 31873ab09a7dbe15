"""TransUNet: what is known of the published one, and its parts against torch's own."""

import pytest
import torch
from torch.nn import functional

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.checkpoint import build_model
from bench.models.networks import NETWORKS
from bench.models.retina import transunet

SMALL = {"out_channels": 1, "width": 48, "blocks": 2}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model("transunet", SMALL).eval()


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("width", "all_of_it", "blocks"), [(768, 105.3, 85.1), (192, 22.2, 5.3)])
def test_it_has_as_many_parameters_as_published(width, all_of_it, blocks):
    with torch.device("meta"):
        network = build_model("transunet", {"out_channels": 1, "width": width})
    assert count(network) / 1e6 == pytest.approx(all_of_it, abs=0.05)
    assert count(network.transformer.encoder.layer) / 1e6 == pytest.approx(blocks, abs=0.05)
    assert network.transformer.embeddings.position_embeddings.shape == (1, 196, width)


def test_the_row_gives_the_published_width_and_takes_multiples_of_the_heads():
    row = NETWORKS["transunet"]
    assert row.arguments(FinetuneConfig()) == {"width": 768}
    assert row.arguments(FinetuneConfig(width=192)) == {"width": 192}
    with pytest.raises(BenchError, match=r"width must be a multiple of 12, .* received 100"):
        row.arguments(FinetuneConfig(width=100))
    with pytest.raises(BenchError, match="width must be a multiple of 12"):
        build_model("transunet", SMALL | {"width": 50})
    assert row.fit_patch(None, {}) == 224
    with pytest.raises(BenchError, match="patch_px must be a multiple of 16, received 230"):
        row.fit_patch(230, {})


@pytest.mark.parametrize("shape", [(64, 64), (32, 80)])
def test_windows_of_any_multiple_of_16_keep_their_shape(small, shape):
    with torch.inference_mode():
        assert small(torch.randn(2, 1, *shape)).shape == (2, 1, *shape)


def test_the_resnet_sees_half_quarter_and_eighth(small):
    with torch.inference_mode():
        coarsest, skips = small.transformer.embeddings.hybrid_model(torch.randn(1, 3, 64, 64))
    shapes = [tuple(skip.shape[1:]) for skip in skips]
    assert shapes == [(512, 8, 8), (256, 16, 16), (64, 32, 32)]
    assert coarsest.shape == (1, 1024, 4, 4)
    # Its pooling has no padding: what is missing is zeros.
    assert not skips[1][..., -1].any()
    assert not skips[1][..., -1, :].any()
    assert skips[1][..., -2].any()


def test_positions_are_those_that_were_learned_in_the_window_that_they_are_for():
    embeddings = build_model("transunet", SMALL | {"grid": 4}).transformer.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.copy_(torch.arange(16.0)[None, :, None].expand(1, -1, 48))
        same = embeddings._positions((4, 4))
        larger = embeddings._positions((7, 7))
    assert torch.equal(same[0, 0], torch.arange(16.0).reshape(4, 4))
    # From corner to corner, the learned ones at every second place.
    assert torch.allclose(larger[..., ::2, ::2], same)
    assert larger[0, 0, 0, 1].item() == pytest.approx(0.5)


def test_kernels_are_standardised():
    conv = transunet._StandardisedConv(5, 3, 3, bias=False)
    image = torch.randn(2, 5, 9, 9)
    kernel = conv.weight.detach().double()
    flat = kernel.flatten(1)
    kernel = (flat - flat.mean(1, keepdim=True)) / (
        flat.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    expected = functional.conv2d(image.double(), kernel.reshape(conv.weight.shape))
    assert torch.allclose(conv(image).double(), expected, atol=1e-5)
    with torch.no_grad():
        before = conv(image)
        conv.weight.copy_(3 * conv.weight + 2)
    assert torch.allclose(conv(image), before, atol=0.05)


def test_a_joint_is_a_group_norm_of_one_group_a_channel():
    ours, torchs = transunet._ChannelScale(6), torch.nn.GroupNorm(6, 6, eps=1e-5)
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), torchs.parameters(), strict=True):
            mine.copy_(torch.randn(6))
            theirs.copy_(mine)
    image = torch.randn(2, 6, 8, 8)
    results = []
    for norm in (ours, torchs):
        seen = image.clone().requires_grad_()
        found = norm(seen)
        (found**2 * torch.arange(6.0)[:, None, None]).sum().backward()
        results.append((found, seen.grad, norm.weight.grad, norm.bias.grad))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_attention_is_that_of_torch():
    width = 24
    ours, torchs = (
        transunet._Attention(width),
        torch.nn.MultiheadAttention(width, 12, batch_first=True),
    )
    with torch.no_grad():
        rows = (ours.query, ours.key, ours.value)
        torchs.in_proj_weight.copy_(torch.cat([row.weight for row in rows]))
        torchs.in_proj_bias.copy_(torch.cat([row.bias for row in rows]))
        torchs.out_proj.load_state_dict(ours.out.state_dict())
        tokens = torch.randn(2, 5, width)
        assert torch.allclose(ours(tokens), torchs(tokens, tokens, tokens)[0], atol=1e-6)


def test_it_drops_in_training_only(small):
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(small(image), small(image))
    embeddings = small.transformer.train().embeddings
    try:
        with torch.inference_mode():
            one, two = (embeddings(image.expand(-1, 3, -1, -1))[0] for _ in range(2))
    finally:
        small.eval()
    assert not torch.equal(one, two)
    assert 0.05 < (one == 0).float().mean() < 0.16
