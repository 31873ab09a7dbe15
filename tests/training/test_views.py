"""The two views of pretraining: one geometry for both, and what spoils the first alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from bench.training.views import (
    average_squares,
    draw_holes,
    draw_placements,
    place_views,
    spoil_views,
    view_window_edge,
)
from bench.words import CEM500K_MOMENTS

PATCH = 32
BLACK = -CEM500K_MOMENTS[0] / CEM500K_MOMENTS[1]


def rng(seed=0):
    return np.random.default_rng(seed)


def coordinates(batch):
    """Windows whose grey value is the place of each pixel, x or y, from the centre in px."""
    edge = view_window_edge(PATCH)
    axis = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
    xs, ys = axis.expand(edge, edge), axis[:, None].expand(edge, edge)
    return [plane.expand(batch, 1, edge, edge).contiguous() for plane in (xs, ys)]


def test_a_patch_is_where_its_matrix_says():
    matrices = draw_placements(40, PATCH, rng())
    axis = np.arange(PATCH) - (PATCH - 1) / 2
    found = [place_views(plane, matrices, PATCH)[:, 0].numpy() for plane in coordinates(40)]
    for matrix, *planes in zip(matrices, *found, strict=True):
        for row, plane in zip(matrix, planes, strict=True):
            expected = row[0] * axis[None] + row[1] * axis[:, None] + row[2]
            np.testing.assert_allclose(plane, expected, atol=1e-3)


def test_a_crop_is_of_8_to_100_percent_and_lies_in_the_turned_patch():
    matrices = draw_placements(2000, PATCH, rng())
    areas = np.abs(np.linalg.det(matrices[:, :, :2]))
    # A side is rounded to whole px.
    assert 0.06 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    sides = np.linalg.norm(matrices[:, :, :2], axis=1)
    ratios = sides[:, 0] / sides[:, 1]
    assert 0.45 < ratios.min() < 0.6
    assert 1.3 < ratios.max() < 1.6
    # No corner is farther from the centre than that of the patch itself.
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)]) * [PATCH / 2, PATCH / 2, 1]
    distances = np.linalg.norm(matrices @ corners.T, axis=1)
    assert distances.max() <= PATCH / np.sqrt(2) + 1e-3
    assert distances.max() < view_window_edge(PATCH) / 2
    mirrored = (np.linalg.det(matrices[:, :, :2]) < 0).mean()
    straight = (np.abs(matrices[:, 0, 1]) < 1e-9).mean()
    assert abs(mirrored - 0.5) < 0.05
    assert abs(straight - 0.5) < 0.05


def test_what_spoils_a_view_is_done_to_half_of_the_patches():
    """Of an even grey: a change of brightness, noise and holes each leave their trace."""
    whole = torch.zeros(400, 1, 48, 48)
    spoiled = spoil_views(whole, rng())
    assert not whole.any()
    holes = ((spoiled - BLACK).abs() < 1e-4).flatten(1)
    # All black by holes of 16 px, and not by noise.
    share = holes.float().mean(1)
    assert abs((share > 0.1).float().mean() - 0.5) < 0.08
    assert share.max() < 0.35
    clean = spoiled.flatten(1).masked_fill(holes, torch.nan)
    centre = clean.nanmedian(1).values
    spread = torch.stack([row[~row.isnan()].std() for row in clean])
    assert abs((spread > 1e-4).float().mean() - 0.5) < 0.08
    assert abs((centre.abs() > 0.15).float().mean() - 0.5) < 0.1
    assert (spoiled >= BLACK - 1e-4).all()
    assert (spoiled <= (1 - CEM500K_MOMENTS[0]) / CEM500K_MOMENTS[1] + 1e-4).all()


def test_noise_has_the_variance_of_20_to_35_grey_levels():
    spoiled = spoil_views(torch.zeros(300, 1, 48, 48), rng(1))
    grey = CEM500K_MOMENTS[1] * 255
    spreads = []
    for patch in spoiled[:, 0]:
        # Neighbours are not alike where it was not blurred afterwards.
        row = patch[(patch - BLACK).abs() > 1e-3] * grey
        if len(row) > 1000 and (row.std() > 1) and row.max() < 100:
            spreads.append(float(row.std()))
    assert max(spreads) < 36
    assert sum(19 < spread < 36 for spread in spreads) > 20


def test_holes():
    holes = draw_holes(224, np.array([True, False, True]), rng())
    assert holes.shape == (3, 224, 224)
    assert not holes[1].any()
    for found in holes[[0, 2]]:
        assert 16 * 16 <= found.sum() <= 32 * 16 * 16
    small = draw_holes(64, np.ones(50, bool), rng())
    assert small.sum((1, 2)).min() >= 256
    # In proportion to the area: 32 of them would cover it twice.
    assert small.sum((1, 2)).max() <= 3 * 256


@pytest.mark.parametrize("edge", [1, 3, 5, 7])
def test_blur_against_scipy(edge):
    image = torch.from_numpy(rng().random((2, 1, 24, 20), dtype=np.float32))
    found = average_squares(image, np.array([edge, 1]))
    expected = uniform_filter(image[0, 0].numpy(), edge, mode="mirror")
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    torch.testing.assert_close(found[1], image[1])
