"""Losses, patches and boundaries do not read what nobody annotated."""

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.training.augment import Augmentation
from bench.training.objectives import make_loss
from bench.training.patches import PatchFeed, PatchSettings
from bench.training.targets import find_boundaries, pack_target
from bench.training.volume_patches import (
    HeldVolume,
    VolumeAugmentation,
    VolumePatchFeed,
    VolumePatchSettings,
)

SETTINGS = PatchSettings(16, 4, 0.5, Augmentation(True, True, 0.0, 0.0), 0)
CPU = torch.device("cpu")


def take(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("name", ["dice", "focal_dice", "weighted_bce", "bce_dice", "ce_dice"])
def test_a_loss_is_that_of_the_annotated_pixels(name):
    """Value and gradient are those of the pixels alone; what is ignored has no gradient."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 2, 8, 12), generator=rng)
    sure = torch.zeros((2, 1, 8, 12))
    sure[..., :7] = 1
    known = torch.randint(0, 2, (2, 1, 8, 12), generator=rng).float()
    pair = torch.cat([known, 1 - known], dim=1)
    loss, plain = (
        make_loss(
            name, gamma=2.0, foreground_weight=3.0, class_weights=(1.0, 2.0), weighted=weighted
        )
        for weighted in (True, False)
    )
    of_classes = name == "ce_dice"
    target = pair * sure if of_classes else torch.cat([pair, sure], dim=1)
    value, gradient = take(loss, logits, target)
    cut = (..., slice(0, 7))
    expected, of_part = take(plain, logits[cut], pair[cut])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[cut], of_part)
    assert not gradient[..., 7:].any()
    # A batch of nothing teaches nothing, and breaks nothing.
    value, gradient = take(loss, logits, torch.zeros_like(target))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_a_boundary_does_not_read_what_is_ignored():
    labels = np.array([[0, 0, 5, 5, 5, 5]])
    ignored = np.array([[0, 0, 0, 0, 1, 1]]) > 0
    filled = np.where(ignored, 9, labels)
    for each in (labels, filled):
        assert find_boundaries(each, ignored).tolist() == [[False, True, True, False, False, False]]
    both = [pack_target(each, ("foreground", "boundary"), ignored) for each in (labels, filled)]
    known = ~ignored[None]
    assert (both[0][known] == both[1][known]).all()


def test_patches_of_nothing_are_not_drawn():
    rng = np.random.default_rng(0)
    sections = [(rng.integers(0, 255, (64, 64)), np.zeros((64, 64), int)) for _ in range(2)]
    ignored = [np.ones((64, 64), bool) for _ in range(2)]
    ignored[1][40:44, 40:44] = False
    feed = PatchFeed(sections, SETTINGS, CPU, unsure=ignored)
    for iteration in range(20):
        drawn = np.random.default_rng((0, iteration))
        section, y, x = feed.draw_place(drawn)
        assert section == 1
        assert (~ignored[1][y - 8 : y + 8, x - 8 : x + 8]).any()
    with pytest.raises(BenchError, match="ignored as a whole"):
        PatchFeed(sections, SETTINGS, CPU, unsure=[ignored[0]] * 2)


def test_patches_of_volumes_say_where_they_are_annotated():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, 24, 24)).astype(np.float32)
    sure = np.zeros(image.shape, bool)
    sure[:, 2:6, 3:7] = True
    volume = HeldVolume(image, _same(), np.zeros(image.shape, bool), [], sure)
    settings = VolumePatchSettings((4, 8, 8), 3, 0.5, VolumeAugmentation(True, False, 0.0), 0)
    feed = VolumePatchFeed([volume], settings, CPU)
    for iteration in range(5):
        images, targets = feed.batch(iteration)
        assert images.shape == (3, 1, 4, 8, 8)
        assert targets.shape == (3, 2, 4, 8, 8)
        assert targets[:, 1].flatten(1).any(1).all()
    with pytest.raises(BenchError, match="ignored as a whole"):
        VolumePatchFeed([HeldVolume(image, _same(), sure, [], ~sure & sure)], settings, CPU)


def _same():
    from bench.inference.feeding import Moments

    return Moments(0.0, 1.0)
