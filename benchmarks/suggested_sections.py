"""Whether sections that ``suggest`` chooses teach more than random ones: the figure in docs.

A laboratory is simulated that has annotated one section, annotates one more at a time, and trains
again. The section is drawn at random, or chosen as suggest does (``choose_pieces``: disagreement of
three models and novelty). Both begin with the same section. A model is one
stage of the pixel classifier: its filters, trees fitted on 600 pixels of each section; the Dice
of the mean of three is taken over 1,500 random pixels of each test section, at the best threshold.
Labels count until 95 % of the Dice of all sections is there.

    PYTHONPATH=src python benchmarks/suggested_sections.py --input my_data --structure mitochondria
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from measuring import HERE, describe_machine
from sklearn.ensemble import HistGradientBoostingClassifier

from bench.advice.choosing import choose_pieces, measure_disagreement
from bench.advice.pieces import describe_look
from bench.core.files import write_json
from bench.ingest.images.formats import read_plane
from bench.models.pixels.filters import filter_maps
from bench.training.pixels.pieces import Place, make_piece

FILE = HERE / "suggested_sections.json"
FIGURE = HERE.parent / "docs" / "suggested_sections.png"
STRATEGIES = ("random", "suggested")
LEARNED_PX, JUDGED_PX = 600, 1500
TREES, MODELS, SHARE = 20, 3, 0.7


@dataclass(frozen=True)
class Pixels:
    """Drawn pixels of a section: to learn from, and at random; and what it looks like."""

    features: np.ndarray
    truth: np.ndarray
    any_features: np.ndarray
    any_truth: np.ndarray
    look: np.ndarray


def read_pixels(folder: Path, structure: str, every: int) -> list[Pixels]:
    """Draws pixels of every so many-th section of a split."""
    found = []
    random = np.random.default_rng(0)
    for path in sorted((folder / "raw").iterdir())[::every]:
        raw = read_plane(path, 0)
        truth = read_plane(folder / structure / path.name, 0) > 0
        place = Place(0, slice(0, raw.shape[0]), slice(0, raw.shape[1]))
        nothing = np.zeros(raw.shape, dtype=bool)
        piece = make_piece(raw, truth, nothing, place, filter_maps, torch.device("cpu"))
        drawn = piece.draw(LEARNED_PX, np.ones_like(piece.truth), random)
        inside = np.flatnonzero(piece.inside)
        anywhere = random.choice(inside, JUDGED_PX, replace=False)
        found.append(
            Pixels(
                piece.features(drawn),
                piece.truth.flat[drawn],
                piece.features(anywhere),
                piece.truth.flat[anywhere],
                describe_look(raw),
            )
        )
    return found


def fit_models(pool: list[Pixels], labelled: list[int], random: np.random.Generator) -> list:
    """Three models of the labelled sections, each of a part of their pixels."""
    features = np.concatenate([pool[n].features for n in labelled])
    truth = np.concatenate([pool[n].truth for n in labelled])
    models = []
    for _ in range(MODELS):
        rows = random.permutation(len(truth))[: round(SHARE * len(truth))]
        trees = HistGradientBoostingClassifier(
            learning_rate=0.1, max_iter=TREES, max_leaf_nodes=31, early_stopping=False
        )
        models.append(trees.fit(features[rows], truth[rows]))
    return models


def best_dice(models: list, judges: list[Pixels]) -> float:
    """Dice of the mean of models at the threshold that is best."""
    features = np.concatenate([each.any_features for each in judges])
    truth = np.concatenate([each.any_truth for each in judges])
    chance = np.mean([each.predict_proba(features)[:, 1] for each in models], axis=0)
    order = np.argsort(-chance)
    hits = np.cumsum(truth[order])
    return float((2 * hits / (np.arange(1, len(truth) + 1) + truth.sum())).max())


def next_section(
    strategy: str, pool: list[Pixels], labelled: list[int], models: list, random
) -> int:
    """The section that is annotated next."""
    left = [n for n in range(len(pool)) if n not in labelled]
    if strategy == "random":
        return left[random.integers(len(left))]
    disagreements = [0.0] * len(left)
    if strategy == "suggested":
        for place, n in enumerate(left):
            said = [each.predict_proba(pool[n].any_features)[:, 1] for each in models]
            levels = [np.rint(255 * each).astype(np.uint8)[None] for each in said]
            disagreements[place] = float(measure_disagreement(levels).mean())
    looks, known = [pool[n].look for n in left], [pool[n].look for n in labelled]
    return left[choose_pieces(looks, disagreements, known, 1)[0].place]


def simulate(pool: list[Pixels], judges: list[Pixels], repeats: int, most: int) -> dict:
    """All curves: strategy -> repeat -> Dice by number of sections."""
    curves: dict[str, list[list[float]]] = {strategy: [] for strategy in STRATEGIES}
    for repeat in range(repeats):
        first = int(np.random.default_rng(repeat).integers(len(pool)))
        for strategy in STRATEGIES:
            random = np.random.default_rng([repeat, 1])
            labelled, curve = [first], []
            while True:
                models = fit_models(pool, labelled, random)
                curve.append(best_dice(models, judges))
                if len(labelled) == most:
                    break
                labelled.append(next_section(strategy, pool, labelled, models, random))
            curves[strategy].append(curve)
            print(repeat, strategy, np.round(curve, 3), labelled, flush=True)
    return curves


def count_labels(curve: list[float], limit: float) -> int | None:
    """Sections until a Dice is reached; None where it is not."""
    return next((n for n, dice in enumerate(curve, start=1) if dice >= limit), None)


def draw(measured: list[dict]) -> Figure:
    """A panel for each data set: mean of repeats, and each of them thin."""
    figure = Figure(figsize=(5 * len(measured), 3.8), layout="constrained")
    colours = ("#000000", "#D55E00")
    for axes, found in zip(
        figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True
    ):
        for colour, (strategy, curves) in zip(colours, found["curves"].items(), strict=True):
            n = np.arange(1, len(curves[0]) + 1)
            for curve in curves:
                axes.plot(n, curve, color=colour, lw=0.6, alpha=0.35)
            axes.plot(n, np.mean(curves, axis=0), color=colour, lw=2.2, label=strategy)
        axes.axhline(0.95 * found["full"], color="#888888", ls="--", lw=1, label="95 % of all")
        axes.set_title(f"{found['data']}, {found['structure']}")
        axes.set_xlabel("Annotated sections")
        axes.set_ylabel("Dice on test sections")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Simulates one data set and draws all that were."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", required=True)
    parser.add_argument("--structure", required=True)
    parser.add_argument("--pool", default="train")
    parser.add_argument("--judges", default="test")
    parser.add_argument("--every", type=int, default=1, help="Every so many-th of the pool.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, begun = Path(options.input), time.process_time()
    pool = read_pixels(root / options.pool, options.structure, options.every)
    judges = read_pixels(root / options.judges, options.structure, 1)
    everything = fit_models(pool, list(range(len(pool))), np.random.default_rng(0))
    full = best_dice(everything, judges)
    print(f"all {len(pool)} sections: {full:.3f}", flush=True)
    curves = simulate(pool, judges, options.repeats, options.most)
    found = {
        "data": root.name,
        "structure": options.structure,
        "pool": len(pool),
        "judges": len(judges),
        "full": round(full, 4),
        "labels": {
            name: [count_labels(each, 0.95 * full) for each in every]
            for name, every in curves.items()
        },
        "curves": {n: np.round(every, 4).tolist() for n, every in curves.items()},
        "cpu_s": round(time.process_time() - begun, 1),
        "machine": describe_machine(),
    }
    kept = json.loads(FILE.read_text()) if FILE.exists() else []
    same = ("data", "structure")
    kept = [each for each in kept if any(each[key] != found[key] for key in same)]
    write_json(FILE, [*kept, found])
    draw([*kept, found]).savefig(FIGURE, dpi=110)
    print(json.dumps({key: found[key] for key in ("full", "labels", "cpu_s")}))


if __name__ == "__main__":
    main()
