"""A quantity of some sections, raw and corrected, with 95 % intervals.

An interval is made of parts, each the deviations of the estimate where something is drawn again:
the sections (or animals) measured, and the held-out sections that the correction was learned on.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

from bench.report.measured.held_out import (
    HeldOut,
    class_of,
    find_factors,
    find_overall,
    sum_classes,
)
from bench.report.measured.quantities import (
    EXTENT,
    Quantity,
    divide,
    object_values,
)
from bench.report.serial import measure_dependence

# From how often each unit is drawn (draws, units) to a quantity (draws,).
_Values = Callable[[np.ndarray], np.ndarray]
_DRAWS = 2000
# Of a quantity that is not defined in more of the draws there is no interval.
_UNDEFINED_SHARE = 0.1
# Fewer held-out sections do not say how far off a corrected one is.
_FEWEST_HELD_OUT = 3


@dataclass(frozen=True, eq=False)
class _Part:
    """What an estimate owes to one kind of draw.

    Attributes:
        deviations: Of the estimate in each draw, widened as few draws vary too little.
        freedom: Degrees of freedom.
    """

    deviations: np.ndarray
    freedom: int

    def minus(self, other: "_Part") -> "_Part":
        """The part of a difference, of estimates that share their draws."""
        return _Part(self.deviations - other.deviations, self.freedom)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity with its interval.

    Attributes:
        value: The quantity; NaN where it is not defined.
        parts: What its interval is made of; empty where too little is drawn from.
    """

    value: float
    parts: tuple[_Part, ...] = ()

    def interval(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """The 95 % interval, within what the quantity can be; NaN where there is none."""
        if not self.parts or not math.isfinite(self.value):
            return math.nan, math.nan
        total = np.sum([part.deviations for part in self.parts], axis=0)
        defined = total[np.isfinite(total)]
        if len(defined) < (1 - _UNDEFINED_SHARE) * len(total):
            return math.nan, math.nan
        stretch = float(stdtrit(self._freedom, 0.975) / ndtri(0.975))
        ends = self.value + stretch * np.percentile(defined, (2.5, 97.5))
        return float(np.clip(ends[0], low, high)), float(np.clip(ends[1], low, high))

    def p_value(self) -> float:
        """Two-sided p that the quantity, a difference, is 0: t test with Welch's freedom."""
        error = math.sqrt(sum(self._variances))
        if not self.parts or not math.isfinite(self.value) or error == 0:
            return math.nan
        return float(2 * stdtr(self._freedom, -abs(self.value) / error))

    @cached_property
    def _variances(self) -> list[float]:
        return [float(np.nanvar(part.deviations)) for part in self.parts]

    @property
    def _freedom(self) -> float:
        """Degrees of freedom of the sum of the parts (Welch and Satterthwaite)."""
        total = sum(self._variances)
        if total == 0:
            return float(min(part.freedom for part in self.parts))
        inverse = sum(
            (variance / total) ** 2 / part.freedom
            for variance, part in zip(self._variances, self.parts, strict=True)
        )
        return 1 / inverse


@dataclass(frozen=True, eq=False)
class Measured:
    """Sections that were measured.

    Attributes:
        names: Of the sections, or volumes.
        tables: Their objects.
        extents: Their areas in µm², or volumes in µm³.
        serial: Whether names tell series of neighbouring sections; volumes are independent.
        clusters: The animal of each, where animals are what is drawn; empty for sections.
    """

    names: tuple[str, ...]
    tables: tuple[pd.DataFrame, ...]
    extents: tuple[float, ...]
    serial: bool
    clusters: tuple[str, ...] = ()

    def take(self, places: Sequence[int]) -> "Measured":
        """Some of the sections, by their numbers."""
        return Measured(
            tuple(self.names[n] for n in places),
            tuple(self.tables[n] for n in places),
            tuple(self.extents[n] for n in places),
            self.serial,
            tuple(self.clusters[n] for n in places) if self.clusters else (),
        )


class Estimator:
    """Estimates one quantity of any sections, as found and corrected."""

    def __init__(
        self, quantity: Quantity, held_out: HeldOut | None, *, by_pairs: bool = True
    ) -> None:
        """Learns the factors.

        Args:
            quantity: The quantity.
            held_out: What the model found where there is annotation; None corrects nothing.
            by_pairs: Whether by the pairs of each class; else by the sums of all objects.
        """
        self.quantity, self._held_out = quantity, held_out
        self._edges = held_out.edges_nm if held_out and by_pairs else np.empty(0)
        self._upper = self._lower = None
        if held_out and not by_pairs:
            self._upper = find_overall(held_out, quantity)
        elif held_out:
            self._upper = find_factors(held_out, quantity)
            self._lower = None if quantity.over else find_factors(held_out, quantity, counted=True)

    def raw(self, measured: Measured) -> Estimate:
        """What was found."""
        ones = np.ones((1, len(self._edges) + 1))
        return self._estimate(measured, ones, ones, ())

    def corrected(self, measured: Measured) -> Estimate:
        """What it stands for; NaN without held-out sections."""
        if self._held_out is None or self._upper is None:
            return Estimate(math.nan)
        count = len(self._held_out.names)
        upper, lower = self._factors(np.ones((1, count)))
        return self._estimate(measured, upper, lower, self._model_parts(measured, upper, lower))

    def by_section(self, measured: Measured) -> pd.DataFrame:
        """Found and corrected value of every section, a row each.

        The interval of a single section carries what corrected held-out sections were off by, each
        by factors of the others: relative to the value, its root mean square times Student's t.

        Returns:
            ``raw``, ``corrected``, ``low`` and ``high``; NaN where they are not defined.
        """
        sums, each = self._sum(measured), np.eye(len(measured.names))
        ones = np.ones((1, len(self._edges) + 1))
        table = pd.DataFrame({"raw": sums.values(each, ones, ones), "corrected": math.nan})
        error = math.nan
        if self._held_out is not None:
            factors = self._factors(np.ones((1, len(self._held_out.names))))
            table["corrected"] = sums.values(each, *factors)
            error = self._section_error(self._held_out)
        half = error * table["corrected"]
        table["low"] = (table["corrected"] - half).clip(lower=0)
        table["high"] = (table["corrected"] + half).clip(upper=self.quantity.high)
        return table

    def weigh_objects(self, objects: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
        """How many objects each found one stands for, and its corrected value.

        Returns:
            (objects,) each; None where nothing is corrected, or the quantity is no mean.
        """
        if self._held_out is None or self._lower is None:
            return None
        every, places = np.ones((1, len(self._held_out.names))), class_of(objects, self._edges)
        upper, lower = (factors[0] for factors in self._factors(every))
        return lower[places], object_values(self.quantity, objects) * divide(upper, lower)[places]

    def _section_error(self, held_out: HeldOut) -> float:
        """Half the 95 % interval of a section over its corrected value; NaN of fewer than three."""
        count = len(held_out.names)
        if count < _FEWEST_HELD_OUT:
            return math.nan
        each, ones = np.eye(count), np.ones((1, len(self._edges) + 1))
        found = Measured(held_out.names, held_out.found, held_out.extents, serial=True)
        truth = replace(found, tables=held_out.truth)
        corrected = self._sum(found).values(each, *self._factors(1 - each))
        off = self._sum(truth).values(each, ones, ones) - corrected
        defined = np.isfinite(off)
        if defined.sum() < _FEWEST_HELD_OUT or not corrected[defined].any():
            return math.nan
        relative = np.sqrt(np.mean(off[defined] ** 2) / np.mean(corrected[defined] ** 2))
        return float(stdtrit(int(defined.sum()) - 1, 0.975) * relative)

    def _factors(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._upper is not None
        upper = self._upper.weigh(weights)
        return upper, upper if self._lower is None else self._lower.weigh(weights)

    def _estimate(
        self,
        measured: Measured,
        upper: np.ndarray,
        lower: np.ndarray,
        model: tuple[_Part, ...] | None,
    ) -> Estimate:
        """The value by factors (1, classes); no interval where the model's part is None."""
        sums = self._sum(measured)
        value = float(sums.values(np.ones((1, len(measured.names))), upper, lower)[0])
        drawn = _draw_sections(measured, lambda weights: sums.values(weights, upper, lower), value)
        if drawn is None or model is None:
            return Estimate(value)
        return Estimate(value, (drawn, *model))

    def _model_parts(
        self, measured: Measured, upper: np.ndarray, lower: np.ndarray
    ) -> tuple[_Part, ...] | None:
        """How the corrected value varies with the held-out sections; None for a single one."""
        assert self._held_out is not None
        sums, every = self._sum(measured), np.ones((1, len(measured.names)))
        value = float(sums.values(every, upper, lower)[0])

        def of_held_out(weights: np.ndarray) -> np.ndarray:
            return sums.values(every, *self._factors(weights))

        part = _draw_again(self._held_out.names, of_held_out, value, serial=measured.serial)
        return None if part is None else (part,)

    def _sum(self, measured: Measured) -> "_Sums":
        classes = len(self._edges) + 1
        upper, counts = [], []
        for table in measured.tables:
            values, places = object_values(self.quantity, table), class_of(table, self._edges)
            upper.append(sum_classes(values, places, classes))
            counts.append(sum_classes(np.isfinite(values).astype(float), places, classes))
        over = None
        if self.quantity.over:
            is_extent = self.quantity.over == EXTENT
            over = np.array(measured.extents) if is_extent else np.ones(len(measured.names))
        return _Sums(np.array(upper), np.array(counts), over)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over objects by section and class, and what they are divided by.

    Attributes:
        upper: (sections, classes).
        counts: (sections, classes) objects that have a value.
        over: (sections,) what is divided by in place of these; None for a mean over objects.
    """

    upper: np.ndarray
    counts: np.ndarray
    over: np.ndarray | None

    def values(self, weights: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The quantity (draws,) for weights of the sections and factors of the classes.

        Args:
            weights: (draws, sections), or one row for all draws.
            upper: (draws, classes) factors of the sum, or one row for all draws.
            lower: The same of the number of objects.
        """
        above = ((weights @ self.upper) * upper).sum(axis=1)
        if self.over is not None:
            below = np.broadcast_to(weights @ self.over, above.shape)
        else:
            below = ((weights @ self.counts) * lower).sum(axis=1)
        return divide(above, below)


def _draw_sections(measured: Measured, values: _Values, value: float) -> _Part | None:
    """How a value varies with the sections, or animals, that were measured; None for one."""
    if not measured.clusters:
        return _draw_again(measured.names, values, value, serial=measured.serial)
    animals = tuple(dict.fromkeys(measured.clusters))
    of_animal = np.array([[c == animal for c in measured.clusters] for animal in animals], float)
    return _draw_again(animals, lambda w: values(w @ of_animal), value, serial=False)


def _draw_again(
    names: Sequence[str], values: _Values, value: float, *, serial: bool
) -> _Part | None:
    """Deviations of a value where its units are drawn with replacement; None for fewer than two.

    Draws of n units vary too little, by sqrt((n - 1) / n); neighbours of a series are alike, which
    shows in what each unit does to the value (the pseudo-values of the jackknife).
    """
    count = len(names)
    if count < 2:
        return None
    # Other units are drawn on their own; the same ones, of two estimates, alike.
    seed = zlib.crc32("\n".join(names).encode())
    deviations = values(_draw_weights(count, seed)) - value
    stretch = math.sqrt(count / (count - 1))
    if serial:
        without = values(np.ones((count, count)) - np.eye(count))
        pseudo = count * value - (count - 1) * without
        if np.isfinite(pseudo).all():
            dependence = measure_dependence(dict(zip(names, pseudo.tolist(), strict=True)))
            stretch *= dependence.stretch if dependence else 1.0
    return _Part(deviations * stretch, count - 1)


@lru_cache(maxsize=32)
def _draw_weights(count: int, seed: int) -> np.ndarray:
    """How often each of so many units is in each draw (draws, units)."""
    random = np.random.default_rng([seed, count])
    return random.multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(float)


def compare_estimates(first: Estimate, second: Estimate) -> Estimate:
    """The first less the second, of other sections; what both owe to the model is one part.

    Args:
        first: Its first part is of its sections, what follows of the held-out ones.
        second: The same.
    """
    value = first.value - second.value
    if not first.parts or not second.parts:
        return Estimate(value)
    apart = (first.parts[0], _Part(-second.parts[0].deviations, second.parts[0].freedom))
    shared = (a.minus(b) for a, b in zip(first.parts[1:], second.parts[1:], strict=True))
    return Estimate(value, (*apart, *shared))
