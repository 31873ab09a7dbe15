"""Sections made into instances and files, here or on workers, and what those must know."""

import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from bench.config.running import SegmentConfig
from bench.core.files import locked, write_json, write_whole
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.engines import check_recorded
from bench.inference.resumable import Advance
from bench.ingest.images.planes import Plane
from bench.ingest.stacks import ImageVolume
from bench.models.plugins import plugin_versions, require_plugins
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import RECIPE_FILE, read_recipe, recipe_to_json
from bench.words import AUTO

# What becomes the output, in the unfinished folder.
CONTENT = "content"
HANDOVER, SETTINGS = "handover", "settings.json"


@dataclass(frozen=True, eq=False)
class Work:
    """How sections are segmented, and where what is finished of them is kept.

    Attributes:
        predictor: The models.
        compute: Where they run.
        sizes: Of the post-processing, what the user set himself, in px of the image.
        format: ``tiff``, ``ome_zarr``, ``mrc`` or ``hdf5``.
        folder: The unfinished folder.
    """

    predictor: RecipePredictor
    compute: Compute
    sizes: Mapping[str, int]
    format: str
    folder: Path

    @property
    def content(self) -> Path:
        """The folder of what the user gets."""
        return self.folder / CONTENT

    @property
    def tiles(self) -> Path:
        """The folder that has one of each section's finished tiles and passes."""
        return self.folder / "tiles"

    def part_of(self, image: Plane | ImageVolume) -> Path:
        """The file that has the rows of a section or volume in the tables, once it is finished."""
        return self.folder / "parts" / f"{image.name}.json"


def segment_plane(work: Work, plane: Plane, advance: Advance) -> None:
    """Segments a section, if it is not, and writes its files; its tiles are gone afterwards."""
    # The process of a worker that was lost may still be at it.
    with locked(work.folder / "locks" / plane.name):
        if not work.part_of(plane).exists():
            _write_plane(work, plane, advance)
    shutil.rmtree(work.tiles / plane.name, ignore_errors=True)


def _write_plane(work: Work, plane: Plane, advance: Advance) -> None:
    # Imported late: processes that predict tiles need none of it.
    from bench.recipe.sections import segment_by_recipe
    from bench.steps.serving.files import write_section

    raw, recipe, size_nm = plane.read(), work.predictor.recipe, plane.pixel_size_nm
    prediction = work.predictor.predict(raw, size_nm, work.tiles / plane.name, advance)
    write_section(
        plane,
        raw,
        segment_by_recipe(recipe, prediction, size_nm, lambda: raw, sizes=work.sizes),
        prediction,
        structure=recipe.structure,
        format=work.format,
        content=work.content,
        part=work.part_of(plane),
    )


@dataclass(frozen=True, eq=False)
class _Handover:
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
        "format": work.format,
        "compute": describe_compute(work.compute),
        "device": config.device,
        "pixel_size_nm": config.pixel_size_nm,
        "raw_key": config.raw_key,
        "plugins": plugin_versions(),
    }
    write_json(folder / SETTINGS, settings)


def take_over(folder: Path) -> _Handover:
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
    require_plugins(settings["plugins"])
    compute = choose_compute(settings["device"], AUTO)
    check_device(settings["compute"], describe_compute(compute))
    recipe = read_recipe(given / RECIPE_FILE)
    # What is not here would be computed by torch, beside tiles of OpenVINO.
    for member in recipe.members:
        if member.engine:
            check_recorded(compute, member.engine)
    weights = [given / f"{number}.safetensors" for number in range(settings["models"])]
    work = Work(
        RecipePredictor.open(recipe, weights, compute),
        compute,
        settings["sizes"],
        settings["format"],
        folder,
    )
    return _Handover(work, settings["pixel_size_nm"], settings["raw_key"])


def describe_compute(compute: Compute) -> list[str]:
    """The kind of a device and its precision: a result depends on them."""
    return [compute.device.type, compute.precision]


def check_device(first: list[str], other: list[str]) -> None:
    """Raises BenchError where a worker's device is of another kind."""
    if first != other:
        raise BenchError(
            f"all workers must compute alike, one does on {' in '.join(other)} and another on "
            f"{' in '.join(first)}: leave one kind of machine out"
        )
