"""Pixel metrics and the sweep of all thresholds, beside scikit-learn and scikit-image.

The sweep is Dice, precision and recall at 255 thresholds and average precision. A peer does it as a
script would, one threshold after the other: measured at three of them, times 85.

    PYTHONPATH=src python benchmarks/pixel_metrics.py [--repeats 3] [--input TRUTH PROBABILITY]
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from label_images import describe_limit, draw_disks, read_image, read_seconds
from measuring import Line, report, time_in_turns
from skimage.metrics import contingency_table
from sklearn.metrics import jaccard_score, precision_recall_curve, precision_recall_fscore_support

from bench.metrics.curves import TOP_LEVEL, average_precision, histogram_scores, precision_recall
from bench.metrics.overlap import count_pixels
from bench.metrics.table import METRICS
from bench.search.candidates import pixel_curve

SAMPLE = (64, 128, 192)
SIDES_PX = (3500, 7000)
MOST_REPEATED_PX = 1 << 25


def make_section(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Instances, and levels of probability that follow them through noise."""
    truth = draw_disks(side, (side // 50) ** 2, seed=0)
    random = np.random.default_rng(1)
    levels = random.integers(0, 160, truth.shape, dtype=np.uint8)
    levels += np.uint8(96) * (truth != 0)
    return truth, levels


def sweep(truth: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
    """Ours: precision, recall and Dice (3, 256), and average precision."""
    histogram = histogram_scores(truth=truth, probability=levels)
    _, precision, recall = precision_recall(histogram)
    scores = np.stack([precision, recall, pixel_curve(histogram, "dice")])
    return scores, average_precision(histogram)


def score_by_sklearn(truth: np.ndarray, mask: np.ndarray) -> list[float]:
    """Precision, recall and Dice of a mask."""
    scores = precision_recall_fscore_support(
        truth.reshape(-1) != 0, mask.reshape(-1), average="binary", zero_division=0
    )
    return [float(score) for score in scores[:3]]


def score_by_skimage(truth: np.ndarray, mask: np.ndarray) -> list[float]:
    """Precision, recall and Dice of a mask, from its contingency table."""
    table = contingency_table((truth != 0).astype(np.uint8), mask.astype(np.uint8)).toarray()
    both = table[1, 1]
    return [
        both / table[:, 1].sum(),
        both / table[1].sum(),
        2 * both / (table[:, 1].sum() + table[1].sum()),
    ]


def score_by_numpy(truth: np.ndarray, mask: np.ndarray) -> list[float]:
    """Precision, recall and Dice of a mask, as short as one can write it."""
    annotated = truth != 0
    both = np.count_nonzero(annotated & mask)
    true, found = np.count_nonzero(annotated), np.count_nonzero(mask)
    return [both / found, both / true, 2 * both / (true + found)]


def score_sample(
    score: Callable[[np.ndarray, np.ndarray], list[float]], truth: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Precision, recall and Dice at the thresholds of the sample."""
    return np.array([score(truth, levels >= level) for level in SAMPLE]).T


def curve_by_sklearn(truth: np.ndarray, levels: np.ndarray) -> float:
    """Average precision, from the curve of all thresholds by one sort."""
    precision, recall, _ = precision_recall_curve(truth.reshape(-1) != 0, levels.reshape(-1))
    return float(-np.sum(np.diff(recall) * precision[:-1]))


def measure_sweep(truth: np.ndarray, levels: np.ndarray, size: str, repeats: int) -> list[Line]:
    """The sweep beside a loop over thresholds in three libraries, and beside one sort."""
    loops = {
        "scikit-learn precision_recall_fscore_support": score_by_sklearn,
        "scikit-image contingency_table": score_by_skimage,
        "numpy": score_by_numpy,
    }
    ways: dict[str, Callable[[], object]] = {"ours": lambda: sweep(truth, levels)}
    ways |= {name: partial(score_sample, score, truth, levels) for name, score in loops.items()}
    ways["scikit-learn precision_recall_curve"] = lambda: curve_by_sklearn(truth, levels)
    seconds, found = time_in_turns(ways, repeats=repeats, warm_up=repeats > 1)
    scores, average = found.pop("ours")
    by_curve = found.pop("scikit-learn precision_recall_curve")
    for name, sampled in found.items():
        assert np.allclose(scores[:, SAMPLE], sampled, rtol=0, atol=1e-12), name
    assert abs(average - by_curve) < 1e-9, (average, by_curve)
    limit = describe_limit(seconds["ours"], read_seconds(truth, levels))
    compared = f"precision, recall, Dice at thresholds {SAMPLE} to 1e-12"
    goals = {name: None if name == "numpy" else 50.0 for name in loops}
    lines = [
        Line(
            "threshold sweep",
            size,
            seconds["ours"],
            f"{name}, {len(SAMPLE)} thresholds x {TOP_LEVEL // len(SAMPLE)}",
            seconds[name] * TOP_LEVEL / len(SAMPLE),
            goal,
            compared,
            limit,
        )
        for name, goal in goals.items()
    ]
    name = "scikit-learn precision_recall_curve"
    compared = "average precision to 1e-9"
    lines.append(
        Line("threshold sweep", size, seconds["ours"], name, seconds[name], None, compared, limit)
    )
    return lines


def measure_pixels(truth: np.ndarray, mask: np.ndarray, size: str, repeats: int) -> Line:
    """The four scores of one mask."""
    names = ("precision", "recall", "dice", "iou")

    def score_all() -> list[float]:
        counts = count_pixels(truth=truth, prediction=mask)
        return [METRICS[name].finish(counts) for name in names]

    def by_sklearn() -> list[float]:
        scores = score_by_sklearn(truth, mask)
        return [*scores, jaccard_score(truth.reshape(-1) != 0, mask.reshape(-1))]

    ways = {
        "ours": score_all,
        "scikit-learn": by_sklearn,
    }
    seconds, found = time_in_turns(ways, repeats=repeats, warm_up=repeats > 1)
    assert np.allclose(found["ours"], found["scikit-learn"], rtol=0, atol=1e-12)
    return Line(
        "pixel metrics",
        size,
        seconds["ours"],
        "scikit-learn precision_recall_fscore_support, jaccard_score",
        seconds["scikit-learn"],
        50,
        "Dice, IoU, precision, recall to 1e-12",
        describe_limit(seconds["ours"], read_seconds(truth, mask)),
    )


def main() -> None:
    """Measures a quarter of the pixels and all of them, or a section of the user's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="one where a peer takes long")
    parser.add_argument(
        "--input",
        nargs=2,
        type=Path,
        metavar=("TRUTH", "PROBABILITY"),
        help="labels or mask, and uint8 levels: .npy or TIFF of one section each",
    )
    options = parser.parse_args()
    lines = []
    for side in SIDES_PX if options.input is None else (0,):
        if options.input is None:
            truth, levels = make_section(side)
        else:
            truth, levels = map(read_image, options.input)
        repeats = options.repeats if truth.size < MOST_REPEATED_PX else 1
        size = " x ".join(map(str, truth.shape))
        lines.append(measure_pixels(truth, levels >= SAMPLE[1], size, repeats))
        lines += measure_sweep(truth, levels, size, repeats)
    report(__file__, lines)


if __name__ == "__main__":
    main()
