import itertools

import numpy as np
import pytest
import torch

from bench.training.augment import (
    ELASTIC_REACH,
    Augmentation,
    add_noise,
    augment_windows,
    draw_control_points,
    draw_matrices,
    place_samples,
)
from bench.training.patches import window_edge

OFF = Augmentation(rotate=False, flip=False, elastic_px=0, noise=0)
FLIPS = Augmentation(rotate=False, flip=True, elastic_px=0, noise=0)
ROTATIONS = Augmentation(rotate=True, flip=True, elastic_px=0, noise=0)
ELASTIC = Augmentation(rotate=False, flip=False, elastic_px=4, noise=0)
ALL = Augmentation(rotate=True, flip=True, elastic_px=4, noise=0.1)
PATCH = 32


def random_windows(augmentation, batch=4, seed=0, patch=PATCH):
    edge = window_edge(patch, augmentation)
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 1, edge, edge, generator=generator)
    return image, (torch.rand(batch, 1, edge, edge, generator=generator) < 0.3).float()


def displacement(batch, patch_px, augmentation, rng):
    """The displacements alone: of a patch whose pixels all come from the centre."""
    points = draw_control_points(batch, patch_px, augmentation, rng)
    still = np.zeros((batch, 2, 2), np.float32)
    return place_samples(still, points, patch_px, torch.device("cpu"))


def blobs(augmentation, batch=4, patch=64):
    """A mask of discs, twice the size of what nearest and linear sampling disagree on."""
    edge = window_edge(patch, augmentation)
    axis = torch.arange(edge) % 32 - 16
    disc = (axis[:, None] ** 2 + axis[None] ** 2 < 100).float()
    return disc.expand(batch, 1, edge, edge)


def augment(image, mask, augmentation, seed=0, patch=PATCH):
    rng = np.random.default_rng(seed)
    return augment_windows(image, mask, patch_px=patch, augmentation=augmentation, rng=rng)


def centre(windows, patch=PATCH):
    start = (windows.shape[-1] - patch) // 2
    return windows[..., start : start + patch, start : start + patch]


def turned(patch):
    """The patch in the eight positions of a square."""
    return [
        torch.rot90(side, turns, (-2, -1))
        for side, turns in itertools.product((patch, patch.flip(-1)), range(4))
    ]


@pytest.mark.parametrize("patch", [32, 48, 256])
def test_without_augmentation_the_patch_is_the_middle_of_the_window(patch):
    image, mask = random_windows(OFF, patch=patch)
    cut_image, cut_mask = augment(image, mask, OFF, patch=patch)
    assert torch.equal(cut_mask, centre(mask, patch))
    torch.testing.assert_close(cut_image, centre(image, patch), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("augmentation", "positions"), [(FLIPS, 2), (ROTATIONS, 8)])
def test_right_angles_and_flips_only_move_pixels(augmentation, positions):
    image, mask = random_windows(augmentation, batch=64)
    image[:], mask[:] = image[:1], mask[:1]
    cut_images, cut_masks = augment(image, mask, augmentation)
    images, masks = turned(centre(image[0, 0])), turned(centre(mask[0, 0]))
    matrices = draw_matrices(64, augmentation, np.random.default_rng(0))
    seen = set()
    for index in np.flatnonzero(np.isin(matrices, (-1, 0, 1)).all(axis=(1, 2))):
        (position,) = [
            i for i, moved in enumerate(masks) if torch.equal(cut_masks[index, 0], moved)
        ]
        torch.testing.assert_close(cut_images[index, 0], images[position], atol=1e-3, rtol=0)
        seen.add(position)
    assert len(seen) == positions


def test_matrices_are_rotations_and_flips_half_of_them_free():
    matrices = draw_matrices(4000, ROTATIONS, np.random.default_rng(0))
    products = matrices @ matrices.transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(2), products.shape), atol=1e-6)
    exact = np.isin(matrices, (-1, 0, 1)).all(axis=(1, 2))
    mirrored = np.linalg.det(matrices) < 0
    assert exact.mean() == pytest.approx(0.5, abs=0.04)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)
    positions, counts = np.unique(matrices[exact], axis=0, return_counts=True)
    assert len(positions) == 8
    assert counts.min() > 0.7 * counts.mean()
    angles = np.arctan2(-matrices[~exact, 0, 1], matrices[~exact, 1, 1])
    assert np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0].min() > 190


@pytest.mark.parametrize("seed", range(4))
def test_image_and_mask_move_together(seed):
    augmentation = Augmentation(rotate=True, flip=True, elastic_px=4, noise=0)
    mask = blobs(augmentation)
    image, moved = augment(mask, mask, augmentation, seed=seed, patch=64)
    assert moved.mean() > 0.1
    # Within half a pixel of an outline, nearest and linear sampling may differ.
    assert (image.round() != moved).float().mean() < 0.02
    assert torch.equal(moved[image == 1], torch.ones_like(moved[image == 1]))
    assert torch.equal(moved[image == 0], torch.zeros_like(moved[image == 0]))


def test_the_seed_decides():
    image, mask = random_windows(ALL)
    first, again, other = (augment(image, mask, ALL, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("elastic_px", [1.0, 4.0, 64.0])
def test_windows_are_large_enough(seed, elastic_px):
    """Outside of the window the samples would be 0: none is."""
    augmentation = Augmentation(rotate=True, flip=True, elastic_px=elastic_px, noise=0)
    edge = window_edge(PATCH, augmentation)
    ones = torch.ones(64, 1, edge, edge)
    image, mask = augment(ones, ones, augmentation, seed=seed)
    torch.testing.assert_close(image, torch.ones_like(image))
    assert (mask == 1).all()


def test_masks_stay_masks():
    image, mask = random_windows(ALL, batch=16)
    _, moved = augment(image, mask, ALL)
    assert set(moved.unique().tolist()) == {0, 1}
    assert moved.shape == (16, 1, PATCH, PATCH)


def test_channels_of_the_target_move_alike():
    image, mask = random_windows(ALL)
    _, other = random_windows(ALL, seed=1)
    _, together = augment(image, torch.cat([mask, other, mask], dim=1), ALL)
    assert together.shape == (4, 3, PATCH, PATCH)
    assert torch.equal(together[:, :1], augment(image, mask, ALL)[1])
    assert torch.equal(together[:, 1:2], augment(image, other, ALL)[1])
    assert torch.equal(together[:, 2:], together[:, :1])


def test_samples_are_placed_as_torch_interpolates_and_rotates():
    rng = np.random.default_rng(0)
    points, matrices = draw_control_points(6, 96, ELASTIC, rng), draw_matrices(6, ROTATIONS, rng)
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(points), size=(96, 96), mode="bicubic", align_corners=True
    )
    y, x = np.indices((96, 96)) - 47.5
    turned = np.einsum("bkl,lyx->byxk", matrices, np.stack([x, y]))
    expected = turned + fine.permute(0, 2, 3, 1).numpy()
    placed = place_samples(matrices, points, 96, torch.device("cpu"))
    np.testing.assert_allclose(placed, expected, atol=1e-4)
    assert np.abs(fine.numpy()).max() > 2


def test_displacement_is_bounded_whatever_is_drawn():
    """Control points at their bounds, with the signs for which bicubic overshoots most."""

    class Extreme:
        def standard_normal(self, shape):
            y, x = np.indices(shape)[-2:] // 2 % 2
            return np.where(y == x, 9.0, -9.0)

        def random(self, batch):
            return np.full(batch, 0.499)

    field = displacement(1, 256, ELASTIC, Extreme())
    assert 3.5 * 0.499 * 4 < field.abs().max() <= ELASTIC_REACH * 0.499 * 4


def test_displacement_is_smooth_and_as_strong_as_asked():
    fields = displacement(400, 128, ELASTIC, np.random.default_rng(0))
    assert fields.shape == (400, 128, 128, 2)
    assert fields.abs().max() <= ELASTIC_REACH * 4
    still = (fields == 0).all(dim=-1).all(dim=-1).all(dim=-1)
    assert still.float().mean().item() == pytest.approx(0.5, abs=0.08)
    # Folds would need neighbours that approach by a pixel.
    steps = [fields.diff(dim=axis).abs().max().item() for axis in (1, 2)]
    assert max(steps) < 1.2
    assert fields[~still].std().item() == pytest.approx(4 / 3**0.5 * 0.7, rel=0.2)
    assert fields.mean().abs() < 0.1


def test_noise_has_the_deviation_drawn_for_its_patch():
    image = torch.full((300, 1, 64, 64), 5.0)
    noisy = add_noise(image, 0.4, np.random.default_rng(0))
    deviations = noisy.std(dim=(1, 2, 3))
    errors = noisy.mean(dim=(1, 2, 3)) - 5
    assert (errors.abs() < 5 * 0.4 / 64).all()
    assert deviations.max() < 0.42
    assert deviations.mean().item() == pytest.approx(0.2, abs=0.03)
    assert deviations.std().item() == pytest.approx(0.4 / 12**0.5, abs=0.02)
    standard = ((noisy - 5) / deviations[:, None, None, None]).flatten()
    assert (standard.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.003)
    assert torch.corrcoef(torch.stack([noisy[0].flatten(), noisy[1].flatten()]))[0, 1].abs() < 0.08


def test_noise_leaves_the_mask():
    noise = Augmentation(rotate=False, flip=False, elastic_px=0, noise=0.5)
    image, mask = random_windows(noise)
    cut_image, cut_mask = augment(image, mask, noise)
    assert torch.equal(cut_mask, centre(mask))
    assert not torch.allclose(cut_image, centre(image), atol=1e-2)
