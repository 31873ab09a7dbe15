"""Matching of instances, beside stardist, elf and panoptica.

Ours matches at ten thresholds of the IoU at once; each peer at one, IoU > 0.5. A peer that needs
more memory than --memory-gb is left out of that size; elf's contingency table, the first step of
its matching, is measured alone too, as it fits where the matching does not.

    PYTHONPATH=src:.peers python benchmarks/instance_matching.py [--input TRUTH PREDICTION]
"""

import argparse
import resource
from collections.abc import Callable
from pathlib import Path

import bioimage_cpp
import numpy as np
from label_images import describe_limit, draw_disks, import_peer, read_image, read_seconds
from measuring import Line, report, time_in_turns

from bench.metrics.instances import Matching, instance_scores, match_instances

SIZES = ((3500, 5000), (7000, 20000))
MOST_REPEATED = 10_000
# Peers count what reaches the threshold, ours what exceeds 0.5; no other IoU lies in between.
THRESHOLD = 0.5 + 1e-7
TABLE = "elf's contingency table alone"
Way = Callable[[np.ndarray, np.ndarray], tuple[float, ...]]


def make_section(side: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Instances, and a prediction: shifted, one in nine missing, one in seven cut in two."""
    truth = draw_disks(side, number, seed=0)
    prediction = np.roll(truth, (3, 4), (0, 1))
    prediction[prediction % 9 == 0] = 0
    rows = np.arange(side)[:, None] // 25 % 2
    prediction += np.where((prediction % 7 == 0) & (rows == 1) & (prediction > 0), number, 0)
    return truth, prediction.astype(np.int32)


def match_by_stardist() -> Way | None:
    """Matches by stardist, without tensorflow."""
    module = import_peer("stardist.matching")
    if module is None:
        return None

    def match(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
        found = module.matching(truth, prediction, thresh=THRESHOLD)
        return int(found.tp), int(found.fp), int(found.fn)

    return match


def match_by_elf() -> Way:
    """Matches by elf, which gives precision, recall and F1."""
    from elf.evaluation import matching

    def match(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
        scores = matching(prediction, truth, threshold=THRESHOLD)
        return scores["precision"], scores["recall"], scores["f1"]

    return match


def match_by_panoptica() -> Way | None:
    """Matches by panoptica's threshold matching with the IoU as the only metric."""
    module = import_peer("panoptica")
    if module is None:
        return None
    from panoptica.metrics import Metric

    evaluator = module.Panoptica_Evaluator(
        expected_input=module.InputType.UNMATCHED_INSTANCE,
        instance_matcher=module.NaiveThresholdMatching(matching_threshold=THRESHOLD),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )

    def match(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
        found = evaluator.evaluate(prediction, truth)["ungrouped"]
        return found.tp, found.fp, found.fn

    return match


def count_table(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, ...]:
    """Overlaps of all pairs of ids as elf counts them: the first step of its matching."""
    table = bioimage_cpp.utils.segmentation_overlap(truth, prediction).overlap_table()
    shared = (table["label_a"] > 0) & (table["label_b"] > 0)
    return int(shared.sum()), int(table["count"][shared].sum())


def within_memory(way: Way, truth: np.ndarray, prediction: np.ndarray) -> Callable[[], object]:
    """The way on two images; None is found where memory does not suffice."""

    def match() -> object:
        try:
            return way(truth, prediction)
        except MemoryError:
            return None

    return match


def check(ours: Matching, found: dict[str, object], images: tuple[np.ndarray, np.ndarray]) -> None:
    """Every peer that came to an end counts as ours does."""
    counts = (ours.true_positive, ours.false_positive, ours.false_negative)
    scores = instance_scores(ours)
    expected: dict[str, tuple] = {
        "stardist": counts,
        "panoptica": counts,
        "elf": tuple(scores[f"instance_{name}"] for name in ("precision", "recall", "f1")),
    }
    for name, value in expected.items():
        if found.get(name) is not None:
            assert np.allclose(found[name], value, rtol=0, atol=1e-9), (name, found[name], value)
    both = int(np.count_nonzero((images[0] > 0) & (images[1] > 0)))
    assert found[TABLE] is None or found[TABLE][1] == both


def measure(
    truth: np.ndarray, prediction: np.ndarray, peers: dict[str, Way], *, repeats: int, cap: str
) -> list[Line]:
    """A line for each peer that fits; the goal is that of the fastest."""
    ways = {"ours": lambda: match_instances(truth=truth, prediction=prediction)}
    ways |= {name: within_memory(way, truth, prediction) for name, way in peers.items()}
    seconds, found = time_in_turns(ways, repeats=repeats, warm_up=repeats > 1)
    ours = found.pop("ours")
    check(ours, found, (truth, prediction))
    fitting = sorted((n for n in found if found[n] is not None), key=lambda n: seconds[n])
    too_large = [name for name in found if found[name] is None]
    fastest = next((name for name in fitting if name != TABLE), TABLE)
    compared = "true and false positives, false negatives at IoU > 0.5 the same"
    if too_large:
        compared += f"; {', '.join(too_large)} left out: more than {cap}"
    size = " x ".join(map(str, truth.shape)) + f", {ours.truth_instances:,} instances"
    limit = describe_limit(seconds["ours"], read_seconds(truth, prediction))
    return [
        Line(
            "instance matching",
            size,
            seconds["ours"],
            name,
            seconds[name],
            10 if name == fastest else None,
            compared if name != TABLE else "pixels in shared pairs the same",
            limit,
        )
        for name in fitting
    ]


def main() -> None:
    """Measures a quarter of the instances and all of them, or a section of the user's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="one where a peer takes long")
    parser.add_argument("--memory-gb", type=float, default=4.5, help="what a peer may take")
    parser.add_argument(
        "--input",
        nargs=2,
        type=Path,
        metavar=("TRUTH", "PREDICTION"),
        help="instance ids: .npy or TIFF of one section each",
    )
    options = parser.parse_args()
    limit = int(options.memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    made = {
        "stardist": match_by_stardist(),
        "elf": match_by_elf(),
        "panoptica": match_by_panoptica(),
        TABLE: count_table,
    }
    peers = {name: way for name, way in made.items() if way is not None}
    lines = []
    for side, number in SIZES if options.input is None else ((0, 0),):
        if options.input is None:
            truth, prediction = make_section(side, number)
        else:
            truth, prediction = map(read_image, options.input)
        repeats = options.repeats if number <= MOST_REPEATED else 1
        cap = f"{options.memory_gb:g} GB"
        lines += measure(truth, prediction, peers, repeats=repeats, cap=cap)
    report(__file__, lines)


if __name__ == "__main__":
    main()
