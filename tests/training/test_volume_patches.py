"""Patches of volumes: where they lie, what is done to them, how a volume is held."""

import numpy as np
import pytest
import torch

from bench.inference.volume_feed import VolumeFeed
from bench.training.volume_patches import (
    VolumeAugmentation,
    VolumePatchFeed,
    VolumePatchSettings,
    hold_volume,
)

CPU = torch.device("cpu")
OFF = VolumeAugmentation(flip=False, turn=False, noise=0)
ALL = VolumeAugmentation(flip=True, turn=True, noise=0.1)


def settings(**changes):
    values = {
        "shape": (8, 16, 16),
        "batch_size": 4,
        "foreground_fraction": 0.5,
        "augmentation": OFF,
        "seed": 0,
        **changes,
    }
    return VolumePatchSettings(**values)


def feed_of(raw, *, fed_shape=None, smoothing_px=0.0, normalisation="volume"):
    shape = fed_shape or raw.shape
    return VolumeFeed(lambda a, b: raw[a:b], raw.shape, shape, smoothing_px, normalisation)


def hold(raw, labels, **how):
    return hold_volume(raw, labels, feed_of(raw, **how))


def random_volume(shape=(20, 30, 40), seed=0):
    labels = np.zeros(shape, np.uint16)
    labels[4:8, 10:16, 10:20], labels[12:14, 2:4, 30:32] = 7, 3
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), labels


def test_a_batch_depends_on_seed_and_iteration_only():
    volumes = [hold(*random_volume(seed=seed)) for seed in range(2)]
    feed = VolumePatchFeed(volumes, settings(augmentation=ALL), CPU)
    in_order = [feed.batch(i) for i in range(3)]
    other = VolumePatchFeed(volumes, settings(augmentation=ALL), CPU)
    for i in (2, 0, 1):
        for first, second in zip(in_order[i], other.batch(i), strict=True):
            assert torch.equal(first, second)
    reseeded = VolumePatchFeed(volumes, settings(augmentation=ALL, seed=1), CPU)
    assert not torch.equal(in_order[0][0], in_order[1][0])
    assert not torch.equal(in_order[0][0], reseeded.batch(0)[0])


def test_patches_are_pieces_of_the_volume():
    """Every voxel has its own value, which tells where a patch comes from."""
    raw = np.arange(20 * 30 * 40, dtype=np.float32).reshape(20, 30, 40)
    labels = (raw % 3 == 0).astype(np.uint8)
    feed = VolumePatchFeed([hold(raw, labels)], settings(), CPU)
    corners = set()
    for i in range(10):
        image, target = feed.batch(i)
        assert image.shape == target.shape == (4, 1, 8, 16, 16)
        assert image.dtype == target.dtype == torch.float32
        for patch, mask in zip(image[:, 0].numpy(), target[:, 0].numpy(), strict=True):
            grey = np.rint(patch.astype(np.float64) * raw.std(dtype=float) + raw.mean(dtype=float))
            z, rest = divmod(int(grey[0, 0, 0]), 30 * 40)
            y, x = divmod(rest, 40)
            window = slice(z, z + 8), slice(y, y + 16), slice(x, x + 16)
            np.testing.assert_allclose(grey, raw[window], atol=1)
            np.testing.assert_array_equal(mask, labels[window])
            corners.add((z, y, x))
    assert len(corners) > 25


def variants(flip, turn):
    """All that a patch may become, by its bytes."""
    cube = np.random.default_rng(3).integers(0, 200, (16, 16, 16), dtype=np.uint8)
    held = hold(cube, (cube > 100).astype(np.uint8))
    augmentation = VolumeAugmentation(flip, turn, 0)
    feed = VolumePatchFeed(
        [held], settings(shape=(16, 16, 16), augmentation=augmentation, batch_size=8), CPU
    )
    found = set()
    for iteration in range(30):
        for image, target in zip(*feed.batch(iteration), strict=True):
            grey = np.rint(image[0].numpy() * cube.std() + cube.mean()).astype(np.uint8)
            np.testing.assert_array_equal(grey > 100, target[0].numpy() > 0)
            found.add(grey.tobytes())
    return cube, found


def test_tomograms_are_mirrored_along_each_axis_and_never_turned():
    cube, found = variants(flip=True, turn=False)
    axes = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert found == {np.flip(cube, which).tobytes() for which in axes}


def test_serial_sections_are_turned_in_the_plane_as_well():
    cube, found = variants(flip=True, turn=True)
    assert len(found) == 16
    assert found == {
        np.ascontiguousarray(np.rot90(np.flip(cube, which), turns, (1, 2))).tobytes()
        for which in [(), (0,), (1,), (0, 1)]
        for turns in range(4)
    }
    # Planes stay planes: each of them is one of the volume's.
    planes = {np.sort(plane, axis=None).tobytes() for plane in cube}
    for each in found:
        turned = np.frombuffer(each, np.uint8).reshape(cube.shape)
        assert {np.sort(plane, axis=None).tobytes() for plane in turned} == planes


def test_nothing_is_done_where_nothing_is_wanted():
    cube, found = variants(flip=False, turn=False)
    assert found == {cube.tobytes()}


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        (OFF, "none"),
        (VolumeAugmentation(True, False, 0.1), "mirrors along z, y and x, noise of up to 0.1"),
        (VolumeAugmentation(True, True, 0), "mirrors .*, turns by 90 degrees in the plane$"),
    ],
)
def test_an_augmentation_says_what_it_is(augmentation, said):
    import re

    assert re.match(said, str(augmentation))


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_foreground_fraction_is_the_share_around_an_instance(fraction):
    """A speck in a volume where hardly any uniform patch meets it."""
    labels = np.zeros((100, 100, 100), np.uint8)
    labels[70, 30, 50] = 1
    raw = np.random.default_rng(0).integers(0, 256, labels.shape, dtype=np.uint8)
    feed = VolumePatchFeed(
        [hold(raw, labels)], settings(foreground_fraction=fraction, batch_size=8), CPU
    )
    targets = torch.cat([feed.batch(i)[1] for i in range(60)])
    found = (targets.sum(dim=(1, 2, 3, 4)) > 0).float().mean().item()
    assert found == pytest.approx(fraction, abs=0.08)


def test_every_instance_is_equally_likely_whatever_its_size():
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[10, 10, 10], labels[30:55, 30:55, 30:55] = 1, 2
    feed = VolumePatchFeed([hold(labels, labels)], settings(foreground_fraction=1.0), CPU)
    rng = np.random.default_rng(0)
    drawn = np.array([feed.draw_place(rng)[1] for _ in range(1000)])
    assert 0.4 < (drawn.max(axis=1) < 12).mean() < 0.6


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_patches_lie_within_their_volume_and_reach_its_border(fraction):
    labels = np.zeros((12, 40, 17), np.uint8)
    labels[0, 0, 0] = labels[-1, -1, -1] = 1
    feed = VolumePatchFeed([hold(labels, labels)], settings(foreground_fraction=fraction), CPU)
    rng = np.random.default_rng(0)
    drawn = np.array([feed.draw_place(rng)[1] for _ in range(500)])
    assert (drawn.min(axis=0) == 0).all()
    assert (drawn.max(axis=0) == np.array(labels.shape) - (8, 16, 16)).all()


@pytest.mark.parametrize("shape", [(3, 20, 20), (20, 5, 7), (1, 1, 1)])
def test_a_volume_smaller_than_the_patch_is_mirrored(shape):
    labels = (np.random.default_rng(0).random(shape) < 0.3).astype(np.uint8)
    labels[0, 0, 0] = 1
    feed = VolumePatchFeed([hold(labels * np.uint8(200), labels)], settings(), CPU)
    image, target = feed.batch(0)
    assert image.shape == (4, 1, 8, 16, 16)
    if labels.std() > 0:
        assert torch.equal(image > 0, target > 0)
    if shape == (3, 20, 20):
        planes = target[0, 0].numpy()
        np.testing.assert_array_equal(planes[1], planes[2])


def test_a_volume_that_is_fed_as_it_is_stays_as_it_is():
    raw, labels = random_volume()
    held = hold(raw, labels)
    assert held.image is raw
    fed = np.stack(list(feed_of(raw).planes()))
    np.testing.assert_array_equal(held.moments.apply(raw), fed)
    assert held.moments.mean == pytest.approx(raw.mean())
    assert held.moments.deviation == pytest.approx(raw.std())
    assert held.target.dtype == bool
    np.testing.assert_array_equal(held.target, labels > 0)


@pytest.mark.parametrize(
    "how",
    [
        {"smoothing_px": 1.0},
        {"normalisation": "section"},
        {"fed_shape": (10, 45, 60)},
        {"fed_shape": (30, 20, 30), "smoothing_px": 0.5},
    ],
)
def test_what_is_smoothed_or_resampled_is_held_as_predictions_see_it(how):
    raw, labels = random_volume()
    held = hold(raw, labels, **how)
    fed = np.stack(list(feed_of(raw, **how).planes()))
    assert held.image.dtype == np.float16
    np.testing.assert_allclose(held.moments.apply(held.image), fed, atol=2e-3)
    assert held.target.shape == fed.shape
    assert held.target.mean() == pytest.approx((labels > 0).mean(), rel=0.3)
    for centres in held.centres:
        assert held.target[tuple(centres.T)].all()


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e5])
def test_any_range_of_grey_values_gives_the_same_feed(scale):
    raw, labels = random_volume()
    other = (raw * scale - 7 * scale).astype(np.float32)
    first, second = (VolumePatchFeed([hold(r, labels)], settings(), CPU) for r in (raw, other))
    torch.testing.assert_close(first.batch(0)[0], second.batch(0)[0], atol=1e-4, rtol=0)
