import numpy as np
import pytest
import torch

from bench.handover.blended import TENSOR_SYMMETRIES, BlendedNetwork
from bench.inference.blends import Blend, combine_levels
from bench.inference.symmetries import SYMMETRIES
from bench.models.checkpoint import build_model
from bench.models.unet2d import without_own_kernels


@pytest.mark.parametrize("name", SYMMETRIES)
def test_symmetries_are_those_of_arrays(name):
    image = np.arange(12).reshape(1, 1, 3, 4)
    there, back = TENSOR_SYMMETRIES[name]
    turned = there(torch.from_numpy(image))
    assert np.array_equal(turned.numpy(), SYMMETRIES[name].forward(image))
    assert np.array_equal(back(turned).numpy(), image)


class _Constant(torch.nn.Module):
    """Logits that are the same everywhere."""

    def __init__(self, *probabilities):
        super().__init__()
        self.logits = torch.logit(torch.tensor(probabilities))

    def forward(self, image):
        return self.logits[None, :, None, None].expand(1, -1, *image.shape[-2:])


@pytest.mark.parametrize(
    ("ensemble", "weights"), [("mean", (1, 3, 1)), ("maximum", (1, 1, 1)), ("vote", (1, 1, 1))]
)
def test_models_are_made_one_as_a_blend_says(ensemble, weights):
    foregrounds, boundaries = (0.1, 0.8, 0.6), (0.3, 0.2, 0.9)
    networks = [_Constant(*pair) for pair in zip(foregrounds, boundaries, strict=True)]
    blended = BlendedNetwork(
        networks,
        Blend(("a", "b", "c"), ("identity", "rot90"), ensemble, weights),
        foregrounds=(0, 0, 0),
        boundaries=(1, 1, 1),
        classes=(False, False, False),
    )
    found = blended(torch.zeros(1, 1, 4, 4))
    assert found.shape == (1, 2, 4, 4)
    for channel, values, rule in ((0, foregrounds, ensemble), (1, boundaries, "mean")):
        levels = [[np.full((4, 4), round(255 * value), np.uint8)] for value in values]
        expected = combine_levels(levels, rule, weights) / 255
        assert np.abs(found[0, channel].numpy() - expected).max() < 1 / 255


def test_kernels_of_torch_give_the_same():
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}
    network = build_model("unet2d", arguments).eval()
    image = torch.randn(1, 1, 16, 16)
    plain = without_own_kernels(network)
    assert not [m for m in plain.modules() if type(m).__module__.startswith("bench")]
    with torch.no_grad():
        assert (plain(image) - network(image)).abs().max() < 1e-5
