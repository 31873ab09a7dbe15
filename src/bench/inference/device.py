"""Where a network runs, in which precision, and by what."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.words import TORCH

# torch is imported where something is computed, and not by all that say on what.
if TYPE_CHECKING:
    import torch

# Their names in torch.
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Compute:
    """A device, the precision of its convolutions and what computes them.

    Attributes:
        device: The device.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        engine: ``torch``, or ``openvino`` on a CPU, whose bytes are others.
    """

    device: "torch.device"
    precision: str
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
