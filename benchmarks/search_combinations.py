"""The search for the best combination, beside a plain scikit-image loop.

Writes prediction files of two models, of sections and of a volume, and searches them in a process
of its own, reading and compilation included. The peer scores a sample of the same combinations one
by one as a script would: threshold, open, label, drop small ones, count, match; its maps are
combined before, untimed, and its time for all is that of one times their number. Every score of the
sample must be the same.

    PYTHONPATH=src python benchmarks/search_combinations.py [--subjects sections,large]
        [--searches small,default] [--sample 24]
"""

import argparse
import functools
import math
import multiprocessing
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import Line, report
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import ball, disk, opening, remove_small_objects

from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import read_prediction, write_predictions
from bench.inference.symmetries import SYMMETRIES
from bench.metrics.curves import TOP_LEVEL
from bench.metrics.instances import match_instances
from bench.metrics.measures import measure_matching, measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import finish_scores, searchable_metrics
from bench.search.candidates import Candidate, Evidence, pixel_curve
from bench.search.map_search import Histograms, MapSettings
from bench.search.search import SearchResult, SearchSettings, search_combinations

NOISES = {"a": 0.5, "b": 0.7}
RADII, AREAS = (0, 1, 2, 3), (0, 12, 25, 50, 100, 200, 400)
ENSEMBLES = ("mean", "weighted", "maximum", "vote")
# Thresholds and sizes of each model's map; some 10,000 combinations; what optimize searches.
SEARCHES = {
    "thresholds": SearchSettings(
        MapSettings("instance_f1", "none", (), 1, 1, 1, 1), 1, (0,), AREAS
    ),
    "small": SearchSettings(MapSettings("dice", "best_k", ENSEMBLES, 2, 2, 1, 1), 2, (0, 2), AREAS),
    "default": SearchSettings(
        MapSettings("dice", "subsets", ENSEMBLES, 3, 6, 4, 5), 6, RADII, AREAS
    ),
}
# As of the sweep of thresholds by pixels.
GOAL = 50.0
PEER = "scikit-image, one by one"


@dataclass(frozen=True)
class Subject:
    """What is searched on: sections, or volumes of cubic voxels.

    Attributes:
        number: How many.
        shape: Of each.
        names: Symmetries that each model saw it under.
    """

    number: int
    shape: tuple[int, ...]
    names: tuple[str, ...] = tuple(SYMMETRIES)

    @property
    def size(self) -> str:
        """The size as it is written."""
        return f"{self.number} x " + " x ".join(map(str, self.shape))


SUBJECTS = {
    "sections": Subject(6, (705, 913)),
    "large": Subject(6, (1410, 1825)),
    "montage": Subject(1, (7000, 7000), ("identity",)),
    "volume": Subject(1, (64, 512, 512), ("identity",)),
}


def make_files(folder: Path, subject: Subject) -> None:
    """Writes truths and prediction files: smooth blobs, seen through noise."""
    if (folder / "truth.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    truths, fields = {}, {}
    for number in range(subject.number):
        noise = random.standard_normal(subject.shape, dtype=np.float32)
        field = gaussian_filter(noise, 8 if len(subject.shape) == 2 else 4)
        fields[f"s{number}"] = field = field / field.std()
        truths[f"s{number}"] = label(field > 1.3, connectivity=1).astype(np.int32)
    for member, noise_level in NOISES.items():
        with write_predictions(folder / f"{member}.h5", {}) as file:
            for section, field in fields.items():
                for name in subject.names:
                    noise = random.standard_normal(subject.shape, dtype=np.float32)
                    blurred = gaussian_filter(noise, 2)
                    seen = field + noise_level * blurred / blurred.std()
                    levels = np.round(255 / (1 + np.exp(-4 * (seen - 1.3)))).astype(np.uint8)
                    file.write(section, name, SectionPrediction(levels))
    np.savez(folder / "truth.npz", **truths)


def open_evidence(folder: Path, subject: Subject) -> Evidence:
    """The files as the search sees them."""
    truths = dict(np.load(folder / "truth.npz"))
    return Evidence(
        sections=tuple(truths),
        members=dict.fromkeys(NOISES, subject.names),
        read=lambda member, section, name: read_prediction(folder / f"{member}.h5", section, name),
        read_truth=lambda section: truths[section],
        voxel_size_nm=None if len(subject.shape) == 2 else (2.2,) * 3,
    )


def search(folder: Path, subject: Subject, settings: SearchSettings) -> tuple[SearchResult, float]:
    """Searches; the result and the seconds."""
    evidence = open_evidence(folder, subject)
    plain = {name: Candidate(Blend((name,)), 128, 1, 50, {}) for name in NOISES}
    started = time.perf_counter()
    result = search_combinations(evidence, plain, settings, lambda *_: None)
    return result, time.perf_counter() - started


def run_measured(
    queue: "multiprocessing.Queue", folder: Path, subject: Subject, settings: SearchSettings
) -> None:
    """Searches in a new process, the compilation of its code included, and reports."""
    result, seconds = search(folder, subject, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    queue.put((result.combinations, result.candidates, result.histograms, seconds, peak))


def score_plainly(
    evidence: Evidence, maps: list[np.ndarray], level: int, radius: int, area: int
) -> dict[str, float]:
    """Scores of one combination, from the maps of the sections, by scikit-image."""
    pixels = matching = None
    for section, levels in zip(evidence.sections, maps, strict=True):
        truth, mask = evidence.read_truth(section), levels >= level
        if radius:
            mask = opening(mask, disk(radius) if mask.ndim == 2 else ball(radius))
        if area > 1:
            mask = remove_small_objects(mask, max_size=area - 1, connectivity=1)
        labels = label(mask, connectivity=1)
        counted = count_pixels(truth=truth, prediction=labels)
        matched = match_instances(truth=truth, prediction=labels)
        pixels = counted if pixels is None else pixels + counted
        matching = matched if matching is None else matching + matched
    return finish_scores({measure_pixels: pixels, measure_matching: matching}, searchable_metrics())


def check_sample(
    evidence: Evidence, candidates: list[Candidate], histograms: Histograms, number: int
) -> float:
    """Scores a sample plainly, compares, and returns the seconds of one combination."""
    random = np.random.default_rng(1)
    blends = list(histograms)

    @functools.lru_cache(2)
    def combine(blend: Blend) -> list[np.ndarray]:
        return [evidence.blend(blend, section).foreground for section in evidence.sections]

    # What is compiled at its first call is not timed.
    score_plainly(evidence, combine(blends[0]), TOP_LEVEL, 0, 0)
    seconds = 0.0
    for place in random.choice(len(candidates), number // 2, replace=False):
        each = candidates[place]
        maps = combine(each.blend)
        started = time.perf_counter()
        scores = score_plainly(evidence, maps, each.level, each.opening_radius_px, each.min_area_px)
        seconds += time.perf_counter() - started
        for name, value in each.scores.items():
            assert abs(value - scores[name]) < 1e-12, (each, name, value, scores[name])
    for place in random.choice(len(blends), number // 2, replace=number // 2 > len(blends)):
        level = int(random.integers(1, 256))
        maps = combine(blends[place])
        started = time.perf_counter()
        scores = score_plainly(evidence, maps, level, 0, 0)
        seconds += time.perf_counter() - started
        ours = pixel_curve(histograms[blends[place]], "dice")[level]
        assert abs(ours - scores["dice"]) < 1e-12, (blends[place], level)
    return seconds / (number // 2 * 2)


def measure(folder: Path, subject: Subject, name: str, sample: int) -> Line:
    """Searches, and scores the sample."""
    make_files(folder, subject)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run_measured, args=(queue, folder, subject, SEARCHES[name]))
    process.start()
    combinations, candidates, histograms, seconds, peak = queue.get()
    process.join()
    evidence = open_evidence(folder, subject)
    each = check_sample(evidence, candidates, histograms, sample)
    pixels = subject.number * math.prod(subject.shape)
    unit = "pixel" if len(subject.shape) == 2 else "voxel"
    return Line(
        path=f"search, {name}",
        size=f"{subject.size}, {combinations:,} combinations",
        ours_s=seconds,
        peer=f"{PEER}, {sample // 2 * 2} x {combinations / (sample // 2 * 2):.4g}",
        peer_s=each * combinations,
        goal=GOAL,
        agreement=f"every score of {sample // 2 * 2} combinations to 1e-12",
        limit=f"peak memory {peak:.2f} GB, {1e9 * peak / pixels:.0f} bytes a {unit} with all that "
        "is imported",
    )


def main() -> None:
    """Measures subjects under searches: those that `make bench` does, unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/bench_search"))
    parser.add_argument("--subjects", default="montage,volume", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--searches", default="thresholds", help=f"of {', '.join(SEARCHES)}")
    parser.add_argument("--sample", type=int, default=6, help="combinations that the peer scores")
    options = parser.parse_args()
    lines = [
        measure(options.work / f"{subject}", SUBJECTS[subject], name, options.sample)
        for subject in options.subjects.split(",")
        for name in options.searches.split(",")
    ]
    report(__file__, lines)


if __name__ == "__main__":
    main()
