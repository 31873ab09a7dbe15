"""Several structures as classes: their targets, patches, loss and weights."""

import math

import numpy as np
import pytest
import torch

from bench.methods import CLASS_LOSS
from bench.steps.training.classes import weights_of_frequencies
from bench.structures import weight_of_frequency
from bench.training.augment import Augmentation
from bench.training.objectives import class_loss, make_loss, soft_dice_of_classes
from bench.training.patches import PatchFeed, PatchSettings
from bench.training.targets import make_classes

CPU = torch.device("cpu")
OFF = Augmentation(rotate=False, flip=False, elastic_px=0, noise=0)
ALL = Augmentation(rotate=True, flip=True, elastic_px=4, noise=0.1)
OUTPUTS = ("background", "large", "small", "third")


def draw_labels():
    labels = np.zeros((3, 80, 100), np.uint16)
    labels[0, 5:45, 5:65], labels[0, 60:70, 60:70] = 4, 9
    labels[1, 40:50, 20:24] = 1
    labels[2, 70:74, 2:6] = 2
    return labels


def test_of_overlapping_structures_the_first_named_has_the_pixels():
    labels = draw_labels()
    classes = make_classes(labels)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes == 1, labels[0] != 0)
    np.testing.assert_array_equal(classes == 2, (labels[1] != 0) & (labels[0] == 0))
    np.testing.assert_array_equal(classes == 3, labels[2] != 0)
    np.testing.assert_array_equal(make_classes(labels[[1, 0, 2]]) == 1, labels[1] != 0)


def make_feed(augmentation, fraction=0.5):
    raw = np.random.default_rng(0).integers(0, 256, (80, 100), dtype=np.uint8)
    settings = PatchSettings(16, 8, fraction, augmentation, 0)
    return PatchFeed([(raw, draw_labels())], settings, CPU, OUTPUTS)


@pytest.mark.parametrize("augmentation", [OFF, ALL])
def test_every_pixel_of_a_patch_has_one_class(augmentation):
    _, target = make_feed(augmentation, 1.0).batch(0)
    assert target.shape == (8, 4, 16, 16)
    assert target.dtype == torch.float32
    assert (target.sum(1) == 1).all()
    assert set(target.unique().tolist()) == {0.0, 1.0}
    assert target.sum((0, 2, 3)).min() > 0


def test_a_rare_structure_is_drawn_as_often_as_a_common_one():
    """A third of the patches each, although the first has two instances and 600 times the area."""
    feed, rng = make_feed(OFF, 1.0), np.random.default_rng(0)
    places = np.array([feed.draw_place(rng)[1:] for _ in range(3000)])
    third = (abs(places - (72, 4)) <= 9).all(1)
    assert third.mean() == pytest.approx(1 / 3, abs=0.03)
    second_of_large = (abs(places - (65, 65)) <= 12).all(1)
    assert second_of_large.mean() == pytest.approx(1 / 6, abs=0.03)


def test_soft_dice_has_squares_below_the_line():
    """Known answer of y (1, 1, 0, 0) and s (.9, .6, .4, .1): 1 - 3 / 3.34, whichever class."""
    s = torch.tensor([0.9, 0.6, 0.4, 0.1])
    y = torch.tensor([1.0, 1, 0, 0])
    probability, target = (torch.stack([a, 1 - a]).reshape(1, 2, 2, 2) for a in (s, y))
    assert soft_dice_of_classes(probability, target).item() == pytest.approx(1 - 3 / 3.34)


def test_the_loss_is_half_cross_entropy_and_half_dice():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 3, (2, 8, 8), generator=generator)
    target = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    p = np.exp(logits.numpy())
    p /= p.sum(1, keepdims=True)
    t, weights = target.numpy(), np.array([1.0, 2.0, 5.0])
    of_pixel = (t * weights[None, :, None, None]).sum(1)
    cross_entropy = -(of_pixel * np.log((p * t).sum(1))).sum() / of_pixel.sum()
    axes = (0, 2, 3)
    dice = (2 * (p * t).sum(axes) / ((p * p).sum(axes) + t.sum(axes))).mean()
    loss = make_loss(CLASS_LOSS, gamma=2.0, foreground_weight=9.0, class_weights=(1, 2, 5))
    assert loss(logits, target).item() == pytest.approx(0.5 * cross_entropy + 0.5 * (1 - dice))


def test_a_class_that_a_batch_lacks_is_pushed_down():
    target = torch.zeros(1, 3, 4, 4)
    target[:, 0] = 1
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    value = class_loss(logits, target, weights=())
    value.backward()
    third = 16 / 3
    dice = (1 - 2 * third / (16 / 9 + 16)) / 3 + 2 / 3
    assert value.item() == pytest.approx(0.5 * math.log(3) + 0.5 * dice)
    assert (logits.grad[:, 1:] > 0).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("fraction", [0.0009, 0.01, 0.2, 0.5])
def test_weights_of_two_classes_are_those_of_foreground(fraction):
    background, foreground = weights_of_frequencies([1 - fraction, fraction])
    assert background == 1
    assert foreground == weight_of_frequency(fraction)
