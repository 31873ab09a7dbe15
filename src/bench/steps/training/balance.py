"""Where a trained model draws the line between foreground and background, by validation.

A probability of one half is not where Dice is highest. Of probabilities that are right, the best
limit is half of the Dice that it gives (Lipton et al. 2014): 0.37 where vesicles reach 0.74. A
network is surer than it should be of sections that it has not seen, and people draw outlines of
different widths, so that the best limit of validation may be far lower. Validation sections are few
and often neighbours: where theirs is lower, the limit goes half of the way to it, in log odds. The
bias of the output moves there. What the model gives is then one half at the limit, and all that
comes after it (evaluation, search, segmentation, other programs) is as for any model.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.inference.prediction import foreground_channel
from bench.methods import VALIDATION
from bench.metrics.curves import TOP_LEVEL, ScoreHistogram, histogram_scores
from bench.metrics.overlap import find_open
from bench.metrics.table import HEADLINE
from bench.models.checkpoint import ModelInfo, head_tensors
from bench.models.networks import find_network
from bench.recipe.scores import threshold_level
from bench.search.candidates import pixel_curve

# What a model's description says of it: the level that validation found, and the limit, once moved.
FOUND_LEVEL, MOVED_LIMIT = "limit_level", "limit"
_HALF_LEVEL = threshold_level(0.5)
# What the Dice must gain for the limit to move.
_TOLERANCE = 0.001


def pool_levels(
    sections: Mapping[str, tuple[np.ndarray, np.ndarray]],
    levels: Mapping[str, np.ndarray],
    maps: Iterable[np.ndarray],
) -> ScoreHistogram:
    """Counts the annotated pixels of validation sections by what a model gives them.

    Args:
        sections: Raw and labels (y, x) of each, by name.
        levels: What of them is not annotated, of those of which not all is.
        maps: What the model gives for each, in the same order: uint8 (y, x).
    """
    return functools.reduce(
        operator.add,
        (
            histogram_scores(truth=truth, probability=each, ignored=find_open(levels.get(name)))
            for (name, (_, truth)), each in zip(sections.items(), maps, strict=True)
        ),
    )


def best_level(histogram: ScoreHistogram) -> int:
    """The level, up to one half, that foreground begins at.

    That of the highest Dice, the nearest to one half of those within 0.001 of it. Where it is lower
    than half of that Dice, which right probabilities would have, the middle of both in log odds.

    Args:
        histogram: Pixels of foreground and background by level, of all validation sections.

    Examples:
        >>> foreground, background = np.zeros((2, 256), np.int64)
        >>> foreground[[120, 200]], background[[20, 190]] = (50, 50), (900, 20)
        >>> best_level(ScoreHistogram(foreground, background))
        120
        >>> foreground[120], foreground[10], background[20], background[5] = 0, 50, 0, 900
        >>> best_level(ScoreHistogram(foreground, background))  # 10, and half of 0.91: 116
        40
    """
    dice = pixel_curve(histogram, HEADLINE)[: _HALF_LEVEL + 1]
    # Level 0 is every pixel.
    good = 1 + np.flatnonzero(dice[1:] >= dice[1:].max() - _TOLERANCE)
    level, right = int(good[-1]), TOP_LEVEL * float(dice[good[-1]]) / 2
    if level >= right:
        return level
    odds = math.sqrt(level / (TOP_LEVEL - level) * right / (TOP_LEVEL - right))
    return max(1, round(TOP_LEVEL * odds / (1 + odds)))


def limit_of(level: int) -> float:
    """The probability from which a pixel is stored as of that level: levels are rounded.

    Examples:
        >>> limit_of(128)
        0.5
    """
    return (level - 0.5) / TOP_LEVEL


def check_balance(config: FinetuneConfig, info: ModelInfo) -> None:
    """Raises BenchError where a limit is to be moved of a model that has not one."""
    if config.balance != VALIDATION:
        return
    row = find_network(info.architecture)
    if info.classes or row.dims != 2 or row.trained_by:
        raise BenchError(
            "balance=validation moves the limit of one structure in sections, received a method of "
            f"{'classes' if info.classes else row.name}: give balance=none"
        )
    _find_output_bias(info)


def _find_output_bias(info: ModelInfo) -> str:
    names = [name for name in head_tensors(info) if name.endswith("bias")]
    if len(names) != 1:
        raise BenchError(
            f"balance=validation moves the bias of a network's outputs, {info.architecture} has "
            f"{len(names)}: give balance=none"
        )
    return names[0]


def balance_network(network: torch.nn.Module, info: ModelInfo) -> ModelInfo:
    """Moves the limit of a network to where its validation found it, if it did; once.

    Returns:
        Its description, which says so.
    """
    if FOUND_LEVEL not in info.training or MOVED_LIMIT in info.training:
        return info
    limit = limit_of(info.training[FOUND_LEVEL])
    move_limit(network, info, foreground_channel(info, info.structure), limit)
    return dataclasses.replace(info, training=info.training | {MOVED_LIMIT: limit})


@torch.no_grad()
def move_limit(network: torch.nn.Module, info: ModelInfo, channel: int, limit: float) -> None:
    """Makes a network give one half where it gave ``limit``, in one of its outputs."""
    bias = network.get_parameter(_find_output_bias(info))
    bias[channel] -= float(np.log(limit / (1 - limit)))
