"""The 2D U-Net of torch_em."""

import copy
import importlib.util
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch

_PIXELS = (2, 3)
_TORCHS_NORMS = (torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)
_Module = TypeVar("_Module", bound=torch.nn.Module)
_UNETS = "torch_em.model.unet"
_LOADING = threading.Lock()


class _ChannelNorm(torch.autograd.Function):
    """Shifts and scales every channel of every image to mean 0 and variance 1, on a CPU.

    Both ways by kernels of torch that take channels_last: forward that of a group norm of as many
    groups as channels, whose own gradient takes 80 times as long as the forward pass; backward that
    of a batch norm, an image at a time, which is four times as fast as the formula in tensors.
    """

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, eps: float) -> torch.Tensor:
        """Normalises an image (batch, channels, y, x)."""
        batch, channels, height, width = image.shape
        # The kernel takes these two layouts, and neither views nor what is cut out.
        if not image.is_contiguous(memory_format=torch.channels_last):
            image = image.contiguous()
        normalised, mean, scale = torch.native_group_norm(
            image, None, None, batch, channels, height * width, channels, eps
        )
        ctx.save_for_backward(image, mean, scale)
        ctx.eps = eps
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        image, mean, scale = ctx.saved_tensors
        found = torch.empty_like(image)
        for one in range(len(image)):
            found[one : one + 1], *_ = torch.ops.aten.native_batch_norm_backward(
                gradient[one : one + 1],
                image[one : one + 1],
                None,
                None,
                None,
                mean[one],
                scale[one],
                True,
                ctx.eps,
                [True, False, False],
            )
        return found, None


class KeptLayoutNorm(torch.autograd.Function):
    """The same in operations of any device that keep the layout, for channels_last on CUDA.

    Sums are in fp32, into which a GPU's kernels read bf16 and fp16 without a copy, and images are
    written in their own precision at once. Both ways read and write less than torch's norm with the
    conversions around it does; backward only a little.
    """

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, eps: float) -> torch.Tensor:
        """Normalises an image (batch, channels, y, x)."""
        exact = torch.promote_types(image.dtype, torch.float32)
        mean = image.mean(_PIXELS, keepdim=True, dtype=exact)
        variance = torch.empty_like(mean)
        torch.var(image, _PIXELS, correction=0, keepdim=True, out=variance)
        scale = torch.rsqrt(variance + eps)
        normalised = torch.empty_like(image)
        torch.addcmul(-mean * scale, image, scale, out=normalised)
        ctx.save_for_backward(normalised, scale)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of the image, from that of what was normalised."""
        normalised, scale = ctx.saved_tensors
        mean = gradient.mean(_PIXELS, keepdim=True, dtype=scale.dtype)
        along = (gradient * normalised).mean(_PIXELS, keepdim=True, dtype=scale.dtype)
        centred = torch.addcmul(-mean * scale, gradient, scale)
        found = torch.empty_like(normalised)
        torch.addcmul(centred, normalised, -along * scale, out=found)
        return found, None


class InstanceNorm(torch.nn.InstanceNorm2d):
    """InstanceNorm without weights that keeps the layout of what it is given.

    torch computes it as batch norm of an image with batch * channels channels, for which it copies
    what is channels_last there and back: on a CPU half of the time of the whole network in bf16.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises every channel of every image (batch, channels, y, x) by itself."""
        if input.device.type == "cpu":
            normalised: torch.Tensor = _ChannelNorm.apply(input, self.eps)  # type: ignore[no-untyped-call]
            return normalised
        # Of a single channel both layouts are the same memory: the stride says which is meant.
        if input.stride(1) == 1:
            kept: torch.Tensor = KeptLayoutNorm.apply(input, self.eps)  # type: ignore[no-untyped-call]
            return kept
        normalised = super().forward(input)
        _ask_for_contiguous(self, input, normalised)
        return normalised


def mend_gradients(network: torch.nn.Module) -> None:
    """Makes torch's own InstanceNorms of a network compute right gradients.

    On a CPU, torch 2.13 takes a gradient in channels_last for a contiguous one if the batch is a
    single image, and what it hands on is wrong by as much as it is large, without a word. Here the
    gradient is made contiguous first. tests/models/test_instance_norm.py shows both.
    """
    for module in network.modules():
        if type(module) in _TORCHS_NORMS:
            module.register_forward_hook(_ask_for_contiguous)


def _ask_for_contiguous(_: torch.nn.Module, __: Any, normalised: torch.Tensor) -> None:
    if normalised.requires_grad:
        normalised.register_hook(torch.Tensor.contiguous)


def build_unet2d(*, in_channels: int, out_channels: int, depth: int, features: int) -> Any:
    """Builds a U-Net whose output are logits.

    torch_em's checkpoints end in a Sigmoid, which has no weights: the tensors are the same. Here
    the loss and the prediction apply it, in fp32 where logits of bf16 would saturate.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        depth: Number of poolings; the input's sides are multiples of 2 ** depth.
        features: Features of the first level, doubled at every further one.

    Returns:
        A ``torch.nn.Module`` from (batch, in_channels, y, x) to (batch, out_channels, y, x).
    """
    network = build_torch_em_unet2d(in_channels, out_channels, depth, features, activation=None)
    replace_modules(network, torch.nn.InstanceNorm2d, keep_layout)
    return network


def build_torch_em_unet2d(
    in_channels: int, out_channels: int, depth: int, features: int, *, activation: str | None
) -> Any:
    """Builds the U-Net as torch_em has it, of nothing but its own and torch's modules."""
    return torch_em_unets().UNet2d(
        in_channels=in_channels,
        out_channels=out_channels,
        depth=depth,
        initial_features=features,
        final_activation=activation,
    )


def torch_em_unets() -> ModuleType:
    """The module ``torch_em.model.unet``, without the packages that it lies in.

    It takes numpy and torch alone. What those around it import (elf, scikit-learn, timm,
    torch._dynamo) costs a process as long as torch and MLflow together. It gets its full name:
    whoever imports torch_em later finds the same classes.
    """
    with _LOADING:
        if _UNETS not in sys.modules:
            sys.modules[_UNETS] = _load_unets()
        return sys.modules[_UNETS]


def _load_unets() -> ModuleType:
    package = importlib.util.find_spec("torch_em")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("torch_em")
    file = Path(package.origin).with_name("model") / "unet.py"
    spec = importlib.util.spec_from_file_location(_UNETS, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _torchs_norm(norm: InstanceNorm) -> torch.nn.Module:
    return torch.nn.InstanceNorm2d(norm.num_features, eps=norm.eps)


def without_own_kernels(
    network: torch.nn.Module, replace: Callable[[InstanceNorm], torch.nn.Module] = _torchs_norm
) -> torch.nn.Module:
    """A copy of a network whose InstanceNorm other programs know: torch's, or another."""
    plain = copy.deepcopy(network)
    replace_modules(plain, InstanceNorm, replace)
    return plain.eval()


def keep_layout(norm: torch.nn.InstanceNorm2d) -> torch.nn.Module:
    """Our InstanceNorm in place of torch's, both without weights."""
    return InstanceNorm(norm.num_features, eps=norm.eps)


def replace_modules(
    network: torch.nn.Module, kind: type[_Module], replace: Callable[[_Module], torch.nn.Module]
) -> None:
    """Replaces all modules of a kind, and of none derived from it, within all modules."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is kind:
                setattr(module, name, replace(child))
