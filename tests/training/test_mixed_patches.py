"""Batches of annotated patches and of pseudo-masks, and losses that weigh their pixels."""

import numpy as np
import pytest
import torch

from bench.methods import CLASS_LOSS, LOSSES
from bench.training.augment import Augmentation
from bench.training.objectives import make_loss
from bench.training.patches import MixedFeed, PatchFeed, PatchSettings, divide_batch

SETTINGS = PatchSettings(16, 8, 0.5, Augmentation(True, True, 2.0, 0.0), seed=3)


def make_sections(grey, number=2):
    rng = np.random.default_rng(grey)
    sections = []
    for _ in range(number):
        labels = np.zeros((48, 40), np.uint8)
        labels[8:20, 5:17], labels[30:40, 20:35] = 1, 2
        raw = grey + 40 * (labels > 0) + rng.normal(0, 5, labels.shape)
        sections.append((raw.astype(np.float32), labels))
    return sections


def make_feed(weight, outputs=("foreground",), unsure=None):
    own, others = divide_batch(SETTINGS, 0.25)
    pseudo = make_sections(50)
    unsure = [labels == 2 for _, labels in pseudo] if unsure is None else unsure
    device = torch.device("cpu")
    return MixedFeed(
        PatchFeed(make_sections(100), own, device, outputs),
        PatchFeed(pseudo, others, device, outputs, unsure=unsure),
        weight,
    )


@pytest.mark.parametrize("outputs", [("foreground",), ("foreground", "boundary")])
def test_a_batch_has_both_kinds_and_the_weight_of_every_pixel(outputs):
    feed = make_feed(0.25, outputs)
    image, target = feed.batch(7)
    assert image.shape == (8, 1, 16, 16)
    assert target.shape == (8, len(outputs) + 1, 16, 16)
    assert (feed.settings.batch_size, feed.settings.seed) == (8, 3)
    # Six of eight are annotated, and come first.
    assert (target[:6, -1] == 1).all()
    assert set(target[6:, -1].unique().tolist()) <= {0.0, 0.25}
    # Where nobody is sure there is an object, in this data.
    weights = torch.cat([feed.batch(i)[1][6:, -1].flatten() for i in range(20)])
    found = torch.cat([feed.batch(i)[1][6:, 0].flatten() for i in range(20)])
    assert (found[weights == 0] == 1).all()
    assert 0 < (weights == 0).float().mean() < 1
    again = make_feed(0.25, outputs).batch(7)
    assert torch.equal(image, again[0])
    assert torch.equal(target, again[1])


def test_annotated_patches_are_those_of_a_smaller_batch():
    own, _ = divide_batch(SETTINGS, 0.25)
    image, target = PatchFeed(make_sections(100), own, torch.device("cpu")).batch(5)
    mixed = make_feed(0.25).batch(5)
    assert torch.equal(mixed[0][:6], image)
    assert torch.equal(mixed[1][:6, :1], target)


@pytest.mark.parametrize(("fraction", "numbers"), [(0.5, (4, 4)), (0, (7, 1)), (1, (1, 7))])
def test_a_batch_has_at_least_one_of_either(fraction, numbers):
    own, others = divide_batch(SETTINGS, fraction)
    assert (own.batch_size, others.batch_size) == numbers
    assert own.seed != others.seed


@pytest.mark.parametrize("name", [name for name in LOSSES if name != CLASS_LOSS])
def test_a_weight_counts_pixels_so_often(name):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2, 8, 8), (torch.rand(3, 2, 8, 8) < 0.3).float()
    weight = torch.tensor([1.0, 2.0, 0.0])[:, None, None, None].expand(3, 1, 8, 8)
    weighted = make_loss(name, gamma=2, foreground_weight=5, weighted=True)
    plain = make_loss(name, gamma=2, foreground_weight=5)
    found = weighted(logits, torch.cat([target, weight], dim=1))
    repeated = plain(logits[[0, 1, 1]], target[[0, 1, 1]])
    assert found.item() == pytest.approx(repeated.item(), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != CLASS_LOSS])
def test_pixels_that_nobody_is_sure_of_teach_nothing(name):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    target, weight = (torch.rand(2, 1, 8, 8) < 0.3).float(), torch.ones(2, 1, 8, 8)
    weight[1, 0, :4] = 0
    loss = make_loss(name, gamma=2, foreground_weight=5, weighted=True)
    loss(logits, torch.cat([target, weight], dim=1)).backward()
    assert (logits.grad[1, 0, :4] == 0).all()
    assert (logits.grad[1, 0, 4:] != 0).all()
    assert torch.isfinite(logits.grad).all()
