"""What an evaluation is: its model, what it is scored on, and the recipe by which it segments."""

import dataclasses
from dataclasses import dataclass

from bench.config.scoring import EvaluateConfig
from bench.config.settings import XY
from bench.core.version import without_prose
from bench.dataset.partial import refuse_partial
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.dataset.volumes import find_volumes
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.engines import check_possible
from bench.inference.prompts.objects import PromptSettings, settings_of
from bench.inference.symmetries import find_augmentations, find_volume_augmentations
from bench.metrics.table import requested_metrics, scored_metrics
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import find_network
from bench.postprocess.ball_opening import are_cubes
from bench.postprocess.segmentation import (
    PostprocessSettings,
    paper_settings,
    settings_from_annotations,
)
from bench.postprocess.spheres.settings import SphereSettings, circle_settings
from bench.recipe.orthoplanes import MEAN_OF_PLANES, PUBLISHED_PLANES, check_orthoplanes
from bench.recipe.recipe import OWN, Recipe, VolumeSettings
from bench.recipe.scores import threshold_level
from bench.recipe.sections import need_pixel_size
from bench.steps.scoring.evaluation_subject import Subject, find_subject
from bench.steps.scoring.external import (
    HomeRecipe,
    choose_units,
    describe_resampling,
    find_home_recipe,
)
from bench.steps.scoring.recipes import find_watershed
from bench.steps.scoring.units import Unit, list_units
from bench.steps.training.data import TrainingData
from bench.structures import Structure, find_structure
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.words import AUTO, INT8, NONE, OPENVINO

# What is done to vesicles that become spheres, in place of opening and smallest area.
_SPHERES = "Spheres are found in the mask, each by its own radial profile."
_CIRCLES = "Circles are found in the mask, by its shape."
_VESICLE = "vesicle"
# Radius from which on what a section cuts of a vesicle becomes a circle.
_SMALLEST_PROFILE_NM = 6.0


@dataclass(frozen=True)
class EvaluationTask:
    """What is evaluated, on what, and how.

    Attributes:
        config: The settings.
        dataset: The dataset.
        subject: The model.
        info: What its checkpoint says.
        structure: What it segments.
        recipe: How its output becomes instances.
        units: The sections or volumes that are scored.
        origin: What the model brings from its own data; None where this is it.
    """

    config: EvaluateConfig
    dataset: PreparedDataset
    subject: Subject
    info: ModelInfo
    structure: Structure
    recipe: Recipe
    units: list[Unit]
    origin: HomeRecipe | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is scored.

        Raises:
            BenchError: If the settings name a metric that is not there.
        """
        name, volumes = self.structure.name, self.recipe.volume is not None
        requested = requested_metrics(self.config.metrics, name, volumes=volumes)
        return scored_metrics(
            name,
            volumes=volumes,
            requested=requested,
            classes=bool(self.scored_classes),
            prompted=self.prompts is not None,
        )

    @property
    def fed_nm(self) -> float | None:
        """The pixel size by which sections are resampled to the model's; None feeds them as is."""
        return self.dataset.pixel_size_nm if self.recipe.rescale else None

    @property
    def prompts(self) -> PromptSettings | None:
        """How the model is prompted by the annotation; None where it finds objects itself."""
        return settings_of(self.info)

    @property
    def scored_classes(self) -> tuple[str, ...]:
        """The structures that are scored together: those of a model of classes, all annotated."""
        classes = self.info.classes
        return classes if set(classes) <= set(self.dataset.annotated(self.config.split)) else ()


def resolve_evaluation(config: EvaluateConfig, store: Store) -> EvaluationTask:
    """Finds and checks everything that a config names.

    Raises:
        BenchError: If there is no such model, or it does not fit the dataset or the settings.
    """
    dataset = PreparedDataset.open(config.dataset)
    check_annotated(dataset)
    subject = find_subject(config, dataset, store)
    structure = find_structure(subject.cell.structure)
    dataset.instances(config.split, structure.name)
    info = load_info(subject.weights)
    if config.engine in (OPENVINO, INT8):
        check_possible(choose_compute(config.device, AUTO), info)
    _check_augmentations(config, subject, info)
    if origin := find_home_recipe(config, dataset, subject, store):
        units = choose_units(config, dataset, origin)
        requested_metrics(config.metrics, structure.name, volumes=units[0].volume is not None)
        return EvaluationTask(
            config, dataset, subject, info, structure, origin.recipe, units, origin
        )
    units = list_units(dataset, config.split, by_section=config.scored == "sections")
    if settings_of(info):
        what = f"method {subject.cell.method}, which is prompted with whole annotated objects,"
        refuse_partial(dataset, [structure.name], what, (config.split,))
        _check_prompted(dataset, config.split, structure.name, units)
    # A name that is no metric's is told before anything is read.
    requested_metrics(config.metrics, structure.name, volumes=units[0].volume is not None)
    volume = _choose_volume(config, units, structure, info)
    circles = None if volume else _choose_circles(config, dataset)
    settings = _choose_settings(config, dataset, structure, subject, volume, circles)
    recipe = _make_recipe(config, dataset, subject, settings, info, volume, circles)
    return EvaluationTask(config, dataset, subject, info, structure, recipe, units)


def _choose_volume(
    config: EvaluateConfig, units: list[Unit], structure: Structure, info: ModelInfo
) -> VolumeSettings | None:
    """What is done with volumes; None where sections are scored."""
    size_nm = units[0].voxel_size_nm
    planes = _choose_planes(config, size_nm, info)
    if size_nm is None:
        return None
    ours = find_network(info.architecture).dims == 3 and _VESICLE in structure.name
    ours = ours and are_cubes(size_nm)
    protocol = ("data" if ours else NONE) if config.spheres == AUTO else config.spheres
    if protocol == "data" and config.protocol == "paper":
        protocol = "paper"
    spheres = None if protocol == NONE else SphereSettings(protocol=protocol)
    return VolumeSettings(size_nm[0], spheres, planes)


def _choose_planes(
    config: EvaluateConfig, size_nm: tuple[float, ...] | None, info: ModelInfo
) -> str | None:
    """The rule by which planes along all axes are made one; None where they are along z."""
    if config.planes == XY:
        return None
    if size_nm is None:
        raise BenchError(
            "planes along z, y and x are of volumes, received planes=orthogonal for sections: "
            "leave planes=xy, or prepare stacks with the distance of their planes"
        )
    check_orthoplanes(info, size_nm, find_augmentations(config.augmentations))
    if config.segmentation != OWN:
        raise BenchError(
            "planes along z, y and x are predicted our own way, received segmentation="
            f"{config.segmentation}: use segmentation=own, or planes=xy"
        )
    return PUBLISHED_PLANES if config.protocol == "paper" else MEAN_OF_PLANES


def _choose_circles(config: EvaluateConfig, dataset: PreparedDataset) -> SphereSettings | None:
    """How vesicles of sections become circles; None unless that is asked for."""
    if config.spheres in (AUTO, NONE):
        return None
    if config.segmentation != OWN:
        raise BenchError(
            f"circles are found in a model's mask, received spheres={config.spheres} with "
            f"segmentation={config.segmentation}, which finds instances itself: leave one out"
        )
    if config.spheres == "paper":
        raise BenchError(
            "spheres=paper is what was published for volumes, received sections: use spheres=data, "
            "which makes circles of vesicles"
        )
    need_pixel_size(dataset.pixel_size_nm)
    return circle_settings(_SMALLEST_PROFILE_NM)


def _check_augmentations(config: EvaluateConfig, subject: Subject, info: ModelInfo) -> None:
    finds_instances = find_network(info.architecture).finds_instances
    if config.augmentations != NONE and (finds_instances or config.segmentation != "own"):
        raise BenchError(
            "augmentations are averaged as probabilities, received augmentations="
            f"{config.augmentations} for {subject.cell.method} with segmentation="
            f"{config.segmentation}, which finds instances itself: use augmentations=none"
        )


def _check_prompted(
    dataset: PreparedDataset, split: str, structure: str, units: list[Unit]
) -> None:
    """Raises BenchError where a split has nothing that a model can be prompted with."""
    if units[0].volume is not None:
        raise BenchError(
            "objects are prompted in sections, received volumes: add scored=sections, which scores "
            "their planes one by one"
        )
    if dataset.instances(split, structure) == 0:
        raise BenchError(
            f"prompts are made of annotated objects, the split {split} has none of {structure}: "
            "choose another split, or annotate some"
        )


def _choose_settings(
    config: EvaluateConfig,
    dataset: PreparedDataset,
    structure: Structure,
    subject: Subject,
    volume: VolumeSettings | None,
    circles: SphereSettings | None,
) -> PostprocessSettings:
    if circles or (volume and volume.spheres):
        settings = PostprocessSettings(0, 0, _CIRCLES if circles else _SPHERES)
    elif config.protocol == "paper":
        settings = paper_settings(structure)
    elif volume:
        units = list_units(dataset, "train")
        settings = settings_from_annotations(
            (unit.read_labels(structure.name) for unit in units),
            voxel_size_nm=units[0].voxel_size_nm,
        )
    else:
        # A model trained on few sections is post-processed by those few.
        cell = subject.cell
        same = cell.dataset == dataset.content_hash
        learned = subject.learned if cell.labelled and same else structure.name
        data = TrainingData.choose(
            dataset, learned, labelled=cell.labelled, seed=cell.seed, fed_nm=None
        )
        settings = settings_from_annotations(
            (dataset.read_labels(name, structure.name) for name in data.names),
            pixel_size_nm=dataset.pixel_size_nm,
        )
    given = {
        name: value
        for name in ("opening_radius_px", "min_area_px")
        if (value := getattr(config, name)) is not None
    }
    if not given:
        return settings
    origin = f"{settings.origin} Set by the user: {', '.join(given)}."
    return dataclasses.replace(settings, **given, origin=origin)


def _make_recipe(
    config: EvaluateConfig,
    dataset: PreparedDataset,
    subject: Subject,
    settings: PostprocessSettings,
    info: ModelInfo,
    volume: VolumeSettings | None,
    circles: SphereSettings | None,
) -> Recipe:
    return Recipe(
        structure=subject.cell.structure,
        dataset=dataset.content_hash,
        pixel_size_nm=dataset.pixel_size_nm,
        rescale=config.rescale,
        members=(subject.member,),
        level=threshold_level(config.threshold),
        opening_radius_px=settings.opening_radius_px,
        min_area_px=settings.min_area_px,
        watershed=find_watershed(info) if config.separation == AUTO else None,
        augmentations=_choose_symmetries(config, dataset, info),
        segmentation=config.segmentation,
        origin=settings.origin,
        volume=volume,
        circles=circles,
    )


def _choose_symmetries(
    config: EvaluateConfig, dataset: PreparedDataset, info: ModelInfo
) -> tuple[str, ...]:
    volumes = find_volumes(dataset, config.split)
    if find_network(info.architecture).dims == 3 and volumes:
        return find_volume_augmentations(config.augmentations, volumes[0].voxel_size_nm)
    return find_augmentations(config.augmentations)


def identify_evaluation(task: EvaluationTask) -> Identity:
    """What the run of a task is."""
    return Identity(
        step="evaluate",
        settings={
            "split": task.config.split,
            "protocol": task.config.protocol,
            "augmentations": task.recipe.augmentations,
            "threshold": task.config.threshold,
            "device": task.config.device,
            # As it was typed, too.
            **({"engine": task.config.engine} if task.config.engine != AUTO else {}),
            "rescale": task.config.rescale,
            "segmentation": task.config.segmentation,
            "separation": task.config.separation,
            "opening_radius_px": task.recipe.opening_radius_px,
            "min_area_px": task.recipe.min_area_px,
            # With another metric more is computed.
            "metrics": list(task.metrics),
            **({"volume": without_prose(task.recipe.volume)} if task.recipe.volume else {}),
            **({"circles": task.recipe.circles} if task.recipe.circles else {}),
            **(_identify_origin(task.origin) if task.origin else {}),
        },
        inputs={"run": task.subject.run_id, "weights": task.subject.sha256},
        method=task.subject.cell.method,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.subject.cell.seed,
        labelled=task.subject.cell.labelled,
        pseudo=task.subject.cell.pseudo or None,
        parts=(
            f"network {task.info.architecture}",
            *(f"metric {name}" for name in task.metrics),
            *(("classes",) if task.info.classes else ()),
            *(("spheres",) if task.recipe.spheres else ()),
            *(("prompts",) if task.prompts else ()),
        ),
    )


def _identify_origin(origin: HomeRecipe) -> dict[str, object]:
    """What the result depends on besides, where a model is applied to other data than its own."""
    return {
        "trained_on": origin.dataset.rpartition("@")[2],
        "recipe_level": origin.recipe.level,
        "recipe_pixel_size_nm": origin.recipe.pixel_size_nm,
        "recipe_rescale": origin.recipe.rescale,
        "recipe_segmentation": origin.recipe.segmentation,
        "recipe_watershed": origin.recipe.watershed,
    }


def resolved_evaluation(task: EvaluationTask) -> dict[str, object]:
    """All settings of a task by name, with what was found for those that were ``auto``."""
    return dataclasses.asdict(task.config) | {
        "run_id": task.subject.run_id or "none",
        "source": task.subject.source or "none",
        "method": task.subject.cell.method,
        "structure": task.structure.name,
        "seed": task.subject.cell.seed,
        "opening_radius_px": task.recipe.opening_radius_px,
        "min_area_px": task.recipe.min_area_px,
        "postprocess_origin": task.recipe.origin,
        "watershed": task.recipe.watershed.origin if task.recipe.watershed else "none",
        # Which opening and smallest area are of.
        "dataset_pixel_size_nm": task.recipe.pixel_size_nm,
        "weights_sha256": task.subject.sha256,
        **(_resolve_origin(task, task.origin) if task.origin else {}),
    }


def _resolve_origin(task: EvaluationTask, origin: HomeRecipe) -> dict[str, object]:
    """The settings that the model's own data decided, and what was done to the other's."""
    recipe = origin.recipe
    return {
        "trained_on": origin.dataset,
        "recipe_of": origin.evaluation,
        "threshold": recipe.threshold,
        "rescale": recipe.rescale,
        "segmentation": recipe.segmentation,
        "resampling": describe_resampling(task.dataset, task.info, recipe),
    }
