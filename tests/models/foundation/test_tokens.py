"""Where the tokens of a transformer lie in a section, and which of their numbers are kept."""

import numpy as np
import pytest
import torch

from bench.models.foundation import tokens
from bench.models.foundation.tokens import ZOOMS, TokenMaps

# Windows of 8 x 8 patches of 4 px, of which the outer ones are cut off.
ENCODER = {
    **{"width": 64, "blocks": 1, "heads": 1, "patch_px": 4, "grid": 8, "registers": 0},
    **{"hidden": 64, "gated": False, "scaled": True, "qkv_bias": True},
}


def as_image(array):
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    return TokenMaps(ENCODER)


def mean_of_patches(encoder, windows):
    """A token of what its patch is like, in all of its numbers."""
    means = torch.nn.functional.avg_pool2d(windows, 4)[:, 0]
    return means[..., None].expand(-1, -1, -1, 64)


def test_a_token_lies_in_the_middle_of_its_patch(seen, monkeypatch):
    """Means of patches of a slope, interpolated between their middles, are the slope."""
    monkeypatch.setattr(tokens, "patch_tokens", mean_of_patches)
    seen.axes.zero_()
    seen.axes[:, :, 0] = 1
    height, width = 80, 112
    for axis, side in enumerate((height, width)):
        slope = np.moveaxis(np.broadcast_to(np.arange(side) / 10, (192 - side, side)), 1, axis)
        maps = seen(as_image(slope))
        # The middles of the grid's pixels, of two pixels each.
        expected = np.moveaxis(slope, axis, 0)[:, 0].reshape(-1, 2).mean(1)
        assert len(maps) == len(ZOOMS) * 48
        for each in maps.values():
            assert each.shape == tuple(n // 2 for n in slope.shape)
            found = each.movedim(axis, 0)[2:-2]
            np.testing.assert_allclose(
                found, np.tile(expected[2:-2, None], found.shape[1]), atol=1e-5
            )


def test_a_window_is_seen_by_the_transformer_as_it_is(seen):
    """Inside a section of several windows: the inner tokens of the window that lies there."""
    raw = np.random.default_rng(0).normal(size=(96, 96))
    inner = 6 * 4
    window = as_image(raw)[..., inner - 4 : inner + 28, 2 * inner - 4 : 2 * inner + 28]
    with torch.no_grad():
        expected = tokens.patch_tokens(seen.encoder, window)[0, 1:-1, 1:-1]
        found = seen._see(as_image(raw), 1, None)[6:12, 12:18]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_axes_are_the_principal_ones(seen):
    images = [as_image(np.random.default_rng(seed).normal(size=(64, 64))) for seed in (1, 2)]
    seen.fit_axes(images)
    for number, zoom in enumerate(ZOOMS):
        each = np.concatenate([seen._see(i, zoom, None).flatten(0, 1).numpy() for i in images])
        centred = each.astype(np.float64) - each.mean(0)
        _, _, right = np.linalg.svd(centred, full_matrices=False)
        axes = seen.axes[number].double().numpy()
        # The first are told apart; all together are the same space.
        np.testing.assert_allclose(np.abs(np.sum(axes[:4] * right[:4], 1)), 1, atol=1e-3)
        np.testing.assert_allclose(axes @ axes.T, np.eye(48), atol=1e-5)
        kept = np.square(centred @ axes.T).sum() / np.square(centred).sum()
        best = np.square(centred @ right[:48].T).sum() / np.square(centred).sum()
        assert kept == pytest.approx(best, abs=1e-5)
