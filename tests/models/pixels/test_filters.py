"""Filters against scipy, scikit-image and loops of our own."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import downscale_local_mean

from bench.models.pixels.filters import (
    CONTEXT_REACH_PX,
    FILTER_REACH_PX,
    MULTIPLE,
    STRIDE,
    context_maps,
    filter_maps,
)


def noise(side, seed=0):
    return np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)


def as_batch(image):
    return torch.from_numpy(np.ascontiguousarray(image))[None, None]


@pytest.fixture(scope="module")
def image():
    return noise(96)


@pytest.fixture(scope="module")
def maps(image):
    return {name: each.numpy() for name, each in filter_maps(as_batch(image)).items()}


def on_grid(full):
    """Means of blocks, which the grid has of the finest level."""
    return downscale_local_mean(full, (STRIDE, STRIDE))


def derivative(image, sigma, y, x):
    wide = image.astype(np.float64)
    return gaussian_filter(wide, sigma, order=(y, x), truncate=3.0, mode="mirror")


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6])
def test_derivatives_are_those_of_scipy(image, maps, sigma):
    name = f"{sigma:g} px"
    gy, gx = derivative(image, sigma, 1, 0), derivative(image, sigma, 0, 1)
    gyy, gxy, gxx = (derivative(image, sigma, *order) for order in ((2, 0), (1, 1), (0, 2)))
    hessian = np.linalg.eigvalsh(
        np.stack([np.stack([gyy, gxy], axis=-1), np.stack([gxy, gxx], axis=-1)], axis=-2)
    )
    expected = {
        f"Gaussian {name}": derivative(image, sigma, 0, 0),
        f"gradient {name}": np.hypot(gy, gx),
        f"Hessian, largest {name}": hessian[..., 1],
        f"Hessian, smallest {name}": hessian[..., 0],
    }
    products = [
        gaussian_filter(p, sigma, truncate=3.0, mode="mirror") for p in (gy * gy, gx * gy, gx * gx)
    ]
    tensor = np.linalg.eigvalsh(np.stack(products, -1)[..., [[0, 1], [1, 2]]])
    expected[f"structure tensor, largest {name}"] = tensor[..., 1]
    expected[f"structure tensor, smallest {name}"] = tensor[..., 0]
    for each, full in expected.items():
        np.testing.assert_allclose(maps[each], on_grid(full), atol=2e-5, err_msg=each)


def test_a_coarser_level_is_that_of_a_smaller_image(image, maps):
    half = downscale_local_mean(image, (2, 2))
    np.testing.assert_allclose(maps["Gaussian 2 px"], derivative(half, 1.0, 0, 0), atol=2e-6)
    mean, square = (gaussian_filter(v, 2.0, truncate=3.0, mode="mirror") for v in (half, half**2))
    found = maps["deviation 4 px"]
    np.testing.assert_allclose(found, np.sqrt(np.maximum(square - mean**2, 0)), atol=2e-5)


def test_what_lies_on_a_circle(image, maps):
    smooth = derivative(downscale_local_mean(image, (2, 2)), 1.0, 0, 0)
    for y, x in ((20, 20), (23, 30)):
        turns = np.arange(8) * math.pi / 4
        ring = [smooth[y + round(3 * math.sin(t)), x + round(3 * math.cos(t))] for t in turns]
        pairs = list(zip(ring[:4], ring[4:], strict=True))
        expected = {
            "largest": max(ring),
            "smallest": min(ring),
            "mean": np.mean(ring),
            "deviation": np.std(ring, ddof=1),
            "best pair": max(map(min, pairs)),
            "worst pair": min(map(max, pairs)),
        }
        for name, value in expected.items():
            assert maps[f"circle 6 px, {name}"][y, x] == pytest.approx(value, abs=1e-5)


def test_a_dark_line_is_found_whichever_way_it_runs():
    y, x = np.mgrid[:96, :96] - 48
    for distance in (x, y, (x + y) / math.sqrt(2)):
        dark = -np.exp(-(distance**2) / 4)
        maps = filter_maps(as_batch(dark.astype(np.float32)))
        line = maps["line, strongest 4 px"].numpy()
        apart = on_grid(np.abs(distance))
        assert line[apart < 1].min() > 0.1 > 20 * np.abs(line[apart > 20]).max()


def test_no_filter_has_a_direction(image, maps):
    turned = filter_maps(as_batch(np.rot90(image)))
    for name, each in turned.items():
        np.testing.assert_allclose(each, np.rot90(maps[name]), atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("function", "reach", "step", "side"),
    [(filter_maps, FILTER_REACH_PX, STRIDE, 320), (context_maps, CONTEXT_REACH_PX, 1, 160)],
)
def test_nothing_beyond_its_reach_changes_a_pixel(function, reach, step, side):
    """Else a tile's halo would be too narrow; and the reach is not longer than needed by half."""
    before = noise(side)
    furthest = 0.0
    for corner in (side // 2 + offset for offset in (0, MULTIPLE // 2 - 1, MULTIPLE - 1)):
        after = before.copy()
        after[corner, corner] += 1
        both = (function(as_batch(each)) for each in (before, after))
        for one, other in zip(*(maps.values() for maps in both), strict=True):
            changed = (one != other).nonzero() * step
            furthest = max(furthest, float((changed + (step - 1) / 2 - corner).abs().max()))
    furthest_px = furthest if function is filter_maps else furthest * STRIDE
    assert reach / 2 < furthest_px < reach
