"""Which models segment new images, and how their output becomes instances."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.running import SegmentConfig
from bench.config.settings import ORTHOGONAL, XY
from bench.errors import BenchError, unknown_name
from bench.inference.device import Compute
from bench.inference.engines import choose_engine, recorded, with_recorded
from bench.inference.symmetries import find_augmentations, find_volume_augmentations
from bench.ingest.images.planes import Plane
from bench.metrics.table import HEADLINE
from bench.models.checkpoint import ModelInfo, load_info
from bench.postprocess.spheres.settings import SphereSettings
from bench.recipe.orthoplanes import MEAN_OF_PLANES
from bench.recipe.recipe import Recipe, VolumeSettings
from bench.recipe.scores import threshold_level
from bench.recipe.volume_predictor import takes_volumes
from bench.report.variants import combination_name
from bench.steps.scoring.recipes import FoundRecipe, fetch_registered, fetch_searched, find_model
from bench.structures import find_structure
from bench.tracking.evaluations import SEARCH_STEP, find_test_score
from bench.tracking.queries import step_of
from bench.tracking.registry import SCHEME, list_champions
from bench.tracking.store import Store
from bench.words import AUTO

# Settings in px of the image, which the user may set himself.
SIZES = ("opening_radius_px", "min_area_px")
# The stage of spheres in which the threshold is chosen by the image.
_CHOOSES_THRESHOLD = "threshold"


@dataclass(frozen=True)
class SegmentSubject:
    """Models, and a recipe of how they are applied.

    Attributes:
        method: Row of METHODS, or that of a search.
        seed: Seed of the training; None of several.
        labelled: Annotated training sections used; None for all.
        model: What the user named: a run, or a version of a registered model.
        trained_on: The run whose datasets it has learned from, or was chosen on.
        recipe: The recipe.
        weights: The checkpoint of each model.
        infos: What each checkpoint says.
        origin: Where the recipe comes from, one sentence.
        sizes: Of the post-processing, what the user set himself.
        warnings: What a reader of its results must know.
        test_dice: Its Dice on the test sections of its data; None if it was not scored there.
    """

    method: str
    seed: int | None
    labelled: int | None
    model: str
    trained_on: str
    recipe: Recipe
    weights: tuple[Path, ...]
    infos: tuple[ModelInfo, ...]
    origin: str
    sizes: Mapping[str, int]
    warnings: tuple[str, ...]
    test_dice: float | None


def find_segment_subject(config: SegmentConfig, store: Store) -> SegmentSubject:
    """Finds the models that a config names, and their recipe with what the user set himself.

    Raises:
        BenchError: If there are none, they are of another structure, or nothing says how they
            are applied.
    """
    named = config.run_id
    if named == AUTO:
        named = _choose_champion(config.structure, store)
    sizes = {name: getattr(config, name) for name in SIZES if getattr(config, name) is not None}
    if named.startswith(SCHEME):
        model, found = fetch_registered(store, named)
        subject = _of_search(found, model.uri, model.run_id, f"As {model.uri}: ")
    elif step_of(store, named) == SEARCH_STEP:
        found = fetch_searched(store, named)
        subject = _of_search(found, found.run_id, found.run_id, f"As search {found.run_id}: ")
    else:
        subject = _of_model(named, config.structure, sizes, store)
    wanted = config.structure
    if wanted != AUTO and find_structure(wanted).name != subject.recipe.structure:
        raise BenchError(
            f"{named} segments {subject.recipe.structure}, received structure={wanted}: leave "
            "structure out, or give a model of that structure"
        )
    return _set_by_user(subject, config, sizes)


def resolve_engines(subject: SegmentSubject, wanted: str, compute: Compute) -> SegmentSubject:
    """Says in a subject's recipe what computes each of its models here.

    Args:
        subject: The models.
        wanted: ``torch`` or ``openvino``; ``auto`` follows what they were evaluated with.
        compute: Where they run.

    Raises:
        BenchError: If OpenVINO is asked for, and cannot compute one of them here.
    """
    members = []
    for member, path in zip(subject.recipe.members, subject.weights, strict=True):
        chosen = (
            with_recorded(compute, member.engine)
            if wanted == AUTO
            else choose_engine(wanted, compute, path)
        )
        members.append(dataclasses.replace(member, engine=recorded(chosen)))
    recipe = dataclasses.replace(subject.recipe, members=tuple(members))
    return dataclasses.replace(subject, recipe=recipe)


def _choose_champion(name: str, store: Store) -> str:
    """The address of the only champion of a structure, or of all structures."""
    champions = list_champions(store)
    structures = sorted({champion.structure for champion in champions})
    if not champions:
        raise BenchError(
            "segment needs a model: without run_id it takes the champion, there is none: run "
            "promote, or give run_id"
        )
    if name != AUTO:
        wanted = find_structure(name).name
        if wanted not in structures:
            raise unknown_name("structure of a champion", wanted, structures)
        champions = [champion for champion in champions if champion.structure == wanted]
    elif len(structures) > 1:
        raise BenchError(
            "segment needs a model: without run_id it takes the champion, there are champions of "
            f"{', '.join(structures)}: give structure"
        )
    if len(champions) > 1:
        choices = (f"run_id={each.champion_uri} ({each.describe()})" for each in champions)
        raise BenchError(
            f"a champion is of one data set, there are {len(champions)} of "
            f"{champions[0].structure}: give that of the data most like yours, "
            f"{' or '.join(choices)}"
        )
    return champions[0].champion_uri


def _of_search(found: FoundRecipe, model: str, trained_on: str, origin: str) -> SegmentSubject:
    recipe = found.recipe
    return SegmentSubject(
        method=combination_name(recipe.metric),
        seed=None,
        labelled=None,
        model=model,
        trained_on=trained_on,
        recipe=recipe,
        weights=found.weights,
        infos=tuple(load_info(path) for path in found.weights),
        origin=f"{origin}{recipe.describe()}.",
        sizes={},
        warnings=found.warnings,
        test_dice=recipe.test.get(HEADLINE),
    )


def _of_model(
    run_id: str, structure: str, sizes: Mapping[str, int], store: Store
) -> SegmentSubject:
    found = find_model(run_id, store, structure)
    if not found.evaluated and len(sizes) < len(SIZES):
        raise BenchError(
            f"post-processing must follow an evaluation, run {found.run_id} has none: evaluate "
            f"it first, or give {' and '.join(SIZES)}"
        )
    return SegmentSubject(
        method=found.cell.method,
        seed=found.cell.seed,
        labelled=found.cell.labelled,
        model=found.run_id,
        trained_on=found.run_id,
        recipe=found.recipe,
        weights=(found.weights,),
        infos=(found.info,),
        origin=found.origin,
        sizes={},
        warnings=found.warnings,
        test_dice=found.recipe.test.get(HEADLINE)
        or find_test_score(store, found.run_id, found.cell.structure, HEADLINE),
    )


def _set_by_user(
    subject: SegmentSubject, config: SegmentConfig, sizes: Mapping[str, int]
) -> SegmentSubject:
    changes: dict[str, object] = {}
    if config.threshold is not None:
        changes["level"] = threshold_level(config.threshold)
    spheres, volume = _set_spheres(subject.recipe.spheres, config), subject.recipe.volume
    if volume is not None:
        planes = _set_planes(subject, volume, config)
        changes["volume"] = dataclasses.replace(planes, spheres=spheres)
    elif config.planes == ORTHOGONAL:
        raise BenchError(
            f"planes along z, y and x are of volumes, {subject.model} is of sections: evaluate it "
            "on a dataset of volumes with scored=auto, or leave planes=auto"
        )
    else:
        changes["circles"] = spheres
    if config.rescale is not None:
        changes["rescale"] = config.rescale
    if config.separation != AUTO:
        changes["watershed"] = None
    if config.augmentations != AUTO:
        changes["augmentations"] = _find_symmetries(subject, config.augmentations)
    names = ("threshold", "rescale", "separation", "augmentations", "planes")
    given = [*sizes, *(name for name in names if getattr(config, name) not in (None, AUTO))]
    said = f"{subject.origin} Set by the user: {', '.join(given)}." if given else subject.origin
    return dataclasses.replace(
        subject,
        recipe=dataclasses.replace(subject.recipe, **changes),  # type: ignore[arg-type]
        sizes=sizes,
        origin=said,
    )


def _find_symmetries(subject: SegmentSubject, choice: str) -> tuple[str, ...]:
    """The symmetries of a choice; where a model sees volumes, those that keep their beam's axis."""
    recipe = subject.recipe
    if recipe.volume is None or not any(map(takes_volumes, subject.infos)):
        return find_augmentations(choice)
    edge_nm = recipe.pixel_size_nm or recipe.volume.section_nm
    return find_volume_augmentations(choice, (recipe.volume.section_nm, edge_nm, edge_nm))


def _set_spheres(spheres: SphereSettings | None, config: SegmentConfig) -> SphereSettings | None:
    """How vesicles become spheres or circles: a threshold of the user's is not chosen again."""
    if spheres is None or config.separation != AUTO:
        return None
    if config.threshold is None:
        return spheres
    stages = tuple(stage for stage in spheres.stages if stage != _CHOOSES_THRESHOLD)
    return dataclasses.replace(spheres, stages=stages)


def check_sizes(subject: SegmentSubject) -> None:
    """Raises BenchError where sizes of components are given, and vesicles become spheres."""
    recipe = subject.recipe
    if recipe.spheres is not None and subject.sizes:
        raise BenchError(
            f"{' and '.join(SIZES)} are of components, received {', '.join(subject.sizes)} where "
            f"vesicles become {'spheres' if recipe.volume else 'circles'}: leave them auto, or add "
            "separation=components"
        )


def check_circles(planes: Sequence[Plane], subject: SegmentSubject) -> None:
    """Raises BenchError where sections do not have what circles need.

    Args:
        planes: The sections.
        subject: What is applied.
    """
    if subject.recipe.circles is None:
        return
    check_sizes(subject)
    if unknown := [plane.name for plane in planes if plane.pixel_size_nm is None]:
        raise BenchError(
            f"circles have sizes in nm, the pixel size of {unknown[0]} is not known: give "
            "pixel_size_nm, or add separation=components"
        )


def _set_planes(
    subject: SegmentSubject, volume: VolumeSettings, config: SegmentConfig
) -> VolumeSettings:
    """Along which axes models of sections see volumes."""
    if config.planes == AUTO or (config.planes == ORTHOGONAL and volume.planes):
        return volume
    if config.planes == XY:
        return dataclasses.replace(volume, planes=None)
    if all(takes_volumes(info) for info in subject.infos):
        raise BenchError(
            f"planes along z, y and x are for networks of sections, {subject.model} has none: "
            "leave planes=auto"
        )
    return dataclasses.replace(volume, planes=MEAN_OF_PLANES)
