"""Fits the two stages of a pixel classifier on pieces of annotated sections."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError
from bench.models.pixels.filters import Maps, context_maps, filter_maps
from bench.models.pixels.pixel_classifier import PixelClassifier
from bench.models.pixels.trees import BoostedTrees, export_trees
from bench.training.pixels.pieces import AROUND, Piece
from bench.words import OurNetworks

# Chosen on the validation sections of EPFL6 (docs/pixel_classifier.md), as is PixelWork.
_RATE, _LEAVES = 0.1, 31
# Trees of a member of the first stage, for each of the second stage.
_FIRST_SHARE = 0.6


@dataclass(frozen=True)
class PixelWork:
    """How much is done.

    Attributes:
        area_px: Pixels of the training sections that are filtered, at most.
        pixels: Pixels that each stage is fitted on.
        trees: Trees of the second stage; a member of the first has fewer.
    """

    area_px: int = 5 * 2**20
    pixels: int = 40_000
    trees: int = 100


# Without minutes, by network. A transformer takes most of the time, and sees less.
USUAL_WORK: dict[str, PixelWork] = {
    OurNetworks.PIXEL_CLASSIFIER: PixelWork(),
    OurNetworks.FOUNDATION_FEATURES: PixelWork(area_px=3 * 2**20),
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted classifier, and how it came about.

    Attributes:
        classifier: Both stages.
        losses: Cross-entropy of the pixels of the second stage after each of its trees.
        importances: By how much the splits by a feature made the second stage's loss smaller, as a
            share of all, by name; the largest first.
    """

    classifier: PixelClassifier
    losses: np.ndarray
    importances: dict[str, float]


@dataclass(frozen=True)
class PixelFeatures:
    """What a classifier's trees see.

    Attributes:
        find_maps: From a normalised image (1, 1, y, x) to its maps.
        assemble: Makes the classifier of the members of the first stage, and the second.
    """

    find_maps: Callable[[torch.Tensor], Maps] = filter_maps
    assemble: Callable[[Sequence[BoostedTrees], BoostedTrees], PixelClassifier] = PixelClassifier


def fit_classifier(
    pieces: Sequence[Piece],
    work: PixelWork,
    seed: int,
    assemble: Callable[[Sequence[BoostedTrees], BoostedTrees], PixelClassifier] = PixelClassifier,
) -> Fitted:
    """Fits both stages.

    A sample has more of the structure than there is; the logits are shifted by how much.

    Args:
        pieces: Pieces, in order of their sections.
        work: How much is done.
        seed: Of the pixels that are drawn.
        assemble: Makes the classifier of both stages.

    Raises:
        BenchError: If pixels of a half are all of the structure, or none.
    """
    random = np.random.default_rng(seed)
    halves = _split_halves(pieces)
    count = -(-work.pixels // len(pieces))
    members = []
    for half in (False, True):
        drawn = [
            piece.draw(2 * count, _columns(rows == half, piece), random)
            for piece, rows in zip(pieces, halves, strict=True)
        ]
        seen = (piece.features(each) for piece, each in zip(pieces, drawn, strict=True))
        fitted = _fit(_join(seen), _truths(pieces, drawn), round(_FIRST_SHARE * work.trees))
        members.append(export_trees(fitted))
    drawn = [piece.draw(count, np.ones_like(piece.truth), random) for piece in pieces]
    contexts = (_find_unseen(*each, members) for each in zip(pieces, halves, strict=True))
    rows, names = [], []
    for piece, chosen, context in zip(pieces, drawn, contexts, strict=True):
        rows.append(piece.features(chosen, context.values()))
        names = [*piece.maps, *context]
    features, truth = _join(rows), _truths(pieces, drawn)
    fitted = _fit(features, truth, work.trees)
    losses = _measure_losses(fitted, features, truth)
    classifier = assemble(members, export_trees(fitted))
    classifier.shift.fill_(_logit(_annotated_share(pieces)) - _logit(float(truth.mean())))
    return Fitted(classifier, losses, _weigh_features(fitted, names))


def _split_halves(pieces: Sequence[Piece]) -> list[np.ndarray]:
    """Whether rows of pieces are of the second half: one cut, with as much structure on each side.

    Neighbours are alike, so a half is a run of sections; the cut may go through one.
    """
    counts = [piece.truth.sum(axis=1) for piece in pieces]
    until = np.cumsum(np.concatenate(counts))
    ends = np.cumsum([len(rows) for rows in counts])[:-1]
    return np.split(until > until[-1] / 2, ends)


def _annotated_share(pieces: Sequence[Piece]) -> float:
    """The share of the structure in what is annotated of pieces."""
    found = sum(int((piece.truth & piece.inside).sum()) for piece in pieces)
    return found / sum(int(piece.inside.sum()) for piece in pieces)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _columns(rows: np.ndarray, piece: Piece) -> np.ndarray:
    """Rows of a piece as a mask of its pixels."""
    return np.broadcast_to(rows[:, None], piece.truth.shape)


def _find_unseen(piece: Piece, second: np.ndarray, members: Sequence[BoostedTrees]) -> Maps:
    """The context of a piece; of each row from the member that was fitted on the other half."""
    rows = np.pad(second, AROUND, mode="edge")
    maps = list(piece.maps.values())
    found = torch.zeros_like(maps[0])
    # A member of the first half is for rows of the second.
    for member, here in zip(members, (rows, ~rows), strict=True):
        if here.any():
            features = torch.stack([each[torch.from_numpy(here)].flatten() for each in maps], dim=1)
            found[torch.from_numpy(here)] = torch.sigmoid(member(features)).reshape(
                -1, found.shape[1]
            )
    return context_maps(found[None, None])


def _join(rows: Sequence[np.ndarray] | Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(rows))


def _truths(pieces: Sequence[Piece], drawn: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([p.truth.flat[each] for p, each in zip(pieces, drawn, strict=True)])


def _fit(features: np.ndarray, truth: np.ndarray, trees: int) -> Any:
    """Boosted trees of scikit-learn."""
    # It takes a second to import, and is only needed where trees are fitted.
    from sklearn.ensemble import HistGradientBoostingClassifier

    if len(truth) == 0 or truth.all() or not truth.any():
        raise BenchError(
            f"a pixel classifier needs pixels of the structure, and others, in both halves of the "
            f"training sections, received {truth.sum()} of {len(truth)} pixels that are of it in "
            "one: annotate more sections"
        )
    return HistGradientBoostingClassifier(
        learning_rate=_RATE,
        max_iter=max(1, trees),
        max_leaf_nodes=_LEAVES,
        early_stopping=False,
        random_state=0,
    ).fit(features, truth)


def _measure_losses(fitted: Any, features: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean cross-entropy after every tree."""
    sign = np.where(truth, -1.0, 1.0)
    stages = fitted.staged_decision_function(features)
    return np.array([np.logaddexp(0, sign * np.ravel(logits)).mean() for logits in stages])


def _weigh_features(fitted: Any, names: Sequence[str]) -> dict[str, float]:
    """The share that splits by each feature have in what all gained, the largest first."""
    gains = np.zeros(len(names))
    for (tree,) in fitted._predictors:
        inner = tree.nodes[tree.nodes["is_leaf"] == 0]
        np.add.at(gains, inner["feature_idx"], inner["gain"])
    shares = gains / max(gains.sum(), np.finfo(float).tiny)
    return {names[n]: float(shares[n]) for n in np.argsort(-shares, kind="stable")}
