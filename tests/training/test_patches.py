import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.training.augment import Augmentation
from bench.training.patches import CENTRES_PER_INSTANCE, PatchFeed, PatchSettings, instance_centres
from bench.training.targets import find_boundaries

CPU = torch.device("cpu")
OFF = Augmentation(rotate=False, flip=False, elastic_px=0, noise=0)
ALL = Augmentation(rotate=True, flip=True, elastic_px=4, noise=0.1)
BOTH = ("foreground", "boundary")


def settings(**changes):
    values = {
        "patch_px": 32,
        "batch_size": 4,
        "foreground_fraction": 0.5,
        "augmentation": OFF,
        "seed": 0,
        **changes,
    }
    return PatchSettings(**values)


def random_section(shape=(80, 100), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    labels[10:20, 10:30], labels[40:44, 50:54] = 7, 3
    return rng.integers(0, 256, shape, dtype=np.uint8), labels


def places(feed, batches):
    """Section and centre (y, x) of many patches."""
    rng = np.random.default_rng(0)
    return np.array([feed.draw_place(rng) for _ in range(batches)])


def test_a_batch_depends_on_seed_and_iteration_only():
    sections = [random_section(seed=seed) for seed in range(3)]
    feed = PatchFeed(sections, settings(augmentation=ALL), CPU)
    in_order = [feed.batch(i) for i in range(4)]
    np.random.default_rng(1).random(9)
    torch.randn(5)
    other = PatchFeed(sections, settings(augmentation=ALL), CPU)
    for i in (3, 0, 2, 3, 1):
        for first, second in zip(in_order[i], other.batch(i), strict=True):
            assert torch.equal(first, second)
    reseeded = PatchFeed(sections, settings(augmentation=ALL, seed=1), CPU)
    assert not torch.equal(in_order[0][0], in_order[1][0])
    assert not torch.equal(in_order[0][0], reseeded.batch(0)[0])


def test_patches_are_pieces_of_the_sections():
    """Every pixel has its own value, which tells where a patch comes from."""
    raw = np.arange(80 * 100, dtype=np.float32).reshape(80, 100)
    labels = (raw % 3 == 0).astype(np.uint8)
    feed = PatchFeed([(raw, labels)], settings(), CPU)
    scale, mean = raw.std(), raw.mean()
    corners = set()
    for i in range(20):
        image, target = feed.batch(i)
        assert image.shape == target.shape == (4, 1, 32, 32)
        assert image.dtype == target.dtype == torch.float32
        for patch, mask in zip(image[:, 0].numpy(), target[:, 0].numpy(), strict=True):
            y, x = divmod(round(float(patch[0, 0] * scale + mean)), 100)
            np.testing.assert_allclose(patch * scale + mean, raw[y : y + 32, x : x + 32], atol=0.5)
            np.testing.assert_array_equal(mask, labels[y : y + 32, x : x + 32])
            corners.add((y, x))
    assert len(corners) > 50


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_foreground_fraction_is_the_share_around_an_instance(fraction):
    """A speck in a section where hardly any uniform patch meets it."""
    labels = np.zeros((1000, 1000), np.uint8)
    labels[700:703, 300:303] = 1
    raw = np.random.default_rng(0).integers(0, 256, labels.shape, dtype=np.uint8)
    feed = PatchFeed([(raw, labels)], settings(foreground_fraction=fraction, batch_size=8), CPU)
    targets = torch.cat([feed.batch(i)[1] for i in range(250)])
    found = (targets.sum(dim=(1, 2, 3)) > 0).float().mean().item()
    assert found == pytest.approx(fraction, abs=0.04)


def test_every_instance_is_equally_likely_whatever_its_size():
    small, large = np.zeros((400, 400), np.uint16), np.zeros((300, 900), np.uint16)
    small[100, 100], small[300:303, 300:303] = 5, 9
    large[150:250, 100:600], large[20:30, 800:810] = 1, 2
    raws = [np.random.default_rng(0).integers(0, 256, s.shape) for s in (small, large)]
    feed = PatchFeed(
        list(zip(raws, (small, large), strict=True)), settings(foreground_fraction=1.0), CPU
    )
    drawn = places(feed, 4000)
    in_large = drawn[:, 0] == 1
    counts = [
        (~in_large & (drawn[:, 1] < 200)).sum(),
        (~in_large & (drawn[:, 1] >= 200)).sum(),
        (in_large & (drawn[:, 2] < 700)).sum(),
        (in_large & (drawn[:, 2] >= 700)).sum(),
    ]
    assert sum(counts) == 4000
    assert min(counts) > 900


def test_the_drawn_pixel_falls_anywhere_in_the_middle_of_the_patch():
    labels = np.zeros((500, 500), np.uint8)
    labels[250, 250] = 1
    feed = PatchFeed(
        [(labels.astype(float), labels)], settings(foreground_fraction=1.0, patch_px=96), CPU
    )
    offsets = places(feed, 3000)[:, 1:] - 250
    assert offsets.min() == -32
    assert offsets.max() == 31
    assert (np.histogram(offsets[:, 0], bins=8, range=(-32, 32))[0] > 300).all()
    assert abs(np.corrcoef(offsets.T)[0, 1]) < 0.06


@pytest.mark.parametrize("shape", [(500, 70), (70, 500), (97, 131), (64, 64)])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_patches_lie_within_their_section(shape, fraction):
    labels = np.zeros(shape, np.uint8)
    labels[0, 0] = labels[-1, -1] = 1
    feed = PatchFeed(
        [(labels.astype(float), labels)], settings(foreground_fraction=fraction, patch_px=64), CPU
    )
    drawn = places(feed, 1000)[:, 1:]
    assert (drawn >= 32).all()
    assert (drawn <= np.array(shape) - 32).all()
    if fraction == 0:
        assert (drawn.min(axis=0) == 32).all()
        assert (drawn.max(axis=0) == np.array(shape) - 32).all()


@pytest.mark.parametrize("shape", [(20, 200), (200, 20), (20, 25), (1, 1), (64, 63)])
@pytest.mark.parametrize("augmentation", [OFF, ALL])
def test_sections_smaller_than_the_patch_are_mirrored(shape, augmentation):
    rng = np.random.default_rng(0)
    labels = (rng.random(shape) < 0.3).astype(np.uint8)
    raw = labels * np.uint8(200)
    quiet = Augmentation(augmentation.rotate, augmentation.flip, augmentation.elastic_px, 0)
    feed = PatchFeed([(raw, labels)], settings(patch_px=64, augmentation=quiet), CPU)
    image, target = feed.batch(0)
    assert image.shape == (4, 1, 64, 64)
    assert torch.isfinite(image).all()
    if augmentation is OFF:
        # Mirrored alike: where the image is bright the target is 1.
        assert torch.equal(image > 0, target > 0)
        values = feed.images[0].unique()
        distance = (image.flatten()[:, None] - values).abs().min(dim=1).values
        assert distance.max() < 1e-3


def test_a_section_smaller_than_the_patch_is_whole_in_its_middle():
    labels = np.zeros((20, 30), np.uint8)
    labels[3, 4] = 1
    feed = PatchFeed([(labels.astype(float), labels)], settings(), CPU)
    target = feed.batch(0)[1][0, 0].numpy()
    np.testing.assert_array_equal(target[6:26, 1:31], labels)
    np.testing.assert_array_equal(target[:6], target[11:5:-1])


def test_bit_depths_and_exposures_give_the_same_feed():
    raw, labels = random_section()
    kinds = {
        "8 bit": raw,
        "16 bit": raw.astype(np.uint16) * 211 + 900,
        "signed": raw.astype(np.int16) * 100 - 20000,
        "32 bit": raw.astype(np.uint32) * 1_000_000,
        "float": raw.astype(np.float32) / 255,
        "double": raw.astype(np.float64) * 1e-9 - 4e-8,
    }
    batches = {
        name: PatchFeed([(kind, labels)], settings(augmentation=ALL), CPU).batch(3)
        for name, kind in kinds.items()
    }
    for image, target in batches.values():
        torch.testing.assert_close(image, batches["8 bit"][0], atol=2e-3, rtol=0)
        assert torch.equal(target, batches["8 bit"][1])


def test_sections_are_normalised_one_by_one():
    raw, labels = random_section()
    dark = (raw // 4).astype(np.uint8)
    feed = PatchFeed(
        [(raw, labels), (dark, labels), (np.full_like(raw, 9), labels)], settings(), CPU
    )
    inner = [image[17:-17, 17:-17] for image in feed.images]
    assert [i.shape for i in inner] == [(80, 100)] * 3
    for image in inner[:2]:
        assert image.mean().abs() < 1e-5
        assert image.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert (inner[2] == 0).all()


def test_without_foreground_patches_are_drawn_uniformly():
    raw, _ = random_section()
    feed = PatchFeed([(raw, np.zeros(raw.shape, np.uint8))], settings(foreground_fraction=1.0), CPU)
    assert feed.batch(0)[1].sum() == 0
    assert len(np.unique(places(feed, 200), axis=0)) > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_centres_are_the_pixels_of_each_instance(dtype):
    labels = np.random.default_rng(0).choice([0, 0, 0, 4, 200], size=(30, 40)).astype(dtype)
    found = instance_centres(labels)
    assert len(found) == 2
    for value, centres in zip((4, 200), found, strict=True):
        np.testing.assert_array_equal(centres, np.argwhere(labels == value))
    assert instance_centres(np.zeros((5, 5), dtype)) == []


@pytest.mark.parametrize("side", [31, 32, 100, 333])
def test_centres_of_large_instances_are_thinned_evenly(side):
    labels = np.zeros((400, 400), np.uint8)
    labels[20 : 20 + side, 30 : 30 + side] = 1
    (centres,) = instance_centres(labels)
    assert min(side**2, CENTRES_PER_INSTANCE / 2) <= len(centres) <= CENTRES_PER_INSTANCE
    quadrants = (centres >= np.array([20, 30]) + side // 2) @ [2, 1]
    assert np.bincount(quadrants, minlength=4).min() > 0.15 * len(centres)


def test_boundaries_are_those_of_the_section_and_not_of_the_patch():
    """Every pixel has its own value, which tells where a patch comes from."""
    raw = np.arange(80 * 100, dtype=np.float32).reshape(80, 100)
    labels = np.kron(np.arange(20).reshape(4, 5), np.ones((20, 20))).astype(np.uint16)
    feed = PatchFeed([(raw, labels)], settings(), CPU, BOTH)
    for i in range(10):
        image, target = feed.batch(i)
        assert target.shape == (4, 2, 32, 32)
        assert target.dtype == torch.float32
        for patch, channels in zip(image[:, 0].numpy(), target.numpy(), strict=True):
            y, x = divmod(round(float(patch[0, 0] * raw.std() + raw.mean())), 100)
            window = slice(y, y + 32), slice(x, x + 32)
            np.testing.assert_array_equal(channels[0], labels[window] > 0)
            np.testing.assert_array_equal(channels[1], find_boundaries(labels)[window])


@pytest.mark.parametrize("augmentation", [OFF, ALL])
def test_a_further_output_changes_neither_image_nor_foreground(augmentation):
    sections = [random_section(seed=seed) for seed in range(2)]
    one = PatchFeed(sections, settings(augmentation=augmentation), CPU)
    two = PatchFeed(sections, settings(augmentation=augmentation), CPU, BOTH)
    for i in range(4):
        assert torch.equal(one.batch(i)[0], two.batch(i)[0])
        assert torch.equal(one.batch(i)[1], two.batch(i)[1][:, :1])


@pytest.mark.parametrize("shape", [(20, 200), (20, 25), (1, 1)])
def test_boundaries_of_sections_smaller_than_the_patch_are_mirrored(shape):
    labels = np.zeros(shape, np.uint8)
    labels[:, : shape[1] // 2] = 1
    feed = PatchFeed([(labels.astype(float), labels)], settings(patch_px=64), CPU, BOTH)
    target = feed.batch(0)[1]
    assert target.shape == (4, 2, 64, 64)
    # The line between instance and background is upright, and the mirror adds no other.
    assert (target[:, 1] == target[:, 1, :1]).all()
    assert target[:, 1].any() == (shape[1] > 1)


def test_unknown_outputs_are_refused():
    with pytest.raises(BenchError, match="unknown output 'distance'"):
        PatchFeed([random_section()], settings(), CPU, ("foreground", "distance"))
