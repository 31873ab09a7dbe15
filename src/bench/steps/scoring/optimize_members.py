"""Which evaluated models a search works with, and their stored predictions."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.scoring import OptimizeConfig
from bench.config.settings import XY
from bench.dataset.prepared import VOLUMES, PreparedDataset
from bench.errors import BenchError
from bench.inference.blends import Blend
from bench.inference.prediction_file import list_stored
from bench.methods import find_method, is_oracle
from bench.models.networks import find_network
from bench.recipe.recipe import OWN, Recipe, RecipeMember
from bench.report.variants import variant_name
from bench.search.candidates import Candidate
from bench.steps.scoring.recipes import read_evaluated, refuse_oracle
from bench.structures import split_names
from bench.tracking.evaluations import Evaluation, get_evaluation, is_evaluation, list_evaluations
from bench.tracking.queries import fetch_artifact, get_trained
from bench.tracking.store import Store, experiment_id_of
from bench.words import AUTO

log = logging.getLogger(__name__)

_PREDICTIONS = "predictions.h5"


@dataclass(frozen=True)
class _Applied:
    """An evaluation, and how it made instances of one model's predictions."""

    evaluation: Evaluation
    recipe: Recipe

    @property
    def model(self) -> tuple[str, ...]:
        """What tells its model from others, as it was applied."""
        recipe, member = self.recipe, self.recipe.members[0]
        planes = recipe.volume.planes if recipe.volume else None
        applied = (str(recipe.rescale), recipe.segmentation, str(planes), str(member.engine))
        return self.evaluation.method, member.weights_sha256, *applied

    @property
    def richness(self) -> tuple[int, bool, bool]:
        """How much it offers: augmentations, settings that fit the annotations, no circles.

        What circles are worth is seen beside components.
        """
        fits = self.evaluation.protocol == "data"
        return len(self.recipe.augmentations), fits, self.recipe.circles is None


@dataclass(frozen=True)
class Member:
    """An evaluated model.

    Attributes:
        name: What the search calls it.
        validation: Its evaluation on the validation split.
        recipe: How that made instances.
        test: Its evaluation on the test split; None without one.
    """

    name: str
    validation: Evaluation
    recipe: Recipe
    test: Evaluation | None

    def for_recipe(self) -> RecipeMember:
        """What a recipe says of it."""
        return dataclasses.replace(self.recipe.members[0], name=self.name)

    def plain_candidate(self) -> Candidate:
        """The model as its evaluation made instances, without augmentation."""
        return Candidate(
            blend=Blend((self.name,)),
            level=self.recipe.level,
            opening_radius_px=self.recipe.opening_radius_px,
            min_area_px=self.recipe.min_area_px,
            scores={},
            watershed=self.recipe.watershed,
            spheres=self.recipe.spheres,
        )


def find_members(
    config: OptimizeConfig, dataset: PreparedDataset, structure: str, store: Store
) -> list[Member]:
    """Finds the models to search over: the newest of every method and seed, or those named.

    Raises:
        BenchError: If there is none, or one does not belong to the others.
    """
    experiment = experiment_id_of(store, config.experiment)

    def of_split(split: str) -> list[_Applied]:
        found = list_evaluations(
            store, experiment, structure=structure, dataset=dataset.content_hash, split=split
        )
        # That of a package cannot be combined with others, nor planes scored one by one.
        of_volumes = bool(dataset.manifest.get(VOLUMES))
        return [
            each
            for each in _read_all(filter(_is_honest, found), store)
            if each.recipe.segmentation == OWN
            and (each.recipe.volume is not None) == of_volumes
            and _has_planes(each, config.planes)
        ]

    validations = of_split("val")
    chosen = _choose_newest(validations, config) if config.runs == AUTO else None
    if chosen is None:
        chosen = _choose_named(split_names(config.runs), validations, dataset, structure, store)
    if not chosen:
        raise BenchError(
            f"optimize needs predictions of the validation split, there are none of {structure} "
            f"on dataset {dataset.content_hash[:8]}"
            + ("" if config.methods == "all" else f" by {config.methods}")
            + ": run evaluate with split=val (and augmentations=all), or benchmark with "
            "optimize=true"
        )
    _check_rescale(chosen)
    _check_planes(chosen)
    tests = of_split("test")
    return [
        Member(name, each.evaluation, each.recipe, find_test(each, tests))
        for name, each in chosen.items()
    ]


def _is_honest(evaluation: Evaluation) -> bool:
    """Whether a search may read it: what is told where objects are would win every one."""
    return not is_oracle(evaluation.method)


def _read_all(evaluations: Iterable[Evaluation], store: Store) -> Iterator[_Applied]:
    """The evaluations with their recipes; one that has none that can be read is left out."""
    for evaluation in evaluations:
        try:
            yield _Applied(evaluation, read_evaluated(evaluation, store))
        except BenchError as error:
            log.warning("not searched: %s", error)


def _name_of(evaluation: Evaluation) -> str:
    variant = variant_name(evaluation.method, evaluation.labelled, evaluation.pseudo)
    return f"{variant} seed {evaluation.seed}" if evaluation.trained_run else variant


def _choose_newest(validations: Sequence[_Applied], config: OptimizeConfig) -> dict[str, _Applied]:
    """The newest model of every method and seed that learned from all annotations.

    Of the evaluations of that model it is the richest.
    """
    wanted = None
    if config.methods != "all":
        wanted = {find_method(name).name for name in split_names(config.methods)}
        for name in wanted:
            refuse_oracle(name, "search the best combination")
    chosen: dict[str, _Applied] = {}
    for each in validations:
        evaluation = each.evaluation
        if evaluation.labelled is not None or not (wanted is None or evaluation.method in wanted):
            continue
        name = _name_of(evaluation)
        first = chosen.setdefault(name, each)
        if first.model == each.model and each.richness > first.richness:
            chosen[name] = each
    return dict(sorted(chosen.items()))


def _choose_named(
    run_ids: Iterable[str],
    validations: Sequence[_Applied],
    dataset: PreparedDataset,
    structure: str,
    store: Store,
) -> dict[str, _Applied]:
    """The models of the runs that the user named, each by its richest evaluation."""
    chosen: dict[str, _Applied] = {}
    for run_id in run_ids:
        if is_evaluation(store, run_id):
            named = get_evaluation(store, run_id)
            _check_belongs(named, dataset, structure)
            model = _Applied(named, read_evaluated(named, store)).model
            found = [each for each in validations if each.model == model]
        else:
            training = get_trained(store, run_id)
            refuse_oracle(training.cell.method, "search the best combination")
            trained = training.id
            found = [each for each in validations if each.evaluation.trained_run == trained]
        if not found:
            raise BenchError(
                f"optimize needs predictions of the validation split, the model of run {run_id} "
                f"has none of {structure} on dataset {dataset.content_hash[:8]}: evaluate it with "
                "split=val"
            )
        best = max(found, key=lambda each: each.richness)
        name = _name_of(best.evaluation)
        chosen[name if name not in chosen else f"{name} ({best.evaluation.id[:8]})"] = best
    return chosen


def _check_belongs(named: Evaluation, dataset: PreparedDataset, structure: str) -> None:
    if named.structure != structure:
        raise BenchError(
            f"a search is of one structure, received run {named.id} of {named.structure} with "
            f"structure={structure}: leave it out, or search {named.structure}"
        )
    if named.trained_on:
        raise BenchError(
            f"a search is over models of its own data, run {named.id} scored one that was trained "
            f"on {named.trained_on.partition('@')[0]}: leave it out, or evaluate that model as a "
            f"source (method=unadapted source=runs:/{named.trained_run})"
        )
    if named.dataset != dataset.content_hash:
        raise BenchError(
            f"a search is of one dataset, received run {named.id} of {named.dataset[:8]} with "
            f"dataset {dataset.content_hash[:8]}: evaluate its model on this dataset"
        )


def _check_rescale(chosen: Mapping[str, _Applied]) -> None:
    groups = {each.recipe.rescale for each in chosen.values()}
    if len(groups) > 1:
        listed = ", ".join(f"{name}: {each.recipe.rescale}" for name, each in chosen.items())
        raise BenchError(
            f"the models of a search are all rescaled or none is, received {listed}: name runs "
            "that agree, or evaluate again"
        )


def _has_planes(each: _Applied, wanted: str) -> bool:
    """Whether an evaluation is of the planes that a search is of; networks of volumes always."""
    planes = each.recipe.volume.planes if each.recipe.volume else None
    return wanted == AUTO or _sees_volumes(each) or (planes is None) == (wanted == XY)


def _sees_volumes(each: _Applied) -> bool:
    return find_network(find_method(each.evaluation.method).network).dims == 3


def _check_planes(chosen: Mapping[str, _Applied]) -> None:
    of_sections = {name: each for name, each in chosen.items() if not _sees_volumes(each)}
    planes = {n: e.recipe.volume.planes for n, e in of_sections.items() if e.recipe.volume}
    if len(set(planes.values())) > 1:
        listed = ", ".join(f"{name}: {rule or XY}" for name, rule in planes.items())
        raise BenchError(
            "the models of sections of a search all see volumes along z, or all along z, y and x, "
            f"received {listed}: add planes=xy or planes=orthogonal, or evaluate again"
        )


def find_test(validation: _Applied, tests: Sequence[_Applied]) -> Evaluation | None:
    """The richest evaluation of the same model on the test split; of equals the newest."""
    same = [test for test in tests if test.model == validation.model]
    return max(same, key=lambda each: each.richness).evaluation if same else None


def predictions_of(
    evaluation: Evaluation, dataset: PreparedDataset, store: Store
) -> tuple[Path, tuple[str, ...]]:
    """The prediction file of an evaluation, and the augmentations that it holds.

    Raises:
        BenchError: If it lacks a section, or one has another shape.
    """
    path = fetch_artifact(store, evaluation.id, _PREDICTIONS)
    shapes, augmentations = list_stored(path)
    for section in dataset.sections(evaluation.split):
        expected = dataset.shape(section)
        if shapes.get(section) != expected:
            raise BenchError(
                f"run {evaluation.id} must have predicted section {section} of shape {expected}, "
                f"its file has {shapes.get(section, 'none')}: evaluate it again on this dataset"
            )
    return path, augmentations
