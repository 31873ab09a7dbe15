"""How often 95 % intervals of a mean hold it where neighbouring sections are alike, in simulations.

Scores are drawn with a correlation rho^d of two sections that are d apart in a series, normal ones
and skewed ones near 1 as Dice has, the latter with errors of three seeds; every way to make an
interval is given the same scores. Printed is how often it holds the true mean, and how much wider
it is than that of independent sections (medians); of our test also how often it sees a difference
where there is none.

    PYTHONPATH=src python benchmarks/correlated_sections.py [--repeats 1000]
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from bench.report.intervals import bootstrap_interval
from bench.report.serial import effective_number, measure_dependence
from bench.report.statistics import wilcoxon_signed_rank

SECTIONS = (6, 9, 12, 20, 40)
SERIES = (1, 3)
CORRELATIONS = (0.0, 0.3, 0.6, 0.8)
KINDS = ("normal", "skewed")
SEEDS = 3
Places = list[tuple[str, int]]
Ends = tuple[float, float]
# Correlations of neighbours that the plugged-in one is looked up among.
GRID = np.linspace(0, 0.95, 96)


def lay_out(sections: int, series: int) -> Places:
    """Runs of neighbours, as equal as can be."""
    return [(f"series{n * series // sections}-", n) for n in range(sections)]


def correlate(places: Places, rho: float) -> np.ndarray:
    """The matrix of the correlations."""
    return np.array(
        [
            [float(a == b) or (a[0] == b[0]) * rho ** abs(a[1] - b[1]) for b in places]
            for a in places
        ]
    )


def draw(kind: str, places: Places, rho: float, repeats: int) -> tuple[np.ndarray, float]:
    """Scores (repeats, sections), and their true mean."""
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(correlate(places, rho))
    normal = rng.normal(size=(repeats, len(places))) @ root.T
    if kind == "normal":
        return normal, 0.0
    dice = stats.beta(18, 2)
    errors = rng.normal(0, 0.3 * dice.std(), size=(SEEDS, *normal.shape)).mean(axis=0)
    return dice.ppf(stats.norm.cdf(normal)) + errors, float(dice.mean())


def independent(scores: np.ndarray, places: Places) -> Ends:
    """What takes them as independent."""
    return bootstrap_interval(scores)


def ours(scores: np.ndarray, places: Places) -> Ends:
    """What compare does."""
    return bootstrap_interval(scores, dependence=measure_dependence(name_scores(scores, places)))


def name_scores(scores: np.ndarray, places: Places) -> dict[str, float]:
    """Scores by the names that sections of such places have."""
    return {f"{series}{n}": float(s) for (series, n), s in zip(places, scores, strict=True)}


def plugged_in(scores: np.ndarray, places: Places) -> Ends:
    """Student's t for the effective number at the likeliest correlation, mended for few sections.

    The lag-1 autocorrelation of n values is too low by (1 + 4 rho) / n (Marriott and Pope 1954).
    """
    n, off = len(scores), scores - scores.mean()
    pairs = [i for i in range(1, n) if places[i][0] == places[i - 1][0]]
    found = float(sum(off[i] * off[i - 1] for i in pairs) / (off**2).sum())
    rho = min(max((n * found + 1) / (n - 4), 0.0), 0.95)
    worth = max(effective_number(places, rho), 1.05)
    variance = scores.var(ddof=1) / max((1 - 1 / worth) * n / (n - 1), 0.02)
    half = stats.t.ppf(0.975, max(worth - 1, 1)) * np.sqrt(variance / worth)
    return scores.mean() - half, scores.mean() + half


def blocks(scores: np.ndarray, places: Places) -> Ends:
    """Percentiles of means of moving blocks (Kuensch 1989) of n^(1/3) times 1.5 sections."""
    n = len(scores)
    length = max(1, round(1.5 * n ** (1 / 3)))
    rng = np.random.default_rng(0)
    starts = rng.integers(n - length + 1, size=(500, -(-n // length)))
    chosen = (starts[:, :, None] + np.arange(length)).reshape(500, -1)[:, :n]
    low, high = np.percentile(scores[chosen].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def stationary(scores: np.ndarray, places: Places) -> Ends:
    """Percentiles of means of blocks of random length (Politis and Romano 1994)."""
    n, rng = len(scores), np.random.default_rng(0)
    starts = rng.integers(n, size=(500, n))
    begins = rng.random((500, n)) < 1 / max(1.0, 1.5 * n ** (1 / 3))
    begins[:, 0] = True
    since = np.arange(n) - np.maximum.accumulate(np.where(begins, np.arange(n), 0), axis=1)
    first = np.take_along_axis(starts, np.arange(n) - since, axis=1)
    low, high = np.percentile(scores[(first + since) % n].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


WAYS: dict[str, Callable[[np.ndarray, Places], Ends]] = {
    "independent": independent,
    "moving blocks": blocks,
    "stationary": stationary,
    "plugged in": plugged_in,
    "ours": ours,
}


def false_alarms(drawn: np.ndarray, truth: float, places: Places) -> float:
    """How often our test says that the mean is not the true one, at 0.05."""
    found = 0
    for scores in drawn:
        test = wilcoxon_signed_rank(scores - truth)
        dependence = measure_dependence(name_scores(scores - truth, places))
        found += (dependence.correct_p(test.p) if dependence else test.p) <= 0.05
    return found / len(drawn)


def measure(repeats: int) -> Iterator[str]:
    """Yields a line per cell."""
    yield f"| scores | series | sections | rho | worth | {' | '.join(WAYS)} | test |"
    yield f"|---|---:|---:|---:|---:|{'---:|' * (len(WAYS) + 1)}"
    for kind in KINDS:
        for series in SERIES:
            for sections in SECTIONS:
                for rho in CORRELATIONS:
                    places = lay_out(sections, series)
                    drawn, truth = draw(kind, places, rho, repeats)
                    ends = {
                        name: np.array([way(scores, places) for scores in drawn])
                        for name, way in WAYS.items()
                    }
                    plain = np.ptp(ends["independent"], axis=1)
                    cells = [
                        f"{np.mean((e[:, 0] <= truth) & (truth <= e[:, 1])):.3f} "
                        f"({np.median(np.ptp(e, axis=1) / plain):.2f})"
                        for e in ends.values()
                    ]
                    known = effective_number(places, rho)
                    alarms = false_alarms(drawn, truth, places)
                    yield (
                        f"| {kind} | {series} | {sections} | {rho} | {known:.1f} | "
                        f"{' | '.join(cells)} | {alarms:.3f} |"
                    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    for line in measure(parser.parse_args().repeats):
        print(line, flush=True)


if __name__ == "__main__":
    main()
