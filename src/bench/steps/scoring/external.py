"""A model on other data than it was trained on: by the recipe of its own, which is left alone.

Nothing of the other data is looked at: threshold, opening, smallest area and what separates
instances are those of the model's evaluation on its own data, lengths in nm.
"""

import dataclasses
from dataclasses import dataclass

from bench.config.scoring import EvaluateConfig
from bench.config.settings import typed_settings
from bench.dataset.prepared import SPLITS, PreparedDataset
from bench.dataset.shared_sections import find_shared_section
from bench.errors import BenchError
from bench.models.checkpoint import ModelInfo
from bench.recipe.recipe import Recipe
from bench.steps.scoring.evaluation_subject import Subject
from bench.steps.scoring.recipes import read_evaluated
from bench.steps.scoring.units import Unit, list_units
from bench.tracking.datasets import UsedDataset, find_used_dataset
from bench.tracking.evaluations import Evaluation, find_evaluation_of
from bench.tracking.queries import read_settings
from bench.tracking.store import Store

# Settings that say how instances are made, which the model's own data decided.
_OF_THE_RECIPE = (
    *("threshold", "scored", "spheres", "planes", "separation", "segmentation", "rescale"),
    *("opening_radius_px", "min_area_px"),
)


@dataclass(frozen=True)
class HomeRecipe:
    """What a model brings to data that it was not trained on.

    Attributes:
        dataset: Name and content hash of what it was trained on.
        evaluation: Its evaluation there, whose recipe is taken.
        recipe: That recipe, its sizes in pixels of the model's own data.
    """

    dataset: str
    evaluation: str
    recipe: Recipe


def find_home_recipe(
    config: EvaluateConfig, dataset: PreparedDataset, subject: Subject, store: Store
) -> HomeRecipe | None:
    """Finds what a model brings along; None where the data is its own, or it is a source.

    Raises:
        BenchError: If it was not evaluated on its own data, settings contradict that evaluation,
            the pixel size of the other data alone is unknown, or the model saw its sections.
    """
    if not subject.run_id or subject.cell.dataset == dataset.content_hash:
        return None
    own = _find_own_evaluation(config, subject, store)
    _check_settings(config, own, store)
    recipe = read_evaluated(own, store)
    check_pixel_size(dataset, recipe.pixel_size_nm)
    used = find_used_dataset(store, subject.run_id)
    if found := _open_own(used, subject):
        check_unseen(found, dataset, config.split)
    name = used.name if used else "dataset"
    recipe = dataclasses.replace(recipe, members=(subject.member,), validation={}, test={})
    return HomeRecipe(f"{name}@{subject.cell.dataset}", own.id, recipe)


def _find_own_evaluation(config: EvaluateConfig, subject: Subject, store: Store) -> Evaluation:
    how = {"protocol": config.protocol, "augmentations": config.augmentations}
    own = find_evaluation_of(store, subject.run_id, subject.cell.structure, **how)
    if own is None:
        said = ", ".join(f"{name}={value}" for name, value in how.items())
        raise BenchError(
            "other data is segmented as the model's own, which decides threshold and sizes, run "
            f"{subject.run_id} has no evaluation there with {said}: evaluate it on the dataset "
            "that it was trained on first"
        )
    return own


def _check_settings(config: EvaluateConfig, own: Evaluation, store: Store) -> None:
    """Raises BenchError where a setting that was typed is not that of the model's own data."""
    said = read_settings(store, own.id)
    for name, value in typed_settings(config).items():
        if name in _OF_THE_RECIPE and said.get(name) != str(value):
            raise BenchError(
                f"other data is segmented as the model's own, there with {name}={said.get(name)} "
                f"(run {own.id}), received {name}={value}: leave it out, or evaluate the model "
                "with it on its own data first"
            )


def check_pixel_size(dataset: PreparedDataset, own_nm: float | None) -> None:
    """Raises BenchError where the pixel size of other data is unknown, and of the model's is not.

    Args:
        dataset: The other data.
        own_nm: Pixel size of the model's own data.
    """
    if own_nm is not None and dataset.pixel_size_nm is None:
        raise BenchError(
            f"other data must have a pixel size where the model's own has one ({own_nm:g} nm), "
            f"received {dataset.root} without: prepare it with -P pixel_size_nm=..."
        )


def check_unseen(own: PreparedDataset, other: PreparedDataset, split: str) -> None:
    """Raises BenchError where a section that is to be scored is one that the model has seen.

    Args:
        own: The model's own data, whose test sections it has not seen, and whose validation
            sections are seen no more than in a score on validation.
        other: The other data.
        split: The split of it that is scored.
    """
    shared = find_shared_section(own, SPLITS[: SPLITS.index(split)], other, (split,))
    if shared:
        raise BenchError(
            f"other data must be unseen, section {shared[1]} of {other.root} is {shared[0]} of "
            f"{own.root}, which the model has seen: score other sections"
        )


def _open_own(used: UsedDataset | None, subject: Subject) -> PreparedDataset | None:
    """The model's own data, if it is still where its training found it."""
    try:
        own = PreparedDataset.open(used.folder) if used else None
    except BenchError:
        return None
    return own if own and own.content_hash == subject.cell.dataset else None


def choose_units(
    config: EvaluateConfig, dataset: PreparedDataset, origin: HomeRecipe
) -> list[Unit]:
    """What of other data is scored as one: volumes where the model's own were, else sections.

    Raises:
        BenchError: If the model's own data are volumes, and the other are not.
    """
    volumes = origin.recipe.volume is not None
    units = list_units(dataset, config.split, by_section=not volumes)
    if volumes and units[0].volume is None:
        raise BenchError(
            f"the model's own data are volumes, received the sections of {dataset.root}: prepare "
            "stacks with the distance of their planes (-P section_nm=...), or evaluate the model "
            "on its own data with scored=sections first"
        )
    return units


def describe_resampling(dataset: PreparedDataset, info: ModelInfo, recipe: Recipe) -> str:
    """Says at which pixel size other data is fed, one sentence for people."""
    size_nm, fed_nm = dataset.pixel_size_nm, info.input_pixel_size_nm
    if not (size_nm and fed_nm):
        return "fed as it is: not all pixel sizes are known"
    if not recipe.rescale:
        return f"fed as it is, {size_nm:g} nm a pixel to a model of {fed_nm:g} nm (rescale=false)"
    if size_nm == fed_nm:
        return f"fed as it is, {size_nm:g} nm a pixel as the model was trained"
    return f"resampled from {size_nm:g} nm a pixel to the model's {fed_nm:g} nm, and back"
