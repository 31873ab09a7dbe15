"""What a network learns to predict, from the annotated instances of a section."""

from collections.abc import Callable

import numpy as np
import torch

from bench.errors import BenchError, unknown_name


def find_boundaries(labels: np.ndarray) -> np.ndarray:
    """Marks the pixels of which one of the four neighbours has another id.

    Both sides of an outline are marked, so it is two pixels wide, towards the background and
    towards a touching instance alike. The border of the section is no boundary: an instance goes
    on beyond it.

    Args:
        labels: Instance ids (y, x), 0 background.

    Returns:
        bool (y, x).

    Examples:
        >>> find_boundaries(np.array([[0, 0, 0, 5, 5, 6, 6, 6]])).astype(int)
        array([[0, 0, 1, 1, 1, 1, 0, 0]])
    """
    boundary = np.zeros(labels.shape, dtype=bool)
    changes = labels[1:] != labels[:-1]
    boundary[1:] |= changes
    boundary[:-1] |= changes
    changes = labels[:, 1:] != labels[:, :-1]
    boundary[:, 1:] |= changes
    boundary[:, :-1] |= changes
    return boundary


# What each output of a network is trained on.
_TARGETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "foreground": lambda labels: labels != 0,
    "boundary": find_boundaries,
}


def make_target(labels: np.ndarray, outputs: tuple[str, ...]) -> np.ndarray:
    """Makes the target of a section.

    For foreground and boundary it is that of torch_em's ``BoundaryTransform`` with
    ``add_binary_target``, which the source models were trained on. Made of the whole section, it
    has no seams where a patch cuts an instance.

    Args:
        labels: Instance ids (y, x), 0 background.
        outputs: Names of the network's outputs, of ``_TARGETS``, foreground first.

    Returns:
        0 or 1, uint8 (channels, y, x).

    Raises:
        BenchError: If an output is unknown, or the first is not the foreground.
    """
    for name in outputs:
        if name not in _TARGETS:
            raise unknown_name("output", name, _TARGETS)
    if outputs[:1] != ("foreground",):
        raise BenchError(
            f"the first output must be foreground, received outputs {outputs}: put it first, the "
            "loss weighs it and instances are cut out of it"
        )
    return np.stack([_TARGETS[name](labels).astype(np.uint8) for name in outputs])


def pack_channels(target: np.ndarray) -> np.ndarray:
    """Makes one channel of several, a bit each: resampled at the nearest pixel it stays exact.

    Args:
        target: 0 or 1, uint8 (channels, y, x), at most 8 channels.

    Returns:
        uint8 (1, y, x).
    """
    return np.packbits(target, axis=0, bitorder="little")


def unpack_channels(packed: torch.Tensor, channels: int) -> torch.Tensor:
    """Makes several channels of one.

    Args:
        packed: What ``pack_channels`` made, of any type, (batch, 1, y, x).
        channels: How many there are.

    Returns:
        0 or 1, float32 (batch, channels, y, x).
    """
    places = torch.arange(channels, dtype=torch.uint8, device=packed.device)[None, :, None, None]
    return (packed.to(torch.uint8) >> places & 1).float()
