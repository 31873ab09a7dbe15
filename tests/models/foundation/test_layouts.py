"""Files of transformers, against their arithmetic written out from the tensors' published names."""

import math

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, silu

from bench.models.foundation.encoders import build_encoder, patch_tokens
from bench.models.foundation.layouts import LayoutError, read_encoder

PATCH = {"dinov2": 14, "dinov3": 4}


def attend(state, name, tokens, rotate):
    head = state["head"]
    bias = state.get(f"{name}.qkv.bias")
    if f"{name}.qkv.bias_mask" in state:
        bias = bias * state[f"{name}.qkv.bias_mask"]
    batch, count, width = tokens.shape
    mixed = linear(tokens, state[f"{name}.qkv.weight"], bias)
    mixed = mixed.reshape(batch, count, 3, width // head, head).permute(2, 0, 3, 1, 4)
    queries, keys, values = rotate(mixed[0]), rotate(mixed[1]), mixed[2]
    weights = (queries @ keys.transpose(-2, -1) / math.sqrt(head)).softmax(-1)
    joined = (weights @ values).transpose(1, 2).reshape(batch, count, width)
    return linear(joined, state[f"{name}.proj.weight"], state[f"{name}.proj.bias"])


def feed_forward(state, name, tokens):
    def layer(which, inputs):
        return linear(inputs, state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"])

    if f"{name}.fc1.weight" in state:
        return layer("fc2", gelu(layer("fc1", tokens)))
    if f"{name}.w12.weight" in state:
        gate, others = layer("w12", tokens).chunk(2, -1)
        return layer("w3", silu(gate) * others)
    return layer("w3", silu(layer("w1", tokens)) * layer("w2", tokens))


def see(state, images, eps, tokens, rotate):
    """The blocks and the last norm."""

    def norm(name, inputs):
        weights = state[f"{name}.weight"], state[f"{name}.bias"]
        return layer_norm(inputs, inputs.shape[-1:], *weights, eps=eps)

    number = 0
    while f"blocks.{number}.norm1.weight" in state:
        name = f"blocks.{number}"
        found = attend(state, f"{name}.attn", norm(f"{name}.norm1", tokens), rotate)
        tokens = tokens + state[f"{name}.ls1.gamma"] * found
        found = feed_forward(state, f"{name}.mlp", norm(f"{name}.norm2", tokens))
        tokens = tokens + state[f"{name}.ls2.gamma"] * found
        number += 1
    return norm("norm", tokens)


def embed(state, images):
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    return conv2d(images, weight, bias, stride=weight.shape[-1])


def see_dinov2(state, images):
    patches = embed(state, images).flatten(2).transpose(1, 2)
    start = state["cls_token"].expand(len(images), -1, -1)
    tokens = torch.cat([start, patches], 1) + state["pos_embed"]
    registers = state.get("register_tokens", torch.zeros(1, 0, tokens.shape[-1]))
    registers = registers.expand(len(images), -1, -1)
    tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], 1)
    found = see(state, images, 1e-6, tokens, lambda each: each)
    return found[:, 1 + registers.shape[1] :]


def see_dinov3(state, images):
    patches = embed(state, images)
    rows, columns = patches.shape[-2:]
    before = [
        state[name].expand(len(images), -1, -1)
        for name in ("cls_token", "storage_tokens")
        if name in state
    ]
    extra = sum(each.shape[1] for each in before)
    tokens = torch.cat([*before, patches.flatten(2).transpose(1, 2)], 1)
    y, x = (2 * (torch.arange(side) + 0.5) / side - 1 for side in (rows, columns))
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2, 1)
    angles = (2 * math.pi * places / state["rope_embed.periods"]).flatten(1).tile(2)

    def rotate(each):
        still, turned = each[:, :, :extra], each[:, :, extra:]
        first, second = turned.chunk(2, -1)
        other = torch.cat([-second, first], -1)
        return torch.cat([still, turned * angles.cos() + other * angles.sin()], 2)

    return see(state, images, 1e-5, tokens, rotate)[:, extra:]


def draw_state(version, *, gated=False, registers=0, blocks=2, width=128, biased=True):
    """Random tensors by the names that a version's code gives them."""
    torch.manual_seed(0)
    hidden, grid, patch = 2 * width, 3, PATCH[version]
    state = {
        "cls_token": torch.randn(1, 1, width),
        "mask_token": torch.randn(1, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch) / patch,
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": 1 + torch.randn(width) / 4,
        "norm.bias": torch.randn(width),
    }
    if version == "dinov2":
        state["pos_embed"] = torch.randn(1, 1 + grid**2, width)
    else:
        periods = width // 2 // 4
        state["rope_embed.periods"] = 100 ** (torch.arange(periods) / periods)
    if registers:
        name = "register_tokens" if version == "dinov2" else "storage_tokens"
        state[name] = torch.randn(1, registers, width)
    layers = {"fc1": (hidden, width), "fc2": (width, hidden)}
    if gated and version == "dinov2":
        layers = {"w12": (2 * hidden, width), "w3": (width, hidden)}
    elif gated:
        layers = {"w1": (hidden, width), "w2": (hidden, width), "w3": (width, hidden)}
    layers = {f"mlp.{name}": sizes for name, sizes in layers.items()}
    layers |= {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    for number in range(blocks):
        name = f"blocks.{number}"
        for part, (outputs, inputs) in layers.items():
            state[f"{name}.{part}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
            state[f"{name}.{part}.bias"] = torch.randn(outputs) / 4
        for norm in ("norm1", "norm2"):
            state[f"{name}.{norm}.weight"] = 1 + torch.randn(width) / 4
            state[f"{name}.{norm}.bias"] = torch.randn(width) / 4
        state |= {f"{name}.{scale}.gamma": torch.randn(width) / 4 for scale in ("ls1", "ls2")}
        if not biased:
            del state[f"{name}.attn.qkv.bias"]
        elif version == "dinov3":
            mask = torch.ones(3, width)
            mask[1] = 0
            state[f"{name}.attn.qkv.bias_mask"] = mask.flatten()
    return state


def compare(state, version, content=None, head=64):
    """The largest difference of tokens of two windows, and the largest token."""
    found = read_encoder(state if content is None else content)
    encoder = build_encoder(found.arguments).eval()
    encoder.load_state_dict(found.weights)
    side = found.arguments["grid"] * PATCH[version]
    windows = torch.randn(2, 1, side, side)
    reference = {"dinov2": see_dinov2, "dinov3": see_dinov3}[version]
    with torch.no_grad():
        tokens = patch_tokens(encoder, windows)
        expected = reference({**state, "head": head}, windows.expand(-1, 3, -1, -1))
    return (tokens.flatten(1, 2) - expected).abs().max().item(), expected.abs().max().item()


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("dinov2", {}),
        ("dinov2", {"gated": True, "registers": 4}),
        ("dinov3", {"registers": 4}),
        ("dinov3", {"gated": True, "registers": 2, "biased": False}),
    ],
)
def test_tokens_are_those_of_the_published_arithmetic(version, settings):
    difference, largest = compare(draw_state(version, **settings), version)
    assert difference < 1e-5 * max(1, largest)
    assert largest > 1


def test_a_teacher_cut_into_pieces_is_read_as_one_that_is_not():
    state = draw_state("dinov2")
    cut = {name.replace("blocks.1.", "blocks.1.1."): tensor for name, tensor in state.items()}
    cut = {name.replace("blocks.0.", "blocks.0.0."): tensor for name, tensor in cut.items()}
    content = {
        "iteration": 7,
        "teacher": {f"backbone.{name}": tensor for name, tensor in cut.items()}
        | {"dino_head.mlp.0.weight": torch.zeros(2, 2)},
    }
    difference, largest = compare(state, "dinov2", content)
    assert difference < 1e-5 * largest
    # As EM-DINO is published.
    content = {f"vit.{name}": tensor for name, tensor in state.items()}
    assert compare(state, "dinov2", content)[0] < 1e-5 * largest


def without(*names):
    def change(state):
        return {name: tensor for name, tensor in state.items() if name not in names}

    return change


def replaced(name, tensor):
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("version", "change", "reason"),
    [
        ("dinov2", lambda state: [1, 2], "holds no tensors by name"),
        ("dinov2", without("cls_token"), "has no tensor cls_token; the first are blocks"),
        ("dinov2", without("pos_embed"), "has neither pos_embed nor rope_embed.periods"),
        ("dinov2", without("patch_embed.proj.weight"), "has no tensor patch_embed.proj.weight"),
        ("dinov2", replaced("pos_embed", torch.zeros(1, 9, 128)), "8 positions .* no square"),
        ("dinov2", without("blocks.0.mlp.fc2.weight"), "has no tensor blocks.0.mlp.fc2.weight"),
        ("dinov3", replaced("rope_embed.periods", torch.ones(16)), "other than powers of 100"),
        ("dinov3", without("blocks.1.attn.qkv.bias_mask"), "has biases of keys in blocks.1.attn"),
    ],
)
def test_what_is_not_known_is_refused(version, change, reason):
    with pytest.raises(LayoutError, match=reason):
        read_encoder(change(draw_state(version)))
