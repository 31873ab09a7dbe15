"""Where a network runs, in which precision, by what, and how its images lie in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.words import TORCH

# torch is imported where something is computed, and not by all that say on what.
if TYPE_CHECKING:
    import torch

# Their names in torch.
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Layouts of images and weights: a channel after the other, or all channels of a pixel together.
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
# What a kind of device is given: networks with InstanceNorm, and all others. On CUDA torch's
# InstanceNorm makes what it is given contiguous, and the next convolution converts it back: with
# that, channels_last took a quarter more time in nnU-Net (pytorch issue 59168). Ours were never
# measured on CUDA: benchmarks/gpu.py does that, and then this table should say what came out.
_LAYOUTS = {"cuda": (CONTIGUOUS, CHANNELS_LAST)}
_OTHER_DEVICES = (CHANNELS_LAST, CHANNELS_LAST)


@dataclass(frozen=True)
class Compute:
    """A device, and how it convolves.

    Attributes:
        device: The device.
        precision: Of its convolutions: fp32, bf16 or fp16.
        layout: CONTIGUOUS or CHANNELS_LAST for every network; None: what is usual on the device.
        engine: ``torch``, or ``openvino`` on a CPU, whose bytes are others.
    """

    device: "torch.device"
    precision: str
    layout: str | None = None
    engine: str = TORCH

    @property
    def dtype(self) -> "torch.dtype":
        """The type of the precision's numbers."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.precision])
        return dtype

    def autocast(self) -> "torch.autocast":
        """The context in which the network is called."""
        import torch

        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.precision != "fp32")

    def memory_format(self, network: "torch.nn.Module", axes: int) -> "torch.memory_format":
        """How a network's weights lie in memory, and what it is given.

        Args:
            network: Its norms decide.
            axes: 4 of images (batch, channels, y, x), 5 of volumes.
        """
        import torch

        if (self.layout or _usual_layout(self.device, network)) == CONTIGUOUS:
            return torch.contiguous_format
        return torch.channels_last if axes == 4 else torch.channels_last_3d

    def place(self, network: "torch.nn.Module") -> None:
        """Moves a network onto the device, its weights in the layout of the images it is given."""
        axes = max((part.ndim for part in network.parameters()), default=0)
        if axes < 4:
            network.to(self.device)
        else:
            layout = self.memory_format(network, axes)
            network.to(self.device, memory_format=layout)  # type: ignore[call-overload]


def _usual_layout(device: "torch.device", network: "torch.nn.Module") -> str:
    import torch

    with_norms, without = _LAYOUTS.get(device.type, _OTHER_DEVICES)
    if with_norms == without:
        return without
    norms = (torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)
    found = any(isinstance(part, norms) for part in network.modules())
    return with_norms if found else without


def choose_compute(device: str, precision: str) -> Compute:
    """Resolves ``auto``: the first GPU, else the CPU; bf16 where it has units for it.

    Raises:
        BenchError: If the device is not there or cannot compute in the precision.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise BenchError(
            f"device must be auto, cpu or a GPU of this machine such as cuda:0, received "
            f"{device!r} ({torch.cuda.device_count()} GPUs found): use device=auto"
        ) from error
    if precision == "auto":
        precision = default_precision(chosen)
    if precision == "fp16" and chosen.type == "cpu":
        raise BenchError("precision fp16 needs a GPU, the device is cpu: use bf16 or fp32")
    return Compute(chosen, precision)


def default_precision(device: "torch.device") -> str:
    """The fastest precision that trains well on a device."""
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    abilities = torch.cpu.get_capabilities()
    return "bf16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else "fp32"


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Computes on so many threads of the CPU, and afterwards on as many as before.

    Args:
        threads: How many; ``None`` leaves them as they are.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
