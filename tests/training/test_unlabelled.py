import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.feeding import normalise_section
from bench.training.augment import StrongView, bend_greys, blur, make_strong_view
from bench.training.unlabelled import (
    UnlabelledFeed,
    UnlabelledSettings,
    cell_edge,
    find_content,
    mirror_to,
)

CPU = torch.device("cpu")
STILL = StrongView(noise=0, blur_px=0, gamma=0)


def settings(**others):
    return UnlabelledSettings(
        **{"patch_px": 32, "batch_size": 4, "strong": STILL, "seed": 0} | others
    )


def noise(shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def is_cut_of(patch, image):
    """Whether a patch is a window of the image, flipped or turned by right angles."""
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    forms = [np.rot90(p, k) for p in (patch, patch[::-1]) for k in range(4)]
    return any((np.abs(windows - form) < 1e-5).all(axis=(2, 3)).any() for form in forms)


def test_patches_are_windows_normalised_by_the_whole_image():
    image = noise((40, 56), dtype=np.uint16)
    feed = UnlabelledFeed([image], settings(), CPU)
    seen = set()
    for iteration in range(3):
        weak, strong = feed.batch(iteration)
        assert weak.shape == (4, 1, 32, 32)
        assert weak.dtype == torch.float32
        torch.testing.assert_close(weak, strong)
        for patch in weak[:, 0].numpy():
            assert is_cut_of(patch, normalise_section(image))
            seen.add(patch.tobytes())
    assert len(seen) == 12


def test_both_views_show_the_same_places():
    """Noise, blur and greys apart: the strong view of a bright square has it in its place."""
    image = np.full((64, 64), 20, np.uint8)
    image[30:40, 12:30] = 200
    strong = StrongView(noise=0.1, blur_px=1, gamma=0.3)
    feed = UnlabelledFeed([image], settings(strong=strong, patch_px=48), CPU)
    for iteration in range(5):
        weak, view = feed.batch(iteration)
        assert not torch.equal(weak, view)
        for a, b in zip(weak.flatten(1), view.flatten(1), strict=True):
            assert np.corrcoef(a, b)[0, 1] > 0.9


def test_a_batch_depends_on_seed_and_iteration_alone():
    strong = StrongView(0.1, 1, 0.3)
    images = [noise((64, 64), seed) for seed in (1, 2)]
    feed = UnlabelledFeed(images, settings(strong=strong), CPU)
    feed.batch(5)
    again = UnlabelledFeed(images, settings(strong=strong), CPU)
    for one, other in zip(feed.batch(3), again.batch(3), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(feed.batch(3)[0], feed.batch(4)[0])
    reseeded = UnlabelledFeed(images, settings(strong=strong, seed=1), CPU)
    assert not torch.equal(feed.batch(3)[0], reseeded.batch(3)[0])


@pytest.mark.parametrize("value", [0, 255])
def test_no_patch_is_of_the_margin_alone(value):
    montage = np.full((400, 400), value, np.uint8)
    montage[170:210, 300:350] = noise((40, 50))
    feed = UnlabelledFeed([montage], settings(batch_size=32), CPU)
    weak, _ = feed.batch(0)
    assert (weak.amax((1, 2, 3)) > weak.amin((1, 2, 3))).all()


def test_large_images_give_more_patches():
    small, large = noise((32, 32)), noise((320, 320)) // 2
    feed = UnlabelledFeed([small, large], settings(batch_size=64), CPU)
    from_small = sum(int(feed.cells[i][0] == 0) for i in range(len(feed.cells)))
    assert from_small / len(feed.cells) == pytest.approx(1 / 101, rel=0.1)


def test_images_without_any_content_are_refused():
    with pytest.raises(BenchError, match=r"must show something, received 2 whose pixels are all"):
        UnlabelledFeed([np.zeros((64, 64)), np.ones((64, 64))], settings(), CPU)


def test_a_small_image_is_mirrored():
    image = noise((20, 100))
    feed = UnlabelledFeed([image, noise((40, 40))], settings(), CPU)
    assert feed.mirrored == 1
    padded = mirror_to(image, 32)
    assert padded.shape == (32, 100)
    assert np.array_equal(padded[6:26], image)
    assert np.array_equal(padded[:6], image[5::-1])
    assert feed.batch(0)[0].shape == (4, 1, 32, 32)


@pytest.mark.parametrize(("scale", "window"), [(2.0, 16), (0.5, 64)])
def test_patches_are_resampled_to_the_scale_of_the_network(scale, window):
    ys, xs = np.mgrid[:128, :128]
    stripes = (100 + 50 * np.sin(2 * np.pi * (ys + xs) / 32)).astype(np.float32)
    feed = UnlabelledFeed([stripes], settings(), CPU, [scale])
    assert feed.edges == [window]
    weak, _ = feed.batch(0)
    assert weak.shape == (4, 1, 32, 32)
    periods = [np.abs(np.fft.rfft(patch[0] - patch[0].mean())).argmax() for patch in weak[:, 0]]
    assert set(periods) == {window // 32} if scale < 1 else set(periods) <= {0, 1}


def test_cells():
    image = np.zeros((70, 64), np.uint8)
    image[40, 10] = 1
    assert find_content(image, 32).tolist() == [[32, 0]]
    assert (cell_edge(256), cell_edge(40), cell_edge(1)) == (32, 20, 1)


def test_gamma_keeps_the_darkest_and_the_brightest():
    image = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3) * 4 - 1
    bent = bend_greys(image, np.array([0.5]))
    torch.testing.assert_close(bent.flatten(), torch.tensor([-1.0, 1.0, 3.0]))
    torch.testing.assert_close(bend_greys(image, np.array([1.0])), image)


def test_blur_against_scipy():
    from scipy.ndimage import gaussian_filter

    image = torch.from_numpy(noise((2, 1, 40, 40)).astype(np.float32))
    blurred = blur(image, np.array([0.0, 1.5]), 2.0)
    torch.testing.assert_close(blurred[0], image[0])
    expected = gaussian_filter(image[1, 0].numpy(), 1.5, mode="mirror", truncate=4)
    np.testing.assert_allclose(blurred[1, 0], expected, atol=0.05)


def test_the_strong_view_leaves_the_weak_one_alone():
    weak = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    before = weak.clone()
    make_strong_view(weak, StrongView(0.5, 2, 1), np.random.default_rng(0))
    assert torch.equal(weak, before)
