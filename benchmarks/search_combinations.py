"""Time and memory of the search for the best combination, beside a plain scikit-image loop.

Writes prediction files of two models under eight symmetries, searches them in a process of its own,
then scores a sample of the same combinations one by one as a script would: combine, threshold,
open, label, drop small ones, count. Every score of the sample must be the same. Prints a table;
writes search_combinations.json beside this file.

    PYTHONPATH=src python benchmarks/search_combinations.py [--sections 6] [--sample 24]
"""

import argparse
import json
import multiprocessing
import platform
import resource
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import disk, opening, remove_small_objects

from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import read_prediction, write_predictions
from bench.inference.symmetries import SYMMETRIES
from bench.metrics.instances import match_instances
from bench.metrics.measures import measure_matching, measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import finish_scores, searchable_metrics
from bench.search.candidates import Candidate, Evidence, pixel_curve
from bench.search.map_search import MapSettings
from bench.search.search import SearchResult, SearchSettings, search_combinations

NAMES = tuple(SYMMETRIES)
NOISES = {"a": 0.5, "b": 0.7}
RADII, AREAS = (0, 1, 2, 3), (0, 12, 25, 50, 100, 200, 400)
ENSEMBLES = ("mean", "weighted", "maximum", "vote")
# About 10,000 combinations, and what optimize searches by default.
SEARCHES = {
    "small": SearchSettings(MapSettings("dice", "best_k", ENSEMBLES, 2, 2, 1, 1), 2, (0, 2), AREAS),
    "default": SearchSettings(
        MapSettings("dice", "subsets", ENSEMBLES, 3, 6, 4, 5), 6, RADII, AREAS
    ),
}


def make_files(folder: Path, sections: int, shape: tuple[int, int]) -> None:
    """Writes truths and prediction files: smooth blobs, seen through noise."""
    if (folder / "truth.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    truths, fields = {}, {}
    for number in range(sections):
        field = gaussian_filter(random.normal(size=shape), 8)
        fields[f"s{number}"] = field = field / field.std()
        truths[f"s{number}"] = label(field > 1.3, connectivity=1).astype(np.int32)
    for member, noise in NOISES.items():
        with write_predictions(folder / f"{member}.h5", {}) as file:
            for section, field in fields.items():
                for name in NAMES:
                    blurred = gaussian_filter(random.normal(size=shape), 2)
                    seen = field + noise * blurred / blurred.std()
                    levels = np.round(255 / (1 + np.exp(-4 * (seen - 1.3)))).astype(np.uint8)
                    file.write(section, name, SectionPrediction(levels))
    np.savez(folder / "truth.npz", **truths)


def open_evidence(folder: Path) -> Evidence:
    """The files as the search sees them."""
    truths = np.load(folder / "truth.npz")
    return Evidence(
        sections=tuple(truths),
        members=dict.fromkeys(NOISES, NAMES),
        read=lambda member, section, name: read_prediction(folder / f"{member}.h5", section, name),
        read_truth=lambda section: truths[section],
    )


def search(folder: Path, settings: SearchSettings) -> tuple[SearchResult, float]:
    """Searches; the result and the seconds."""
    evidence = open_evidence(folder)
    plain = {name: Candidate(Blend((name,)), 128, 1, 50, {}) for name in NOISES}
    started = time.perf_counter()
    result = search_combinations(evidence, plain, settings, lambda *_: None)
    return result, time.perf_counter() - started


def run_measured(queue: "multiprocessing.Queue", folder: Path, settings: SearchSettings) -> None:
    """Searches in a new process, the compilation of its code included, and reports."""
    result, seconds = search(folder, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    queue.put((result.combinations, result.candidates, result.histograms, seconds, peak))


def score_plainly(
    evidence: Evidence, blend: Blend, level: int, radius: int, area: int
) -> dict[str, float]:
    """Scores of one combination, from the files, by scikit-image."""
    pixels = matching = None
    for section in evidence.sections:
        truth, levels = evidence.read_truth(section), evidence.blend(blend, section).foreground
        mask = levels >= level
        mask = opening(mask, disk(radius)) if radius else mask
        if area > 1:
            mask = remove_small_objects(mask, max_size=area - 1, connectivity=1)
        labels = label(mask, connectivity=1)
        counted = count_pixels(truth=truth, prediction=labels)
        matched = match_instances(truth=truth, prediction=labels)
        pixels = counted if pixels is None else pixels + counted
        matching = matched if matching is None else matching + matched
    return finish_scores({measure_pixels: pixels, measure_matching: matching}, searchable_metrics())


def check_sample(
    evidence: Evidence, candidates: list[Candidate], histograms: dict, number: int
) -> float:
    """Scores a sample plainly, compares, and returns the seconds of one combination."""
    random = np.random.default_rng(1)
    blends = list(histograms)
    started = time.perf_counter()
    for place in random.choice(len(candidates), number // 2, replace=False):
        each = candidates[place]
        scores = score_plainly(
            evidence, each.blend, each.level, each.opening_radius_px, each.min_area_px
        )
        for name, value in each.scores.items():
            assert abs(value - scores[name]) < 1e-12, (each, name, value, scores[name])
    for place in random.choice(len(blends), number // 2, replace=False):
        level = int(random.integers(1, 256))
        scores = score_plainly(evidence, blends[place], level, 0, 0)
        ours = pixel_curve(histograms[blends[place]], "dice")[level]
        assert abs(ours - scores["dice"]) < 1e-12, (blends[place], level)
    return (time.perf_counter() - started) / (number // 2 * 2)


def main() -> None:
    """Measures a quarter of the pixels and all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/bench_search"))
    parser.add_argument("--sections", type=int, default=6)
    parser.add_argument("--sample", type=int, default=24)
    options = parser.parse_args()
    rows = []
    for shape in ((705, 913), (1410, 1825)):
        folder = options.work / f"{options.sections}x{shape[0]}x{shape[1]}"
        make_files(folder, options.sections, shape)
        for name, settings in SEARCHES.items():
            queue = multiprocessing.get_context("spawn").Queue()
            process = multiprocessing.get_context("spawn").Process(
                target=run_measured, args=(queue, folder, settings)
            )
            process.start()
            combinations, candidates, histograms, seconds, peak = queue.get()
            process.join()
            each = check_sample(open_evidence(folder), candidates, histograms, options.sample)
            row = {
                "section_px": f"{shape[0]} x {shape[1]}",
                "search": name,
                "combinations": combinations,
                "search_s": round(seconds, 1),
                "peak_gb": round(peak, 2),
                "plain_s_per_combination": round(each, 3),
                "plain_s_for_all": round(each * combinations),
                "ratio": round(each * combinations / seconds),
            }
            rows.append(row)
            print(row)
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    content = {"machine": machine, "sections": options.sections, "rows": rows}
    path = Path(__file__).parent / "search_combinations.json"
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
