"""Boosted trees as tensors: what scikit-learn fitted, without scikit-learn and without a pickle."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch

# Pixels that go down one tree before the next: their features and its nodes stay in the cache.
_BLOCK = 256
_LEAF = -1
# The sizes by which empty trees are made, to be filled by load_state_dict: trees and nodes.
Size = tuple[int, int]


class BoostedTrees(torch.nn.Module):
    """Trees whose answers are added up to a logit.

    Attributes:
        roots: The first node of every tree.
        feature: What a node asks of, by its column; -1 of a leaf.
        threshold: A pixel whose feature is larger goes to the second child.
        child: The first child of a node; the second is the next.
        value: What a leaf adds.
        start: The logit before all trees.
    """

    roots: torch.Tensor
    feature: torch.Tensor
    threshold: torch.Tensor
    child: torch.Tensor
    value: torch.Tensor
    start: torch.Tensor

    def __init__(self, size: Size) -> None:
        """Makes room for so many trees and nodes.

        Raises:
            ValueError: If the numbers are no sizes.
        """
        super().__init__()
        trees, nodes = size
        if not 0 <= trees <= nodes:
            raise ValueError(f"every tree must have a node, received {trees} trees, {nodes} nodes")
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int32))
        self.register_buffer("feature", torch.full((nodes,), _LEAF, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("child", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(nodes))
        self.register_buffer("start", torch.zeros(()))

    @property
    def size(self) -> Size:
        """How many trees and nodes there are."""
        return len(self.roots), len(self.feature)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (pixels) of features (pixels, features); computed on the CPU."""
        rows = np.ascontiguousarray(features.float().cpu().numpy())
        roots, feature, threshold, child, value = (
            getattr(self, name).cpu().numpy()
            for name in ("roots", "feature", "threshold", "child", "value")
        )
        # A leaf asks what is always answered by itself, so that pixels go down together.
        leaf, places = feature == _LEAF, np.arange(len(feature), dtype=np.int32)
        feature = np.where(leaf, np.int32(0), feature)
        threshold = np.where(leaf, np.float32(np.inf), threshold)
        child = np.where(leaf, places, child)
        logits = np.full(len(rows), float(self.start), dtype=np.float32)
        add = functools.partial(_add_trees, roots, feature, threshold, child, value)
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            parts = (np.array_split(each, threads) for each in (rows, logits))
            list(pool.map(add, *parts))
        return torch.from_numpy(logits).to(features.device)


class PortableTrees(torch.nn.Module):
    """The same trees in operations that TorchScript has, for other programs."""

    def __init__(self, trees: BoostedTrees) -> None:
        """Takes over trees."""
        super().__init__()
        for name, tensor in trees.named_buffers():
            self.register_buffer(name, tensor if tensor.is_floating_point() else tensor.long())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (pixels) of features (pixels, features)."""
        answer: Any = torch.jit.script(_answer)
        return torch.as_tensor(answer(features.float(), *self.buffers()))


def export_trees(fitted: Any) -> BoostedTrees:
    """Makes tensors of a HistGradientBoostingClassifier of two classes and numbers, none missing.

    Thresholds are rounded down to the next number of single precision, which sends single precision
    features the same way. Children become neighbours.
    """
    predictors = [tree for (tree,) in fitted._predictors]
    trees = BoostedTrees((len(predictors), sum(len(tree.nodes) for tree in predictors)))
    first = 0
    for number, tree in enumerate(predictors):
        nodes, order = tree.nodes, _breadth_first(tree.nodes)
        place = np.empty(len(nodes), dtype=np.int64)
        place[order] = first + np.arange(len(nodes))
        inner = nodes["is_leaf"][order] == 0
        kept = slice(first, first + len(nodes))
        columns = np.where(inner, nodes["feature_idx"][order], _LEAF)
        children = np.where(inner, place[nodes["left"][order]], 0)
        trees.roots[number] = first
        trees.feature[kept] = torch.from_numpy(columns.astype(np.int32))
        trees.child[kept] = torch.from_numpy(children.astype(np.int32))
        trees.threshold[kept] = torch.from_numpy(_round_down(nodes["num_threshold"][order]))
        trees.value[kept] = torch.from_numpy(nodes["value"][order].astype(np.float32))
        first += len(nodes)
    trees.start.fill_(float(fitted._baseline_prediction.item()))
    return trees


def _breadth_first(nodes: np.ndarray) -> np.ndarray:
    """The nodes of a tree level after level, so that two children are neighbours."""
    order, done = [0], 0
    while done < len(order):
        node = nodes[order[done]]
        if not node["is_leaf"]:
            order += [int(node["left"]), int(node["right"])]
        done += 1
    return np.array(order)


def _round_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest numbers of single precision that are no larger."""
    single = thresholds.astype(np.float32)
    return np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single)


@numba.njit(cache=True, nogil=True)
def _add_trees(
    roots: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    child: np.ndarray,
    value: np.ndarray,
    rows: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Adds what all trees say of rows (pixels, features) to their logits, in place.

    Four pixels go down a tree together: while one waits for memory, the others go on, and no branch
    is guessed but whether all have come to a leaf. One by one took 1.8 times as long.
    """
    for first in range(0, len(rows), _BLOCK):
        end = min(first + _BLOCK, len(rows))
        whole = end - (end - first) % 4
        for root in roots:
            for pixel in range(first, whole, 4):
                a = b = c = d = root
                while True:
                    next_a = child[a] + np.int32(rows[pixel, feature[a]] > threshold[a])
                    next_b = child[b] + np.int32(rows[pixel + 1, feature[b]] > threshold[b])
                    next_c = child[c] + np.int32(rows[pixel + 2, feature[c]] > threshold[c])
                    next_d = child[d] + np.int32(rows[pixel + 3, feature[d]] > threshold[d])
                    if (next_a ^ a) | (next_b ^ b) | (next_c ^ c) | (next_d ^ d) == 0:
                        break
                    a, b, c, d = next_a, next_b, next_c, next_d
                logits[pixel] += value[a]
                logits[pixel + 1] += value[b]
                logits[pixel + 2] += value[c]
                logits[pixel + 3] += value[d]
            for pixel in range(whole, end):
                a = root
                while True:
                    next_a = child[a] + np.int32(rows[pixel, feature[a]] > threshold[a])
                    if next_a == a:
                        break
                    a = next_a
                logits[pixel] += value[a]


def _answer(
    rows: torch.Tensor,
    roots: torch.Tensor,
    feature: torch.Tensor,
    threshold: torch.Tensor,
    child: torch.Tensor,
    value: torch.Tensor,
    start: torch.Tensor,
) -> torch.Tensor:
    """What _add_trees computes, in the subset that TorchScript takes.

    From the last node to the first, for all pixels at once: what a node says is what one of its
    children says, which come after it.
    """
    columns = rows.t().contiguous()
    first: list[int] = roots.tolist()
    asked: list[int] = feature.tolist()
    limits: list[float] = threshold.tolist()
    below: list[int] = child.tolist()
    logits = start.expand(rows.size(0)).clone()
    first.append(len(asked))
    for tree in range(len(first) - 1):
        said = [value[node] for node in range(first[tree], first[tree + 1])]
        for place in range(len(said) - 1, -1, -1):
            node = first[tree] + place
            if asked[node] >= 0:
                left = below[node] - first[tree]
                larger = columns[asked[node]] > limits[node]
                said[place] = torch.where(larger, said[left + 1], said[left])
        logits += said[0]
    return logits
