import pytest
import torch
from torch_em.model import UNet2d

from bench.models.unet2d import InstanceNorm, KeptLayoutNorm, build_unet2d, mend_gradients


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 16, 5), (1, 6, 16, 5), (4, 32, 7, 9)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("weights_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_cuda", [False, True])
def test_it_is_torchs_instance_norm_with_its_gradient(
    shape, channels_last, weights_last, dtype, of_cuda
):
    if of_cuda and dtype == torch.bfloat16 and shape[:2] == (1, 1):
        pytest.skip("on a CPU torch has no fp32 variance of all of a bf16 tensor")
    torch.manual_seed(0)
    image = (5 * torch.randn(shape) + 3).to(dtype)
    if channels_last:
        image = image.to(memory_format=torch.channels_last)
    weights = torch.randn(shape).to(dtype)
    if weights_last:
        weights = weights.to(memory_format=torch.channels_last)
    found = []
    ours = (lambda given: KeptLayoutNorm.apply(given, 1e-5)) if of_cuda else InstanceNorm(shape[1])
    theirs = torch.nn.Sequential(torch.nn.InstanceNorm2d(shape[1]))
    mend_gradients(theirs)
    for norm in (theirs, ours):
        given = image.clone(memory_format=torch.preserve_format).requires_grad_()
        normalised = norm(given)
        (normalised * weights).sum().backward()
        found.append((normalised.detach().float(), given.grad.float()))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def gradient_of_a_single_image(norm, image, weights):
    given = image.clone().requires_grad_()
    norm(given).backward(weights)
    return given.grad


@pytest.mark.parametrize("axes", [2, 3])
def test_torchs_gradient_of_a_single_image_is_mended(axes):
    """What torch makes of it is wrong; once it is right, mend_gradients can go."""
    torch.manual_seed(0)
    last = torch.channels_last if axes == 2 else torch.channels_last_3d
    image, weights = torch.randn(2, 1, 16, *[8] * axes)
    kind = torch.nn.InstanceNorm2d if axes == 2 else torch.nn.InstanceNorm3d
    right = gradient_of_a_single_image(kind(16), image.double(), weights.double()).float()
    plain, mended = kind(16), torch.nn.Sequential(kind(16))
    mend_gradients(mended)
    wrong = gradient_of_a_single_image(plain, image, weights.to(memory_format=last))
    assert (wrong - right).norm() > 0.5 * right.norm()
    for of_weights in (torch.contiguous_format, last):
        found = gradient_of_a_single_image(mended, image, weights.to(memory_format=of_weights))
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert not mended(image).requires_grad


@pytest.mark.parametrize("of_cuda", [False, True])
def test_it_keeps_channels_last_where_torch_does_not(of_cuda):
    image = torch.randn(2, 8, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    found = KeptLayoutNorm.apply(image, 1e-5) if of_cuda else InstanceNorm(8)(image)
    assert found.is_contiguous(memory_format=torch.channels_last)
    found.square().sum().backward()
    assert image.grad.is_contiguous(memory_format=torch.channels_last)


def test_one_channel_stays_what_it_was_meant_as():
    """The convolution after it looks at the strides."""
    for layout in (torch.channels_last, torch.contiguous_format):
        image = torch.empty(2, 1, 6, 5, memory_format=layout).normal_()
        assert KeptLayoutNorm.apply(image, 1e-5).stride() == image.stride()


def test_other_devices_take_torchs_norm_where_images_are_contiguous(monkeypatch):
    """Tensors without values stand for a GPU's."""
    monkeypatch.setattr(KeptLayoutNorm, "apply", lambda image, eps: "kept")
    for channels in (1, 4):
        image = torch.empty(2, channels, 6, 5, device="meta")
        assert InstanceNorm(channels)(image).shape == image.shape
        last = torch.empty_like(image, memory_format=torch.channels_last)
        assert InstanceNorm(channels)(last) == "kept"


@pytest.mark.parametrize("channels", [1, 4])
def test_it_takes_what_was_cut_out_of_another_image(channels):
    whole = torch.randn(2, channels, 20, 30)
    for cut in (whole[..., 3:11, 5:21], whole.mT, whole[:, :, ::2]):
        torch.testing.assert_close(
            InstanceNorm(channels)(cut), torch.nn.InstanceNorm2d(channels)(cut)
        )


def test_the_network_is_that_of_torch_em_with_the_same_tensors():
    torch.manual_seed(0)
    ours = build_unet2d(in_channels=1, out_channels=2, depth=3, features=8)
    theirs = UNet2d(1, 2, depth=3, initial_features=8, final_activation=None)
    norms = [m for m in ours.modules() if isinstance(m, torch.nn.InstanceNorm2d)]
    assert len(norms) == 14
    assert all(type(norm) is InstanceNorm for norm in norms)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 1, 64, 48)
    with torch.inference_mode():
        found = ours.eval()(image.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, theirs.eval()(image), atol=2e-5, rtol=1e-4)
