"""Pairs of views of images that are read when they are drawn."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.training import reconstruction
from bench.training.reconstruction import (
    HeldOutViews,
    ViewFeed,
    ViewSettings,
    cut_mirrored,
    measure_moments,
    squared_error,
)

CPU = torch.device("cpu")


@dataclass
class Pool:
    images: list
    reads: list = field(default_factory=list)

    @property
    def areas_px(self):
        return np.array([image.size for image in self.images], float)

    def name(self, number):
        return f"image {number}"

    def read(self, number):
        self.reads.append(number)
        return self.images[number]


def settings(**others):
    return ViewSettings(**{"patch_px": 32, "batch_size": 4, "seed": 0} | others)


def noise(shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def test_both_views_show_the_same_place():
    """Of places as grey values: where the first view is not spoiled it is the second."""
    ys, xs = np.mgrid[:100, :120]
    pool = Pool([(3 * xs + 5 * ys).astype(np.float32)])
    feed = ViewFeed(pool, settings(batch_size=64), CPU)
    view, whole = feed.batch(0)
    assert view.shape == whole.shape == (64, 1, 32, 32)
    same = (view - whole).abs().flatten(1).amax(1) < 1e-4
    # One in sixteen is left as it is.
    assert 1 <= same.sum() < 12
    # Contrast, noise, blur and holes do not move anything: a strong pattern stays where it was.
    pattern = 200 * ((ys // 24 + xs // 24) % 2).astype(np.uint8) + 20
    view, whole = ViewFeed(Pool([pattern]), settings(batch_size=64), CPU).batch(0)
    pairs = zip(view.flatten(1), whole.flatten(1), strict=True)
    likeness = [np.corrcoef(one, other)[0, 1] for one, other in pairs if other.std() > 0.5]
    assert len(likeness) > 30
    # Of one place and the next they are not alike.
    assert np.median(likeness) > 0.5


def test_a_batch_depends_on_seed_and_iteration_alone():
    images = [noise((64, 80), seed) for seed in (1, 2, 3)]
    feed = ViewFeed(Pool(images), settings(), CPU)
    feed.batch(5)
    again = ViewFeed(Pool(images), settings(), CPU)
    for one, other in zip(feed.batch(3), again.batch(3), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(feed.batch(3)[1], feed.batch(4)[1])
    reseeded = ViewFeed(Pool(images), settings(seed=1), CPU)
    assert not torch.equal(feed.batch(3)[1], reseeded.batch(3)[1])


def test_images_are_read_when_drawn_and_kept_while_they_are_few(monkeypatch):
    pool = Pool([noise((40, 40), seed) for seed in range(50)])
    feed = ViewFeed(pool, settings(), CPU)
    assert pool.reads == []
    first = feed.batch(0)
    assert 1 <= len(pool.reads) <= 4
    feed.batch(0)
    assert len(pool.reads) <= 4
    monkeypatch.setattr(reconstruction, "_KEPT_BYTES", 1000)
    many = Pool(pool.images)
    other = ViewFeed(many, settings(), CPU)
    assert torch.equal(other.batch(0)[1], first[1])
    other.batch(0)
    assert len(many.reads) == 8


def test_images_are_drawn_by_area_and_only_those_that_are_named():
    pool = Pool([noise((32, 32)), noise((96, 96)), noise((64, 64))])
    feed = ViewFeed(pool, settings(batch_size=500), CPU, [0, 1])
    rng = np.random.default_rng(0)
    drawn = [feed._draw_number(rng) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert abs(np.mean(np.array(drawn) == 0) - 0.1) < 0.03


def test_normalised_by_its_own_moments_or_by_those_of_all():
    image = noise((400, 400), dtype=np.uint16)
    (_, own) = ViewFeed(Pool([image]), settings(batch_size=64), CPU).batch(0)
    assert abs(own.mean()) < 0.1
    moments = measure_moments(Pool([image]), [0])
    assert moments[0] == pytest.approx(image.mean() / 65535, rel=1e-5)
    assert moments[1] == pytest.approx(image.std() / 65535, rel=1e-5)
    (_, given) = ViewFeed(Pool([image]), settings(batch_size=64, moments=moments), CPU).batch(0)
    torch.testing.assert_close(given, own, atol=1e-3, rtol=0)
    shifted = (moments[0] - moments[1], moments[1])
    (_, brighter) = ViewFeed(Pool([image]), settings(batch_size=64, moments=shifted), CPU).batch(0)
    torch.testing.assert_close(brighter, own + 1, atol=1e-3, rtol=0)


def test_places_that_show_nothing_are_drawn_again():
    montage = np.zeros((600, 600), np.uint8)
    montage[:200, :200] = noise((200, 200))
    _, whole = ViewFeed(Pool([montage]), settings(batch_size=2), CPU).batch(0)
    assert (whole.flatten(1).std(1) > 0).all()
    blank = ViewFeed(Pool([np.zeros((64, 64), np.uint8)]), settings(), CPU)
    with pytest.raises(BenchError, match=r"must show something, .* image 0: leave out"):
        blank.batch(0)


def test_a_window_is_mirrored_beyond_the_border():
    image = noise((6, 9))
    whole = np.pad(image, 20, mode="reflect")
    for y, x in ((0, 0), (5, 8), (3, 4)):
        expected = whole[20 + y - 5 : 20 + y + 5, 20 + x - 5 : 20 + x + 5]
        assert np.array_equal(cut_mirrored(image, y, x, 10), expected)
    assert np.array_equal(cut_mirrored(image, 3, 4, 4), image[1:5, 2:6])


def test_what_knows_nothing_is_scored_beside():
    feed = ViewFeed(Pool([noise((80, 80))]), settings(batch_size=16), CPU)
    views = HeldOutViews.draw(feed, 2)
    assert len(views.pairs) == 2
    variances = [float(whole.var((2, 3), correction=0).mean()) for _, whole in views.pairs]
    assert views.mean_mse == pytest.approx(np.mean(variances), rel=1e-5)
    errors = [float((view - whole).square().mean()) for view, whole in views.pairs]
    assert views.view_mse == pytest.approx(np.mean(errors), rel=1e-5)
    assert squared_error(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 1
