"""What a network learns to predict, from the annotated instances of a section."""

from collections.abc import Callable

import numpy as np
import torch

from bench.errors import BenchError, unknown_name
from bench.words import BACKGROUND


def find_boundaries(labels: np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
    """Marks the pixels of which one of the four neighbours has another id.

    Both sides of an outline are marked, so it is two pixels wide, towards the background and
    towards a touching instance alike. The border of the section is no boundary: an instance goes
    on beyond it.

    Args:
        labels: Instance ids (y, x), 0 background.
        ignored: Where nobody annotated, bool (y, x), which ends nothing: as the section's border.

    Returns:
        bool (y, x).

    Examples:
        >>> find_boundaries(np.array([[0, 0, 0, 5, 5, 6, 6, 6]])).astype(int)
        array([[0, 0, 1, 1, 1, 1, 0, 0]])
    """
    boundary = np.zeros(labels.shape, dtype=bool)
    known = None if ignored is None else ~ignored
    changes = labels[1:] != labels[:-1]
    if known is not None:
        changes &= known[1:] & known[:-1]
    boundary[1:] |= changes
    boundary[:-1] |= changes
    changes = labels[:, 1:] != labels[:, :-1]
    if known is not None:
        changes &= known[:, 1:] & known[:, :-1]
    boundary[:, 1:] |= changes
    boundary[:, :-1] |= changes
    return boundary


# The class of a pixel that nobody annotated: none.
_NO_CLASS = np.uint8(255)

# What each output of a network is trained on.
_TARGETS: dict[str, Callable[[np.ndarray, np.ndarray | None], np.ndarray]] = {
    "foreground": lambda labels, ignored: labels != 0,
    "boundary": find_boundaries,
}


def make_target(
    labels: np.ndarray, outputs: tuple[str, ...], ignored: np.ndarray | None = None
) -> np.ndarray:
    """Makes the target of a section.

    For foreground and boundary it is that of torch_em's ``BoundaryTransform`` with
    ``add_binary_target``, which the source models were trained on. Made of the whole section, it
    has no seams where a patch cuts an instance.

    Args:
        labels: Instance ids (y, x), 0 background.
        outputs: Names of the network's outputs, of ``_TARGETS``, foreground first.
        ignored: Where nobody annotated, bool (y, x); what the target is there says nothing.

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
    return np.stack([_TARGETS[name](labels, ignored).astype(np.uint8) for name in outputs])


def make_classes(labels: np.ndarray) -> np.ndarray:
    """Makes the class of every pixel, of the annotated instances of several structures.

    A pixel that is annotated as two of them, as the membrane of a mitochondrion, is of the first.

    Args:
        labels: Instance ids (structures, ..), 0 background.

    Returns:
        uint8 (..): 0 background, k the k-th structure.

    Examples:
        >>> make_classes(np.array([[[7, 7, 0, 0]], [[0, 1, 1, 0]]]))
        array([[1, 1, 2, 0]], dtype=uint8)
    """
    classes = np.zeros(labels.shape[1:], np.uint8)
    for number in range(len(labels), 0, -1):
        classes[labels[number - 1] != 0] = number
    return classes


def pack_target(
    labels: np.ndarray, outputs: tuple[str, ...], ignored: np.ndarray | None = None
) -> np.ndarray:
    """Makes the target of a section as one channel, which ``unpack_target`` makes several again.

    Args:
        labels: Instance ids (y, x); of classes (structures, y, x).
        outputs: Names of the network's outputs: of classes, the background first.
        ignored: Where nobody annotated, bool (y, x): there a pixel is of no class, and what is no
            class has a channel more, as ``_add_sure`` adds it.

    Returns:
        uint8 (1, y, x), which stays exact where it is resampled at the nearest pixel.

    Raises:
        BenchError: If an output is unknown, or the first is neither foreground nor background.
    """
    if outputs[:1] == (BACKGROUND,):
        classes = make_classes(labels)[None]
        return classes if ignored is None else np.where(ignored, _NO_CLASS, classes)
    packed = pack_channels(make_target(labels, outputs, ignored))
    return packed if ignored is None else _add_sure(packed, ignored, len(outputs))


def unpack_target(packed: torch.Tensor, outputs: tuple[str, ...]) -> torch.Tensor:
    """Makes 0 or 1, float32 (batch, channels, y, x), of what ``pack_target`` made."""
    if outputs[:1] == (BACKGROUND,):
        numbers = torch.arange(len(outputs), dtype=torch.uint8, device=packed.device)
        return (packed.to(torch.uint8) == numbers[None, :, None, None]).float()
    return unpack_channels(packed, len(outputs))


def pack_channels(target: np.ndarray) -> np.ndarray:
    """Makes one channel of several, a bit each: resampled at the nearest pixel it stays exact.

    Args:
        target: 0 or 1, uint8 (channels, y, x), at most 8 channels.

    Returns:
        uint8 (1, y, x).
    """
    return np.packbits(target, axis=0, bitorder="little")


def _add_sure(packed: np.ndarray, unsure: np.ndarray, channels: int) -> np.ndarray:
    """Adds a channel that is 1 where a section is sure to what ``pack_channels`` made.

    Args:
        packed: uint8 (1, y, x).
        unsure: Where nobody is sure, bool (y, x).
        channels: How many channels there are, at most 7.
    """
    sure: np.ndarray = np.left_shift((~unsure[None]).astype(np.uint8), channels)
    return np.asarray(packed | sure)


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
