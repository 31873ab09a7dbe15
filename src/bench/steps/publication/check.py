"""A published folder checked: its files, the content of the data, and the scores, computed anew."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.hashing import file_sha256
from bench.core.names import first_names
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import RECIPE_FILE, Recipe, read_recipe, read_recipe_folder
from bench.recipe.scores import SplitResult
from bench.steps.publication.folder import (
    DATASET_FOLDER,
    RECIPE_FOLDER,
    SCORES_FOLDER,
    SUMS_FILE,
)
from bench.steps.scoring.units import list_units, segment_unit
from bench.words import AUTO

log = logging.getLogger(__name__)

# What a score may differ by where another device, or precision, computed it.
_TOLERANCE = 0.005
_COMPARED = ("dice", "iou", "precision", "recall", "instance_f1")


@dataclass(frozen=True)
class CheckedPublication:
    """What came out.

    Attributes:
        recipe: The recipe of the folder.
        dataset: The data set that was compared; None where none was given.
        differences: Largest difference of a score, by split; of splits that were computed anew.
        skipped: Why scores were not computed anew; empty where they were.
    """

    recipe: Recipe
    dataset: PreparedDataset | None
    differences: Mapping[str, float]
    skipped: str = ""


def check_published(folder: Path, dataset: str, device: str) -> CheckedPublication:
    """Checks a published folder.

    Args:
        folder: The folder.
        dataset: The prepared data set; ``auto`` takes that of the folder, where it has one.
        device: Where the models run.

    Raises:
        BenchError: If it is no such folder, a file was changed, the data are others, or a score
            comes out otherwise.
    """
    _check_sums(folder)
    recipe = read_recipe(folder / RECIPE_FOLDER / RECIPE_FILE)
    data = _open_data(folder, dataset, recipe)
    if data is None:
        return CheckedPublication(recipe, None, {}, "no dataset was given, and the folder has none")
    if recipe.volume is not None:
        return CheckedPublication(
            recipe, data, {}, "it is of volumes: evaluate its weights on the dataset"
        )
    if not list((folder / RECIPE_FOLDER).glob("*.safetensors")):
        return CheckedPublication(recipe, data, {}, "the folder has no weights")
    recipe, weights = read_recipe_folder(folder / RECIPE_FOLDER)
    predictor = RecipePredictor.open(recipe, weights, choose_compute(device, AUTO))
    differences = {
        split: _compare(predictor, data, split, published)
        for split, published in _read_scores(folder).items()
        if published["sections"]
    }
    return CheckedPublication(recipe, data, differences)


def _check_sums(folder: Path) -> None:
    """Raises BenchError unless all files of a folder are those that its checksums name."""
    sums = folder / SUMS_FILE
    if not sums.is_file():
        raise BenchError(
            f"check must be a folder that publish wrote, received {folder} without {SUMS_FILE}: "
            "give that folder"
        )
    changed = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or file_sha256(path) != digest:
            changed.append(name)
    if changed:
        raise BenchError(
            f"files must be as they were published, received others for {first_names(changed)} in "
            f"{folder}: fetch the folder again"
        )


def _open_data(folder: Path, dataset: str, recipe: Recipe) -> PreparedDataset | None:
    place = folder / DATASET_FOLDER if dataset == AUTO else Path(dataset)
    if dataset == AUTO and not place.is_dir():
        return None
    data = PreparedDataset.open(place)
    if not data.is_content(recipe.dataset):
        raise BenchError(
            f"dataset must be that of the publication, content {recipe.dataset[:12]}, received "
            f"{place} of content {data.content_hash[:12]}: prepare the same images with the same "
            "settings"
        )
    data.verify()
    return data


def _read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted((folder / SCORES_FOLDER).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def _compare(
    predictor: RecipePredictor, data: PreparedDataset, split: str, published: Mapping[str, Any]
) -> float:
    """The largest difference of a score of a split, which is computed anew.

    Raises:
        BenchError: If it is more than devices differ by.
    """
    found = _score(predictor, data, split)
    pairs = {
        f"{metric} of {name}": abs(scores[metric] - anew[metric])
        for name, scores, anew in (
            (split, published["pooled"], found.scores()),
            *((n, s, found.sections.get(n, {})) for n, s in published["sections"].items()),
        )
        for metric in _COMPARED
        if metric in scores and metric in anew
    }
    worst = max(pairs, key=lambda name: pairs[name])
    if pairs[worst] > _TOLERANCE:
        raise BenchError(
            f"scores must come out as published, received {worst} that differs by "
            f"{pairs[worst]:.4f}: compare version, device and precision in environment.json and "
            "runs.json"
        )
    return float(pairs[worst])


def _score(predictor: RecipePredictor, data: PreparedDataset, split: str) -> SplitResult:
    recipe = predictor.recipe
    result = SplitResult(pixel_size_nm=data.pixel_size_nm)
    units = list_units(data, split, by_section=True)
    with show_progress(f"scores of {split}") as advance:
        for done, unit in enumerate(units, start=1):
            with tempfile.TemporaryDirectory(prefix="synapse-bench-") as scratch:
                tiles = Path(scratch) / "tiles"
                size = data.pixel_size_nm
                maps = predictor.predict(unit.read_raw(), size, tiles, lambda more: None)
            result.add(
                unit.name,
                truth=unit.read_labels(recipe.structure),
                probability=maps.foreground,
                instances=segment_unit(recipe, unit, maps),
                levels=unit.read_levels(recipe.structure),
            )
            advance(done, len(units), "")
    return result
