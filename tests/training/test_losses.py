import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_em.loss import DiceLoss
from torchvision.ops import sigmoid_focal_loss

from bench.methods import LOSSES
from bench.training.objectives import BOUNDARY_WEIGHT, dice_loss, focal_loss, make_loss


def random_batch(seed, edge=24, share=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 1, edge, edge, generator=generator)
    return logits, (torch.rand(2, 1, edge, edge, generator=generator) < share).float()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_dice_loss_is_its_formula(seed, share):
    logits, target = random_batch(seed, share=share)
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    t = target.numpy().astype(np.float64)
    expected = 1 - (2 * (p * t).sum() + 1) / ((p * p).sum() + (t * t).sum() + 1)
    assert dice_loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_dice_loss_of_large_patches_is_that_of_torch_em(seed):
    logits, target = random_batch(seed, edge=512)
    theirs = DiceLoss()(torch.sigmoid(logits), target)
    # The added pixel weighs at most 1 / (number of foreground pixels).
    allowed = 1 / target.sum().item()
    assert dice_loss(logits, target).item() == pytest.approx(theirs.item(), abs=allowed)


def test_dice_loss_without_foreground_still_pushes_down():
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    target = torch.zeros(1, 1, 16, 16)
    dice_loss(logits, target).backward()
    assert (logits.grad > 0).all()
    theirs = torch.zeros(1, 1, 16, 16, requires_grad=True)
    DiceLoss()(torch.sigmoid(theirs), target).backward()
    assert (theirs.grad == 0).all()


def test_dice_loss_runs_from_0_to_1():
    target = (torch.arange(64).reshape(1, 1, 8, 8) < 32).float()
    assert dice_loss(100 * (2 * target - 1), target).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(100 * (1 - 2 * target), target).item() == pytest.approx(1 - 1 / 65)
    nothing = torch.zeros_like(target)
    assert dice_loss(torch.full_like(target, -100), nothing).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_without_weight_is_that_of_torchvision(seed, gamma):
    logits, target = random_batch(seed)
    theirs = sigmoid_focal_loss(logits, target, alpha=-1, gamma=gamma, reduction="mean")
    ours = focal_loss(logits, target, gamma=gamma, foreground_weight=1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weight", [0.5, 2.0, 5.0, 20.0])
def test_focal_loss_with_weight_is_that_of_torchvision_up_to_scale(weight):
    """Their alpha weighs the classes alpha to 1 - alpha, and they divide by the pixels."""
    logits, target = random_batch(0)
    alpha = weight / (1 + weight)
    theirs = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=2, reduction="sum")
    weights = torch.where(target > 0, weight, 1.0)
    ours = focal_loss(logits, target, gamma=2, foreground_weight=weight)
    torch.testing.assert_close(ours, theirs * (1 + weight) / weights.sum())


@pytest.mark.parametrize("weight", [0.0, 1.0, 5.0, 20.0])
def test_focal_loss_of_gamma_0_is_the_weighted_mean_of_cross_entropy(weight):
    logits, target = random_batch(1)
    each = binary_cross_entropy_with_logits(
        logits, target, pos_weight=torch.tensor(weight), reduction="sum"
    )
    ours = focal_loss(logits, target, gamma=0, foreground_weight=weight)
    torch.testing.assert_close(ours, each / (weight * target.sum() + (1 - target).sum()))


def test_weight_of_foreground_shifts_the_balance_of_the_gradient_only():
    target = (torch.arange(64).reshape(1, 1, 8, 8) < 8).float()
    gradients, values = [], []
    for weight in (1.0, 7.0):
        logits = torch.zeros_like(target, requires_grad=True)
        value = focal_loss(logits, target, gamma=2, foreground_weight=weight)
        value.backward()
        values.append(value.item())
        gradients.append((logits.grad * target).sum() / (logits.grad * (1 - target)).sum())
    assert values[0] == pytest.approx(values[1])
    assert (gradients[1] / gradients[0]).item() == pytest.approx(7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [100, 1e4])
def test_losses_are_computed_in_fp32_and_finite_for_large_logits(name, dtype, size):
    target = (torch.arange(256).reshape(1, 1, 16, 16) % 3 == 0).to(dtype)
    signs = torch.where(torch.arange(256).reshape(1, 1, 16, 16) % 2 == 0, 1, -1)
    logits = (size * signs).to(dtype).requires_grad_()
    value = make_loss(name, gamma=2, foreground_weight=5)(logits, target)
    value.backward()
    assert value.dtype == torch.float32
    assert math.isfinite(value.item())
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradient_is_finite_where_the_prediction_is_perfect(gamma):
    target = torch.ones(1, 1, 4, 4)
    logits = torch.full_like(target, 200.0, requires_grad=True)
    focal_loss(logits, target, gamma=gamma, foreground_weight=5).backward()
    assert torch.isfinite(logits.grad).all()


def test_losses_of_bf16_logits_are_those_of_the_same_numbers_in_fp32():
    logits, target = random_batch(2, edge=64)
    rounded = logits.bfloat16()
    loss = make_loss("focal_dice", gamma=2, foreground_weight=20)
    assert loss(rounded, target.bfloat16()) == loss(rounded.float(), target)


def test_weighted_cross_entropy_is_a_focal_loss_that_does_not_focus():
    logits, target = random_batch(4)
    weighted = make_loss("weighted_bce", gamma=2, foreground_weight=10)(logits, target)
    assert weighted == focal_loss(logits, target, gamma=0, foreground_weight=10)


def test_focal_dice_is_the_sum():
    logits, target = random_batch(3)
    both = make_loss("focal_dice", gamma=1.5, foreground_weight=20)(logits, target)
    parts = focal_loss(logits, target, gamma=1.5, foreground_weight=20), dice_loss(logits, target)
    torch.testing.assert_close(both, sum(parts))
    dice_alone = make_loss("dice", gamma=1.5, foreground_weight=20)(logits, target)
    torch.testing.assert_close(dice_alone, parts[1])


def two_channels(seed, edge=24):
    """A batch whose second channel is rarer than the first."""
    parts = [random_batch(10 * seed + i, edge, share) for i, share in enumerate((0.3, 0.03))]
    return tuple(torch.cat(channels, dim=1) for channels in zip(*parts, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_dice_loss_of_channels_is_the_mean_of_torch_ems(seed):
    logits, target = two_channels(seed, edge=512)
    theirs = DiceLoss(reduce_channel=None)(torch.sigmoid(logits), target)
    assert theirs.shape == (2,)
    allowed = 1 / target[:, 1].sum().item()
    assert dice_loss(logits, target).item() == pytest.approx(theirs.mean().item(), abs=allowed)


def test_losses_of_channels_are_the_mean_of_each_alone():
    logits, target = two_channels(1)
    alone = [(logits[:, c : c + 1], target[:, c : c + 1]) for c in range(2)]
    torch.testing.assert_close(
        dice_loss(logits, target), (dice_loss(*alone[0]) + dice_loss(*alone[1])) / 2
    )
    foreground = focal_loss(*alone[0], gamma=2, foreground_weight=20)
    boundary = focal_loss(*alone[1], gamma=2, foreground_weight=BOUNDARY_WEIGHT)
    both = focal_loss(logits, target, gamma=2, foreground_weight=20)
    torch.testing.assert_close(both, (foreground + boundary) / 2)


def test_two_channels_by_hand():
    """Two pixels, foreground in one; the boundary is missed in both: p = 1/2, 1/2; 3/4, 1/4."""
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(3), -math.log(3)]]]])
    target = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    dice = (1 - (2 * 0.5 + 1) / (0.5 + 1 + 1)) / 2 + (1 - (2 * 0.25 + 1) / (0.625 + 1 + 1)) / 2
    assert dice_loss(logits, target).item() == pytest.approx(dice)
    # Both pixels of a channel have the same loss, so no weight changes its mean.
    focal = (0.5**2 * math.log(2) + 0.75**2 * math.log(4)) / 2
    value = focal_loss(logits, target, gamma=2, foreground_weight=20)
    assert value.item() == pytest.approx(focal)


@pytest.mark.parametrize("name", ["dice", "focal_dice"])
@pytest.mark.parametrize("empty", [0, 1])
def test_a_channel_that_is_empty_in_the_batch_is_pushed_down(name, empty):
    logits = torch.zeros(2, 2, 8, 8, requires_grad=True)
    target = torch.zeros(2, 2, 8, 8)
    target[:, 1 - empty] = 1
    make_loss(name, gamma=2, foreground_weight=5)(logits, target).backward()
    assert (logits.grad[:, empty] > 0).all()
    assert (logits.grad[:, 1 - empty] < 0).all()


def test_foreground_weight_leaves_the_boundary():
    logits, target = two_channels(2)
    gradients = []
    for weight in (1.0, 20.0):
        free = logits.clone().requires_grad_()
        focal_loss(free, target, gamma=2, foreground_weight=weight).backward()
        gradients.append(free.grad)
    assert torch.equal(gradients[0][:, 1], gradients[1][:, 1])
    assert not torch.allclose(gradients[0][:, 0], gradients[1][:, 0])


def test_half_cross_entropy_and_half_dice_without_squares():
    scores, target = torch.tensor([0.9, 0.6, 0.4, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    logits = torch.logit(scores)[None, None, None]
    loss = make_loss("bce_dice", gamma=2, foreground_weight=9)(logits, target[None, None, None])
    # The Dice is .250: 3 over 4, where squares would make it .102.
    cross_entropy = -(math.log(0.9) + math.log(0.6)) / 2
    assert loss.item() == pytest.approx(0.5 * cross_entropy + 0.5 * 0.25, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_bce_dice_is_its_formula_of_every_channel(seed, share):
    (one, wanted), (two, other) = random_batch(seed, share=share), random_batch(seed + 9)
    logits, target = torch.cat([one, two], 1), torch.cat([wanted, other], 1)
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    t = target.numpy().astype(np.float64)
    cross_entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    dice = [
        (2 * (p[:, c] * t[:, c]).sum() + 1e-5) / (p[:, c].sum() + t[:, c].sum() + 1e-5)
        for c in (0, 1)
    ]
    expected = 0.5 * cross_entropy + 0.5 * (1 - np.mean(dice))
    found = make_loss("bce_dice", gamma=2, foreground_weight=9)(logits, target)
    assert found.item() == pytest.approx(expected, abs=1e-5)
