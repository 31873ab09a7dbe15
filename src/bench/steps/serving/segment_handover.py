"""What the workers of a cluster must know of a segmentation, in its unfinished folder.

They read it there, images too, and write there what they finish: they need no tracking store.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from bench.config.running import SegmentConfig
from bench.core.files import write_json, write_whole
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import RECIPE_FILE, read_recipe, recipe_to_json
from bench.steps.serving.work import Work
from bench.words import AUTO

HANDOVER, SETTINGS = "handover", "settings.json"


@dataclass(frozen=True, eq=False)
class Handover:
    """What a worker found.

    Attributes:
        work: How sections are segmented.
        pixel_size_nm: As the user gave it; None where files say it.
        raw_key: Array of raw sections in volumes.
    """

    work: Work
    pixel_size_nm: float | None
    raw_key: str


def hand_over(work: Work, weights: Sequence[Path], config: SegmentConfig) -> None:
    """Writes what workers need, with copies of the weights."""
    folder = work.folder / HANDOVER
    for number, path in enumerate(weights):
        for suffix in (".safetensors", ".json"):
            copy = functools.partial(copyfile, path.with_suffix(suffix))
            write_whole(folder / f"{number}{suffix}", copy)
    write_json(folder / RECIPE_FILE, recipe_to_json(work.predictor.recipe))
    settings = {
        "models": len(weights),
        "sizes": dict(work.sizes),
        "origin": work.origin,
        "format": work.format,
        "compute": describe_compute(work.compute),
        "device": config.device,
        "pixel_size_nm": config.pixel_size_nm,
        "raw_key": config.raw_key,
    }
    write_json(folder / SETTINGS, settings)


def take_over(folder: Path) -> Handover:
    """Reads what was handed over.

    Raises:
        BenchError: If it is not seen from here, or this device is not that of the others.
    """
    given = folder / HANDOVER
    try:
        settings = json.loads((given / SETTINGS).read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(
            f"workers must see the output's folder, {folder} cannot be read ({error.strerror}): "
            "choose an output on storage that all machines share"
        ) from error
    compute = choose_compute(settings["device"], AUTO)
    check_alike(settings["compute"], describe_compute(compute))
    recipe = read_recipe(given / RECIPE_FILE)
    weights = [given / f"{number}.safetensors" for number in range(settings["models"])]
    work = Work(
        RecipePredictor.open(recipe, weights, compute),
        compute,
        settings["sizes"],
        settings["origin"],
        settings["format"],
        folder,
    )
    return Handover(work, settings["pixel_size_nm"], settings["raw_key"])


def describe_compute(compute: Compute) -> list[str]:
    """The kind of a device and its precision: a result depends on them."""
    return [compute.device.type, compute.precision]


def check_alike(first: list[str], other: list[str]) -> None:
    """Raises BenchError where a worker's device is of another kind."""
    if first != other:
        raise BenchError(
            f"all workers must compute alike, one does on {' in '.join(other)} and another on "
            f"{' in '.join(first)}: leave one kind of machine out"
        )
