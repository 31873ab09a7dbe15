"""Dark membranes are told from bright ones by what was found with them."""

import numpy as np
import pytest
from scipy import ndimage

from bench.metrics.membrane import find_inverted, membrane_contrast

VOXELS = (2.2, 2.2, 2.2)


@pytest.fixture
def vesicles():
    """Balls of a radius of 8 voxels with a membrane, and their ids and levels."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:30, :60, :60]
    raw, labels = np.full((30, 60, 60), 100.0), np.zeros((30, 60, 60), np.uint16)
    for number, centre in enumerate(((14, 15, 15), (15, 42, 18), (16, 30, 44)), 1):
        away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip((z, y, x), centre, strict=True)))
        raw[(away < 8) & (away > 5.5)] = 40
        raw[(away >= 8) & (away < 10)] = 110
        labels[away < 8] = number
    raw = ndimage.gaussian_filter(raw, 0.7) + rng.normal(0, 15, raw.shape)
    return raw.astype(np.int16), labels, np.where(labels > 0, 250, 5).astype(np.uint8)


@pytest.mark.parametrize("grown", [-2, 0, 2])
def test_dark_membranes_are_above_and_bright_ones_below_0(vesicles, grown):
    """Wherever the surface of what was found is beside the membrane."""
    raw, labels, levels = vesicles
    if grown > 0:
        labels = ndimage.grey_dilation(labels, size=2 * grown + 1)
        levels = ndimage.grey_dilation(levels, size=2 * grown + 1)
    elif grown < 0:
        labels = np.where(ndimage.binary_erosion(labels > 0, iterations=-grown), labels, 0)
    dark = membrane_contrast(raw, labels, levels, VOXELS)
    bright = membrane_contrast((200 - raw).astype(np.int16), labels, levels, VOXELS)
    assert dark > 0.1
    assert bright == pytest.approx(-dark, abs=1e-6)
    assert find_inverted({"a": dark}) == []
    (said,) = find_inverted({"a": dark, "b": bright})
    assert said.startswith("the contrast of b seems inverted")


def test_what_is_small_or_doubtful_does_not_count(vesicles):
    raw, labels, levels = vesicles
    assert membrane_contrast(raw, labels, levels // 2, VOXELS) is None
    assert membrane_contrast(raw, np.zeros_like(labels), levels, VOXELS) is None
    speck = np.zeros_like(labels)
    speck[:4, :4, :4] = 1
    assert membrane_contrast(raw, speck, np.full_like(levels, 255), VOXELS) is None
    assert membrane_contrast(np.full_like(raw, 7), labels, levels, VOXELS) is None
