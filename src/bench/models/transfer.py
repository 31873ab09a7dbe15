"""Weights of one network as the start of another."""

import logging
from dataclasses import dataclass

import torch

from bench.errors import BenchError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """How many of a network's tensors came from the source.

    Attributes:
        transferred: Tensors whose name and shape were found in the source.
        total: Tensors of the network.
        reinitialised: Names of the others, which keep their random weights.
    """

    transferred: int
    total: int
    reinitialised: tuple[str, ...]


def transfer_weights(network: torch.nn.Module, source: dict[str, torch.Tensor]) -> Transfer:
    """Copies every tensor of the same name and shape into the network, in place.

    A source with another number of outputs differs in ``out_conv.weight`` and ``out_conv.bias``
    only, so 44 of a U-Net's 46 tensors are kept, as in the paper.

    Raises:
        BenchError: If fewer than half of the tensors fit: the source is another network.
    """
    target = network.state_dict()
    fitting = {
        name: source[name]
        for name, tensor in target.items()
        if name in source and source[name].shape == tensor.shape
    }
    result = Transfer(len(fitting), len(target), tuple(sorted(set(target) - set(fitting))))
    if 2 * result.transferred < result.total:
        raise BenchError(
            f"the source must be the same network, only {result.transferred} of {result.total} "
            "tensors fit: choose another source, or set features to the source's"
        )
    network.load_state_dict(fitting, strict=False)
    log.info("transferred %d of %d tensors", result.transferred, result.total)
    return result
