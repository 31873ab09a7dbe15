"""A section under all eight symmetries, beside eight times one pass.

Time of both in turns in one process; the peak of memory in a process of its own each.

    PYTHONPATH=src python benchmarks/augment_predictions.py [--model M --dataset D]
"""

import argparse
import multiprocessing
import resource
from pathlib import Path

import numpy as np
from measuring import Line, report, time_in_turns
from trained_model import Subject, choose_subject, enlarge

from bench.inference.blends import predict_augmented
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.inference.symmetries import IDENTITY, SYMMETRIES

NAMES = tuple(SYMMETRIES)


def predict(model: Path, structure: str, image: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The mean over symmetries as evaluate computes it: maps come one by one."""
    network, _ = open_predictor(model, choose_compute("auto", "auto"), structure)
    total = np.zeros(image.shape, np.uint16)
    for _, found in predict_augmented(network, image, None, names):
        total += found.foreground
    return total


def report_peak(queue: multiprocessing.Queue, *arguments: object) -> None:
    """Predicts and reports the peak of memory, GB."""
    predict(*arguments)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def measure_peak(*arguments: object) -> float:
    """The peak of memory of a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=report_peak, args=(queue, *arguments))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def main() -> None:
    """Measures a section and one of four times its pixels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--work", type=Path, default=Path("data/bench_inference"))
    parser.add_argument("--sides", default="512,1024")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    compute = choose_compute("auto", "auto")
    subject = choose_subject(options.work, compute, options.model, options.dataset)
    report(
        __file__,
        [
            measure_side(subject, enlarge(subject.image, int(side)), options.repeats)
            for side in options.sides.split(",")
        ],
    )


def measure_side(subject: Subject, image: np.ndarray, repeats: int) -> Line:
    """All symmetries beside one, of an image."""
    given = (subject.model, subject.info.structure, image)
    ways = {
        "eight": lambda: predict(*given, NAMES),
        "one": lambda: predict(*given, (IDENTITY,)),
    }
    seconds, found = time_in_turns(ways, repeats=repeats)
    separate = sum(predict(*given, (name,)).astype(int) for name in NAMES)
    assert np.array_equal(separate, found["eight"])
    peaks = [measure_peak(*given, names) for names in (NAMES, (IDENTITY,))]
    return Line(
        path="eight-fold augmentation",
        size=f"{image.shape[0]} x {image.shape[1]}",
        ours_s=seconds["eight"],
        peer="eight times one pass",
        peer_s=8 * seconds["one"],
        goal=1.0,
        agreement="sum of all maps the same as of eight separate passes, bit for bit",
        limit=f"{seconds['eight'] / seconds['one']:.2f} times one pass; peak memory "
        f"{peaks[0]:.2f} GB, of one pass {peaks[1]:.2f} GB",
    )


if __name__ == "__main__":
    main()
