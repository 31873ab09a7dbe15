"""Whether ``suspects`` finds errors that were planted in an annotation: the table in docs.

Takes a folder as ``prepare`` reads it, deletes, adds and shifts a tenth of the objects of its train
and val splits (a third each), prepares that, runs the step, and asks where the errors are in its
list. Models learn from the spoiled annotation, as they would from anybody's. A deleted object
counts as found where an object called missing covers half of it, or lies in it by half; one that
was added or shifted where it is itself in the list.

    PYTHONPATH=src python benchmarks/planted_errors.py --input my_data --structure mitochondria \
        --pixel_size_nm 5 --seed 0 --work /tmp/planted
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from measuring import HERE, describe_machine
from scipy import ndimage

FILE = HERE / "planted_errors.json"
FIGURE = HERE.parent / "docs" / "planted_errors.png"
SHARES = (0.05, 0.1, 0.2, 0.3)
KINDS = ("deleted", "added", "shifted")
# A shifted object moves by so much of its diameter.
SHIFT = (0.5, 1.0)
TRIES = 200


@dataclass(frozen=True)
class Error:
    """A planted error: the pixels of the true object, or of the one that was added."""

    kind: str
    section: str
    mask: np.ndarray


def number_objects(mask: np.ndarray) -> np.ndarray:
    """Ids of a mask as prepare makes them."""
    if np.unique(mask).size > 2:
        return mask.astype(np.uint16)
    return ndimage.label(mask)[0].astype(np.uint16)


def move(labels: np.ndarray, mask: np.ndarray, to: np.ndarray) -> np.ndarray | None:
    """A mask moved by rows and columns; None where it would leave the section or touch another."""
    rows, columns = np.nonzero(mask)
    moved = np.zeros_like(mask)
    target = np.stack([rows + to[0], columns + to[1]])
    if (target < 0).any() or (target >= np.array(mask.shape)[:, None]).any():
        return None
    moved[tuple(target)] = True
    near = ndimage.binary_dilation(moved, iterations=2)
    return None if (labels[near] > 0).any() else moved


def plant(
    sections: dict[str, np.ndarray], share: float, random: np.random.Generator
) -> tuple[list[Error], dict[str, str]]:
    """Plants errors into labels in place; returns them, and what became of the rest."""
    objects = [(name, i) for name, ids in sections.items() for i in np.unique(ids[ids > 0])]
    count = round(share * len(objects))
    chosen = [objects[n] for n in random.permutation(len(objects))]
    errors: list[Error] = []
    wanted = [KINDS[n % len(KINDS)] for n in range(count)]
    for kind in wanted:
        while True:
            name, number = chosen.pop()
            labels = sections[name]
            mask = labels == number
            found = plant_one(kind, sections, name, labels, mask, int(number), random)
            if found is not None:
                errors.append(found)
                break
    return errors, {"objects": str(len(objects))}


def plant_one(
    kind: str,
    sections: dict[str, np.ndarray],
    name: str,
    labels: np.ndarray,
    mask: np.ndarray,
    number: int,
    random: np.random.Generator,
) -> Error | None:
    """Plants an error at, or with the shape of, an object; None where there is no room."""
    if kind == "deleted":
        labels[mask] = 0
        return Error(kind, name, mask)
    if kind == "shifted":
        without = np.where(mask, 0, labels)
        diameter = 2 * np.sqrt(mask.sum() / np.pi)
        for _ in range(TRIES):
            angle, length = random.uniform(0, 2 * np.pi), random.uniform(*SHIFT) * diameter
            to = np.rint(length * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            moved = move(without, mask, to)
            if moved is not None and to.any():
                labels[mask] = 0
                labels[moved] = number
                return Error(kind, name, moved)
        return None
    target = list(sections)[random.integers(len(sections))]
    if sections[target].shape != labels.shape:
        return None
    corner = np.argwhere(mask).min(axis=0)
    for _ in range(TRIES):
        to = random.integers(0, mask.shape) - corner
        moved = move(sections[target], mask, to)
        if moved is not None:
            sections[target][moved] = sections[target].max() + 1
            return Error(kind, target, moved)
    return None


def rank_error(error: Error, table: pd.DataFrame, boxes: list[np.ndarray], dataset) -> int:
    """The rank of the first row that shows an error; one behind the last where none does."""
    name = next(n for n in dataset.names if n.endswith(error.section))
    rows = table[table["section"] == name]
    if error.kind == "deleted":
        for _, row in rows[rows["kind"] == "missing"].iterrows():
            found = boxes[row["rank"] - 1]
            y, x = row["top_px"], row["left_px"]
            common = (error.mask[y : y + found.shape[0], x : x + found.shape[1]] & found).sum()
            if common >= 0.5 * min(error.mask.sum(), found.sum()):
                return int(row["rank"])
        return len(table) + 1
    ids = dataset.labels(name)[error.mask]
    number = np.bincount(ids).argmax()
    of_it = rows[rows["id"] == number]
    return int(of_it["rank"].min()) if len(of_it) else len(table) + 1


def main() -> None:
    """Plants, runs, asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", required=True)
    parser.add_argument("--structure", required=True)
    parser.add_argument("--pixel_size_nm", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--every", type=int, default=1, help="Every so many-th section.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=24_000, help="As in PixelWork.")
    parser.add_argument("--trees", type=int, default=60, help="As in PixelWork.")
    parser.add_argument("--method", default="pixel_classifier", help="As in suspects.")
    parser.add_argument("--training", default="none", help="As in suspects.")
    parser.add_argument("--work", required=True)
    options = parser.parse_args()
    work = Path(options.work)
    work.mkdir(parents=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work.absolute()}/mlflow.db"
    write_measurement(measure(options, work))


def measure(options: argparse.Namespace, work: Path) -> dict:
    """All of one setting."""
    import tifffile

    import bench.steps.suspects as step
    from bench.config.advice import SuspectsConfig
    from bench.config.data import PrepareConfig
    from bench.dataset.prepared import PreparedDataset
    from bench.ingest.images.formats import read_plane
    from bench.steps.prepare import prepare
    from bench.steps.training import pixel_classifier
    from bench.training.pixels.fitting import PixelWork

    sections, planted = {}, work / "planted"
    for split in ("train", "val"):
        folder = Path(options.input) / split
        for path in sorted((folder / options.structure).iterdir())[:: options.every]:
            sections[path.stem] = number_objects(read_plane(path, 0))
            target = planted / split / "raw" / f"{path.stem}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(target, read_plane(folder / "raw" / path.name, 0))
    errors, _ = plant(sections, options.share, np.random.default_rng(options.seed))
    for path in sorted(planted.glob("*/raw/*.tif")):
        target = path.parents[1] / options.structure / path.name
        target.parent.mkdir(exist_ok=True)
        tifffile.imwrite(target, sections[path.stem])
    prepare(
        PrepareConfig(
            input=str(planted),
            output=str(work / "prepared"),
            pixel_size_nm=options.pixel_size_nm,
            volumes="false",
        )
    )
    work_done = PixelWork(pixels=options.pixels, trees=options.trees)
    pixel_classifier.PixelWork = lambda: work_done
    listed = []
    rank = step.rank_suspects
    step.rank_suspects = lambda found: listed.append(rank(found)) or listed[-1]
    begun = time.process_time()
    step.suspects(
        SuspectsConfig(
            dataset=str(work / "prepared"),
            structure=options.structure,
            method=options.method,
            training=options.training,
            folds=options.folds,
            device="cpu",
            seed=options.seed,
            output=str(work / "suspects"),
        )
    )
    seconds = time.process_time() - begun
    dataset = PreparedDataset.open(work / "prepared")
    opened = Opened(dataset, options.structure)
    table = pd.read_csv(work / "suspects" / "suspects.csv")
    boxes = [each.mask for each in listed[0]]
    ranks = {k: [rank_error(e, table, boxes, opened) for e in errors if e.kind == k] for k in KINDS}
    every = [each for found in ranks.values() for each in found]
    return {
        "data": Path(options.input).name,
        "structure": options.structure,
        "seed": options.seed,
        "sections": len(sections),
        "objects": sum(int(np.unique(ids[ids > 0]).size) for ids in sections.values()),
        "listed": len(table),
        "errors": len(every),
        "folds": options.folds,
        "method": options.method,
        "training": options.training,
        "pixels": options.pixels,
        "trees": options.trees,
        "cpu_s": round(seconds, 1),
        "found": {str(s): share_within(every, s, len(table)) for s in SHARES},
        "found_of": {k: share_within(found, 0.2, len(table)) for k, found in ranks.items()},
        "machine": describe_machine(),
    }


class Opened:
    """The labels of a prepared dataset."""

    def __init__(self, dataset, structure: str) -> None:
        self._dataset, self._structure = dataset, structure
        self.names = [entry["name"] for entry in dataset.entries]

    def labels(self, name: str) -> np.ndarray:
        """Ids of a section."""
        return self._dataset.read_labels(name, self._structure)


def share_within(ranks: list[int], share: float, rows: int) -> float:
    """Share of the errors in the first share of the list."""
    return round(float(np.mean([rank <= share * rows for rank in ranks])), 3)


def draw(measured: list[dict]) -> Figure:
    """Share of the errors found against the share of the list read, a line for each setting."""
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    axes = figure.subplots()
    for colour, marker, found in zip(("#000000", "#D55E00"), "os", measured, strict=False):
        read = [0.0, *(float(share) for share in found["found"])]
        method = found.get("method", "pixel_classifier")
        label = f"{method}, {found['errors']} errors"
        axes.plot(read, [0, *found["found"].values()], color=colour, marker=marker, label=label)
    axes.plot([0, 0.3], [0, 0.3], color="#888888", ls=":", label="read in any order")
    axes.plot(0.2, 0.8, "x", color="#0072B2", ms=9, mew=2, label="goal")
    axes.set(xlabel="Share of the list that was read", ylabel="Share of the errors found")
    axes.set(xlim=(0, 0.31), ylim=(0, 1.02), title="Errors planted in an annotation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def write_measurement(found: dict) -> None:
    """Adds a measurement to the file, in the place of an earlier one of the same setting."""
    import json

    from bench.core.files import write_json

    kept = json.loads(FILE.read_text()) if FILE.exists() else []
    key = ("data", "structure", "seed", "sections", "folds", "method", "training")
    key = (*key, "pixels", "trees")
    kept = [each for each in kept if any(each.get(k) != found[k] for k in key)]
    write_json(FILE, [*kept, found])
    draw([*kept, found]).savefig(FIGURE, dpi=110)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
