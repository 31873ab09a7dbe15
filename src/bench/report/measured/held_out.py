"""What a model finds on held-out sections and what was annotated there: factors by size.

Pairs say which annotated objects those of a size class turn out to be: a share of the found ones is
none (extra objects). All that was annotated of a size, the missed ones included, is shared out to
the found classes as its pairs are. Over the held-out sections, with classes j of found and k of
annotated objects,

    factor_j = sum over k (pairs_jk / pairs_k * sum over all annotated of k) / sum over found j

so that factors bring the sums of the held-out sections themselves back to their annotation.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.measurement.matching import PARTNER
from bench.measurement.objects import DIAMETER
from bench.report.measured.quantities import Quantity, divide, object_values

# Matched objects that a class of sizes has at least, and how many classes there are at most.
_MATCHED_OF_CLASS = 30
_MOST_CLASSES = 4
# Fewer say nothing of what a found object stands for.
FEWEST_MATCHED = 10


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The objects of held-out sections.

    Attributes:
        names: The sections, or volumes.
        truth: Table of the annotated objects of each, with their partners (`match_objects`).
        found: The same of those that the model found.
        extents: Their areas in µm², or volumes in µm³.
        origin: Which evaluation, split and data set, for people.
    """

    names: tuple[str, ...]
    truth: tuple[pd.DataFrame, ...]
    found: tuple[pd.DataFrame, ...]
    extents: tuple[float, ...]
    origin: str

    @property
    def matched(self) -> int:
        """Pairs in all of them."""
        return sum(int((table[PARTNER] > 0).sum()) for table in self.found)

    @cached_property
    def edges_nm(self) -> np.ndarray:
        """Diameters between the classes: those of the matched objects in parts of one size."""
        pairs = [table.loc[table[PARTNER] > 0, DIAMETER] for table in self.truth]
        sizes = np.concatenate([np.asarray(each, float) for each in pairs])
        classes = min(_MOST_CLASSES, max(1, sizes.size // _MATCHED_OF_CLASS))
        parts = np.arange(1, classes) / classes
        return np.unique(np.quantile(sizes, parts)) if sizes.size else sizes

    @cached_property
    def pairs(self) -> tuple["_Pairs", ...]:
        """The classes of the objects of each section, and which found one is which annotated."""
        found = []
        for truth, prediction in zip(self.truth, self.found, strict=True):
            partners = truth[PARTNER].to_numpy()
            matched = np.flatnonzero(partners > 0)
            ids = prediction["id"].to_numpy()
            order = np.argsort(ids)
            places = order[np.searchsorted(ids, partners[matched], sorter=order)]
            true_class, found_class = (
                class_of(each, self.edges_nm) for each in (truth, prediction)
            )
            found.append(_Pairs(true_class, found_class, matched, places))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Classes and pairs of a section: the annotated and the found of each pair by their places."""

    true_class: np.ndarray
    found_class: np.ndarray
    true_place: np.ndarray
    found_place: np.ndarray


@dataclass(frozen=True, eq=False)
class _Factors:
    """What makes factors of a sum over objects, by held-out section (the first axis).

    Attributes:
        found: (sections, classes) the sum over the found objects.
        truth: (sections, classes) that over all annotated ones, by their own class.
        pairs: (sections, classes, classes) pairs, by the class of the found one and of the
            annotated one.
    """

    found: np.ndarray
    truth: np.ndarray
    pairs: np.ndarray

    def weigh(self, weights: np.ndarray) -> np.ndarray:
        """The factor of each class, where sections count as often as they are drawn.

        A class without a sum of its own has the factor of all classes together.

        Args:
            weights: (draws, sections).

        Returns:
            (draws, classes).
        """
        pairs = np.tensordot(weights, self.pairs, axes=1)
        each = np.nan_to_num(divide(weights @ self.truth, pairs.sum(axis=1)))
        standing = (pairs * each[:, None, :]).sum(axis=2)
        found = weights @ self.found
        overall = divide(standing.sum(axis=1), found.sum(axis=1))
        return np.where(found > 0, divide(standing, found), overall[:, None])


def class_of(objects: pd.DataFrame, edges_nm: np.ndarray) -> np.ndarray:
    """The class of every object by its diameter."""
    return np.searchsorted(edges_nm, objects[DIAMETER].to_numpy(float), side="right")


def sum_classes(values: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Sums of values by class; those not defined add nothing."""
    return np.bincount(classes, np.nan_to_num(values), minlength=count)


def find_factors(held_out: HeldOut, quantity: Quantity, *, counted: bool = False) -> _Factors:
    """What makes the factors of a quantity's sum.

    Args:
        held_out: The objects.
        quantity: The quantity.
        counted: Whether of the number of objects that have a value, in place of their sum.
    """
    classes = len(held_out.edges_nm) + 1
    found, truths, pairs = [], [], []
    for truth, prediction, known in zip(
        held_out.truth, held_out.found, held_out.pairs, strict=True
    ):
        true_values, found_values = (
            np.isfinite(values).astype(float) if counted else values
            for values in (object_values(quantity, each) for each in (truth, prediction))
        )
        of_pairs = known.true_class[known.true_place]
        cells = known.found_class[known.found_place] * classes + of_pairs
        found.append(sum_classes(found_values, known.found_class, classes))
        truths.append(sum_classes(true_values, known.true_class, classes))
        pairs.append(np.bincount(cells, minlength=classes**2))
    squares = np.reshape(np.array(pairs, float), (-1, classes, classes))
    return _Factors(np.array(found), np.array(truths), squares)


def find_overall(held_out: HeldOut, quantity: Quantity) -> _Factors:
    """What makes one factor of a quantity's sum: all that was annotated over all that was found.

    It needs no pairs, which networks such as membranes do not have.
    """
    truth, found = (
        np.array([[np.nansum(object_values(quantity, table))] for table in tables])
        for tables in (held_out.truth, held_out.found)
    )
    ones = np.ones_like(truth)
    return _Factors(found, truth, ones[:, :, None])


def describe_classes(held_out: HeldOut) -> pd.DataFrame:
    """What was found and missed in each class of sizes, and the sizes of pairs, a row each."""
    edges = held_out.edges_nm
    truth, found = (pd.concat(tables) for tables in (held_out.truth, held_out.found))
    rows = []
    for number, (low, high) in enumerate(zip([0.0, *edges], [*edges, np.inf], strict=True)):
        of_truth = truth[class_of(truth, edges) == number]
        of_found = found[class_of(found, edges) == number]
        matched = int((of_truth[PARTNER] > 0).sum())
        right = int((of_found[PARTNER] > 0).sum())
        rows.append(
            {
                "from_nm": low,
                "to_nm": high,
                "annotated": len(of_truth),
                "missed": len(of_truth) - matched,
                "found": len(of_found),
                "extra": len(of_found) - right,
            }
        )
    return pd.DataFrame(rows)


def diameter_ratio(held_out: HeldOut) -> float:
    """Mean diameter of found objects over that of their annotated partners; NaN without pairs."""
    found, truth = (
        np.concatenate([each.loc[each[PARTNER] > 0, DIAMETER].to_numpy(float) for each in tables])
        for tables in (held_out.found, held_out.truth)
    )
    return float(found.mean() / truth.mean()) if len(found) else float("nan")
