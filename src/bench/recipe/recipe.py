"""A recipe: models, how they are combined, and how their output becomes instances.

`evaluate` writes that of one model, `optimize` that of a combination; everybody else reads it.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.files import write_json
from bench.core.hashing import file_sha256, json_sha256
from bench.core.version import PROSE, SINCE, without_prose
from bench.errors import BenchError
from bench.inference.blends import MEAN, Blend
from bench.inference.symmetries import IDENTITY
from bench.metrics.curves import TOP_LEVEL
from bench.postprocess.segmentation import PostprocessSettings
from bench.postprocess.spheres.settings import SphereSettings
from bench.postprocess.watershed import WatershedSettings
from bench.words import NONE

_FORMAT = "synapse-bench-recipe"
_VERSION = 2
# What version 1, which only searches wrote, did not say.
_SINCE_2 = ("segmentation", "origin")
# What only a recipe of volumes says, only one whose vesicles are circles, and only of a model that
# torch does not compute.
_VOLUME, _PLANES, _CIRCLES, _ENGINE = "volume", "planes", "circles", "engine"
_UNSAID = (_VOLUME, _CIRCLES)
RECIPE_FILE = "recipe.json"
# The way of segmentation of a model that is applied as we do; another applies it by its package.
OWN = "own"
_REMEDY = "run the step that wrote it again (evaluate or optimize)"


@dataclass(frozen=True)
class RecipeMember:
    """A model of a recipe.

    Attributes:
        name: What the recipe calls it.
        method: Row of METHODS.
        seed: Seed of its training.
        trained_run: The run that made it; empty for a source as it is.
        source: That source's name; empty otherwise.
        evaluation: The run that predicted its sections; empty where none did.
        weights_sha256: Hash of its checkpoint.
        engine: What computed it, where that was not torch; None says torch.
    """

    name: str
    method: str
    seed: int
    trained_run: str
    source: str
    evaluation: str
    weights_sha256: str
    engine: str | None = dataclasses.field(default=None, metadata=SINCE)


@dataclass(frozen=True)
class VolumeSettings:
    """What a recipe says where whole volumes are segmented.

    Attributes:
        section_nm: Distance of the planes of its dataset, which the smallest size is of.
        spheres: How vesicles become spheres; None leaves the components of the mask.
        planes: The rule by which models of sections are applied along z, y and x and made one
            (``mean``, ``published``); None applies them along z.
    """

    section_nm: float
    spheres: SphereSettings | None = None
    planes: str | None = dataclasses.field(default=None, metadata=SINCE)


@dataclass(frozen=True)
class Recipe:
    """How models become instances, as a file that can be applied; one model as it is by default.

    Attributes:
        structure: What is segmented.
        dataset: Content hash of the dataset that it was evaluated or chosen on.
        pixel_size_nm: Pixel size of that dataset, which radius and area are of; None if unknown.
        rescale: Whether images are resampled to each model's pixel size.
        members: The models.
        level: A pixel is foreground from this level of 255 on.
        opening_radius_px: Radius of the opening.
        min_area_px: Smallest instance kept.
        watershed: How touching instances are separated; None leaves them together.
        ensemble: Row of ENSEMBLES.
        weights: Weight of each model in a mean.
        augmentations: Symmetries that each model is averaged over.
        segmentation: ``own``, or the package that applies the model and finds the instances.
        metric: The metric that it was chosen by; ``none`` where nothing was chosen.
        validation: Its scores on the validation sections; empty where they were not scored.
        test: Its scores on the test sections; empty where they were not scored.
        origin: Where opening and smallest area come from, for people: it changes no result.
        volume: What is done where volumes are segmented as a whole, the smallest area then being
            voxels; None where sections are.
        circles: How vesicles of sections become circles, in place of opening, smallest area and
            watershed; None leaves the components of the mask. Of volumes it is None.
    """

    structure: str
    dataset: str
    pixel_size_nm: float | None
    rescale: bool
    members: tuple[RecipeMember, ...]
    level: int
    opening_radius_px: int
    min_area_px: int
    watershed: WatershedSettings | None
    ensemble: str = MEAN
    weights: tuple[int, ...] = (1,)
    augmentations: tuple[str, ...] = (IDENTITY,)
    segmentation: str = OWN
    metric: str = NONE
    validation: Mapping[str, float] = dataclasses.field(default_factory=dict)
    test: Mapping[str, float] = dataclasses.field(default_factory=dict)
    origin: str = dataclasses.field(default="", metadata=PROSE)
    volume: VolumeSettings | None = None
    circles: SphereSettings | None = dataclasses.field(default=None, metadata=SINCE)

    @property
    def spheres(self) -> SphereSettings | None:
        """How vesicles become spheres, or circles of sections; None where they do not."""
        return self.volume.spheres if self.volume else self.circles

    @property
    def blend(self) -> Blend:
        """Which maps are made one."""
        names = tuple(member.name for member in self.members)
        return Blend(names, self.augmentations, self.ensemble, self.weights)

    @property
    def threshold(self) -> float:
        """The threshold as a probability."""
        return self.level / TOP_LEVEL

    def postprocess(
        self, pixel_size_nm: float | None, sizes: Mapping[str, int] | None = None
    ) -> PostprocessSettings:
        """Opening and smallest area for an image.

        Args:
            pixel_size_nm: The image's pixel size: lengths stay what they are in nm. None, or a
                recipe without one, leaves them in px.
            sizes: Of both, what the user set himself, in px of the image.
        """
        if pixel_size_nm is None or self.pixel_size_nm is None:
            factor = 1.0
        else:
            factor = self.pixel_size_nm / pixel_size_nm
        found = {
            "opening_radius_px": round(self.opening_radius_px * factor),
            "min_area_px": round(self.min_area_px * factor**2),
        }
        return PostprocessSettings(**found | dict(sizes or {}), origin=self.origin)

    def describe(self) -> str:
        """The recipe in one line."""
        parts = [str(self.blend)]
        if self.volume and self.volume.planes:
            parts.append(f"planes along z, y and x ({self.volume.planes})")
        if self.circles:
            found = f"circles ({', '.join(self.circles.stages)})"
            smallest = f"minimum radius {self.circles.min_radius_nm:g} nm"
            parts += [f"threshold {self.threshold:.3f}", found, smallest]
        elif self.spheres:
            parts.append(f"spheres ({', '.join(self.spheres.stages)})")
        else:
            smallest = (
                f"size {self.min_area_px} voxels"
                if self.volume
                else (f"area {self.min_area_px} px")
            )
            parts += [
                f"threshold {self.threshold:.3f}",
                f"opening radius {self.opening_radius_px} px",
                f"minimum {smallest}",
            ]
        if self.watershed:
            parts.append("watershed")
        if self.segmentation != OWN:
            parts.append(f"by {self.segmentation}")
        return ", ".join(parts)

    def hashes(self) -> tuple[str, str]:
        """The hash that it is registered by, and the one of earlier versions.

        Those hashed a file of version 1, prose included.
        """
        said = _without_unsaid(dataclasses.asdict(self))
        said = {n: v for n, v in said.items() if n not in (*_SINCE_2, *_UNSAID)}
        earlier = {"format": _FORMAT, "version": 1, **said}
        return json_sha256(_without_unsaid(without_prose(self))), json_sha256(earlier)


def searched_by(metric: str) -> str:
    """Where the post-processing of a search comes from, one sentence."""
    return f"Searched on validation sections by {metric}."


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values."""
    said = _without_unsaid(dataclasses.asdict(recipe))
    return {"format": _FORMAT, "version": _VERSION, **said}


def _without_unsaid(said: dict[str, Any]) -> dict[str, Any]:
    """A recipe of sections says nothing of volumes, one of planes along z nothing of others.

    Nor does one without circles of these, nor a model that torch computes of its engine. So it was
    before there were any.
    """
    left = {name: value for name, value in said.items() if name not in _UNSAID or value is not None}
    left["members"] = [
        {name: value for name, value in member.items() if name != _ENGINE or value is not None}
        for member in left["members"]
    ]
    if (volume := left.get(_VOLUME)) is not None:
        left[_VOLUME] = {k: v for k, v in volume.items() if k != _PLANES or v is not None}
    return left


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe of this format's version, or of version 1.

    Raises:
        BenchError: If the file is no such recipe.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is not a readable recipe ({error}): {_REMEDY}") from error
    content = content if isinstance(content, dict) else {}
    found, version = content.pop("format", None), content.pop("version", None)
    if found != _FORMAT or version not in (1, _VERSION):
        raise BenchError(
            f"{path} must have format {_FORMAT!r} version 1 or {_VERSION}, received {found!r} "
            f"version {version!r}: {_REMEDY}, or update synapse-bench"
        )
    if version == 1:
        content |= {"segmentation": OWN, "origin": searched_by(content.get("metric", NONE))}
    content = dict.fromkeys(_UNSAID) | content
    wrong = content.keys() ^ {field.name for field in dataclasses.fields(Recipe)}
    try:
        if wrong:
            raise KeyError(*sorted(wrong))
        return _recipe_from_json(content)
    except (KeyError, TypeError) as error:
        raise BenchError(
            f"{path} must say all about a recipe and no more, received a file that does not "
            f"({error}): {_REMEDY}"
        ) from error


def _recipe_from_json(content: dict[str, Any]) -> Recipe:
    watershed, volume, circles = content["watershed"], content[_VOLUME], content[_CIRCLES]
    if volume and volume["spheres"]:
        volume = volume | {"spheres": SphereSettings(**volume["spheres"])}
    return Recipe(
        **content
        | {name: tuple(content[name]) for name in ("weights", "augmentations")}
        | {
            "members": tuple(RecipeMember(**member) for member in content["members"]),
            "watershed": WatershedSettings(**watershed) if watershed else None,
            _VOLUME: VolumeSettings(**volume) if volume else None,
            _CIRCLES: SphereSettings(**circles) if circles else None,
        }
    )


def write_recipe_folder(folder: Path, recipe: Recipe, weights: Sequence[Path]) -> None:
    """Copies the checkpoints of a recipe's models into a new folder, the recipe beside them.

    Raises:
        BenchError: If a checkpoint is not the one that the recipe was found with.
    """
    check_weights(recipe, weights)
    folder.mkdir(parents=True)
    for number, path in enumerate(weights):
        for part in (path, path.with_suffix(".json")):
            shutil.copyfile(part, (folder / member_file(number)).with_suffix(part.suffix))
    write_json(folder / RECIPE_FILE, recipe_to_json(recipe))


def read_recipe_folder(folder: Path) -> tuple[Recipe, tuple[Path, ...]]:
    """Reads a recipe and finds the checkpoints of its models.

    Raises:
        BenchError: If something of it is missing or was changed.
    """
    recipe = read_recipe(folder / RECIPE_FILE)
    weights = tuple(folder / member_file(number) for number in range(len(recipe.members)))
    check_weights(recipe, weights)
    return recipe, weights


def member_file(number: int) -> str:
    """The file with the weights of a recipe's model, by its number, in the recipe's folder."""
    return f"member{number}.safetensors"


def check_weights(recipe: Recipe, weights: Sequence[Path]) -> None:
    """Raises BenchError where a checkpoint is not the one of the recipe's search."""
    for member, path in zip(recipe.members, weights, strict=True):
        found = file_sha256(path) if path.is_file() else "no file"
        if found != member.weights_sha256:
            raise BenchError(
                f"the weights of {member.name} must be those that were searched "
                f"({member.weights_sha256[:12]}), {path} is {found[:12]}: evaluate the model and "
                "optimize again"
            )
