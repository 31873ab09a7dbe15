"""Which evaluated models a search works with, and their stored predictions."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.scoring import OptimizeConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.blends import Blend
from bench.inference.prediction_file import list_stored
from bench.inference.symmetries import find_augmentations
from bench.methods import find_method
from bench.models.checkpoint import load_info
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import RecipeMember
from bench.recipe.scores import threshold_level
from bench.report.variants import variant_name
from bench.search.candidates import Candidate
from bench.steps.serving.export_subject import find_weights
from bench.structures import split_names
from bench.tracking.evaluations import Evaluation, get_evaluation, is_evaluation, list_evaluations
from bench.tracking.queries import fetch_artifact, get_trained
from bench.tracking.store import Store, experiment_id_of
from bench.words import AUTO

log = logging.getLogger(__name__)

_PREDICTIONS = "predictions.h5"
# Settings of an evaluation without which its model cannot be told from others, or applied.
_NEEDED = {"weights_sha256", "rescale", "segmentation", "protocol", "threshold", "watershed"}


@dataclass(frozen=True)
class Member:
    """An evaluated model.

    Attributes:
        name: What the search calls it.
        validation: Its evaluation on the validation split.
        test: That on the test split; None without one.
    """

    name: str
    validation: Evaluation
    test: Evaluation | None

    @property
    def rescale(self) -> bool:
        """Whether sections were resampled to the model's pixel size."""
        return self.validation.settings["rescale"] == "True"

    def for_recipe(self) -> RecipeMember:
        """What a recipe says of it."""
        found = self.validation
        return RecipeMember(
            name=self.name,
            method=found.method,
            seed=found.seed,
            trained_run=found.trained_run,
            source="" if found.trained_run else found.settings["source"],
            evaluation=found.id,
            weights_sha256=found.settings["weights_sha256"],
        )


def find_members(
    config: OptimizeConfig, dataset: PreparedDataset, structure: str, store: Store
) -> list[Member]:
    """Finds the models to search over: the newest of every method and seed, or those named.

    Raises:
        BenchError: If there is none, or one does not belong to the others.
    """
    experiment = experiment_id_of(store, config.experiment)

    def of_split(split: str) -> list[Evaluation]:
        found = list_evaluations(
            store, experiment, structure=structure, dataset=dataset.content_hash, split=split
        )
        return [evaluation for evaluation in found if _is_own(evaluation)]

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
    tests = of_split("test")
    return [
        Member(name, evaluation, find_test(evaluation, tests))
        for name, evaluation in chosen.items()
    ]


def _is_own(evaluation: Evaluation) -> bool:
    """Whether a model was applied our way; synapse_net's own cannot be applied by a recipe.

    Evaluations of an early version do not say what they were of, and are left out.
    """
    return evaluation.settings.keys() >= _NEEDED and evaluation.settings["segmentation"] == "own"


def _key_of(evaluation: Evaluation) -> tuple[str, ...]:
    """What tells models apart."""
    names = ("weights_sha256", "rescale", "segmentation")
    return (evaluation.method, *(evaluation.settings.get(name, "") for name in names))


def _richness(evaluation: Evaluation) -> tuple[int, bool]:
    """How much an evaluation offers: augmentations, and settings that fit the annotations."""
    stored = find_augmentations(evaluation.settings.get("augmentations", "none"))
    return len(stored), evaluation.settings["protocol"] == "data"


def _name_of(evaluation: Evaluation) -> str:
    """What people call the model of an evaluation."""
    variant = variant_name(evaluation.method, evaluation.labelled)
    return f"{variant} seed {evaluation.seed}" if evaluation.trained_run else variant


def _choose_newest(
    validations: Sequence[Evaluation], config: OptimizeConfig
) -> dict[str, Evaluation]:
    """The newest model of every method and seed that learned from all annotations.

    Of the evaluations of that model it is the richest.
    """
    wanted = None
    if config.methods != "all":
        wanted = {find_method(name).name for name in split_names(config.methods)}
    chosen: dict[str, Evaluation] = {}
    for evaluation in validations:
        if evaluation.labelled is not None or not (wanted is None or evaluation.method in wanted):
            continue
        name = _name_of(evaluation)
        first = chosen.setdefault(name, evaluation)
        if _key_of(first) == _key_of(evaluation) and _richness(evaluation) > _richness(first):
            chosen[name] = evaluation
    return dict(sorted(chosen.items()))


def _choose_named(
    run_ids: Iterable[str],
    validations: Sequence[Evaluation],
    dataset: PreparedDataset,
    structure: str,
    store: Store,
) -> dict[str, Evaluation]:
    """The models of the runs that the user named, each by its richest evaluation."""
    chosen: dict[str, Evaluation] = {}
    for run_id in run_ids:
        if is_evaluation(store, run_id):
            named = get_evaluation(store, run_id)
            _check_belongs(named, dataset, structure)
            found = [each for each in validations if _key_of(each) == _key_of(named)]
        else:
            trained = get_trained(store, run_id).id
            found = [each for each in validations if each.trained_run == trained]
        if not found:
            raise BenchError(
                f"optimize needs predictions of the validation split, the model of run {run_id} "
                f"has none of {structure} on dataset {dataset.content_hash[:8]}: evaluate it with "
                "split=val"
            )
        best = max(found, key=_richness)
        name = _name_of(best)
        chosen[name if name not in chosen else f"{name} ({best.id[:8]})"] = best
    return chosen


def _check_belongs(named: Evaluation, dataset: PreparedDataset, structure: str) -> None:
    """Raises BenchError for an evaluation of another structure or dataset."""
    if named.structure != structure:
        raise BenchError(
            f"a search is of one structure, received run {named.id} of {named.structure} with "
            f"structure={structure}: leave it out, or search {named.structure}"
        )
    if named.dataset != dataset.content_hash:
        raise BenchError(
            f"a search is of one dataset, received run {named.id} of {named.dataset[:8]} with "
            f"dataset {dataset.content_hash[:8]}: evaluate its model on this dataset"
        )


def _check_rescale(chosen: Mapping[str, Evaluation]) -> None:
    """Raises BenchError where models were fed sections of different scales."""
    groups = {evaluation.settings["rescale"] for evaluation in chosen.values()}
    if len(groups) > 1:
        listed = ", ".join(f"{name}: {e.settings['rescale']}" for name, e in chosen.items())
        raise BenchError(
            f"the models of a search are all rescaled or none is, received {listed}: name runs "
            "that agree, or evaluate again"
        )


def find_test(validation: Evaluation, tests: Sequence[Evaluation]) -> Evaluation | None:
    """The richest evaluation of the same model on the test split; of equals the newest."""
    same = [test for test in tests if _key_of(test) == _key_of(validation)]
    return max(same, key=_richness) if same else None


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


def plain_candidate(member: Member, store: Store) -> Candidate:
    """The model as its evaluation made instances, without augmentation."""
    found = member.validation
    watershed = None
    if found.settings["watershed"] != "none":
        described = load_info(find_weights(found, store)).inference.get("watershed")
        watershed = WatershedSettings(**described) if described else None
    return Candidate(
        blend=Blend((member.name,)),
        level=threshold_level(float(found.settings["threshold"])),
        opening_radius_px=int(found.settings["opening_radius_px"]),
        min_area_px=int(found.settings["min_area_px"]),
        scores={},
        watershed=watershed,
    )
