"""What is published: a model, the runs that made and scored it, and its data set."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.running import SegmentConfig
from bench.config.scoring import PublishConfig
from bench.errors import BenchError
from bench.recipe.recipe import Recipe
from bench.report.publication.model_card import ModelCard
from bench.steps.publication.card import find_manifest, make_card
from bench.steps.publication.records import RunRecord, follow_sources, read_record
from bench.steps.scoring.recipes import read_evaluated
from bench.steps.serving.subject import SegmentSubject, find_segment_subject
from bench.tracking.evaluations import SEARCH_STEP, find_evaluation_of
from bench.tracking.queries import step_of
from bench.tracking.registry import SCHEME, get_registered
from bench.tracking.store import Store
from bench.words import AUTO


@dataclass(frozen=True)
class PublishSubject:
    """What is published.

    Attributes:
        model: The models, and their recipe.
        card: Their card.
        records: The runs that made and scored it, what comes first first.
        gone: Runs that are named and no longer there.
        dataset_name: Name of its data set.
        manifest: The data set's manifest; None where the data set is not there.
        dataset_folder: Where it lies; None where that is not known.
    """

    model: SegmentSubject
    card: ModelCard
    records: tuple[RunRecord, ...]
    gone: tuple[str, ...]
    dataset_name: str
    manifest: dict[str, Any] | None
    dataset_folder: Path | None

    @property
    def recipe(self) -> Recipe:
        """The recipe, which was scored."""
        return self.model.recipe


def find_publish_subject(config: PublishConfig, store: Store) -> PublishSubject:
    """Finds what a config names.

    Raises:
        BenchError: If there is no such model, it was not evaluated, or the data set that is given
            is another one.
    """
    wanted = SegmentConfig(run_id=config.run_id, structure=config.structure)
    model = find_segment_subject(wanted, store)
    scored_by = _find_scorers(model, store)
    given = None if config.dataset == AUTO else Path(config.dataset)
    found = find_manifest(store, model.recipe, scored_by, given)
    name, manifest, missing = found.name, found.manifest, found.missing
    if manifest is None and (given or config.images):
        raise BenchError(
            f"dataset must be the one that the model was scored on, content "
            f"{model.recipe.dataset[:12]}, received {given or name}: {missing}; give the folder "
            "where it lies"
        )
    card = make_card(
        store,
        title=f"{model.recipe.structure}, {name}",
        # Others have the folder, and not the store.
        uri="",
        recipe=model.recipe,
        infos=model.infos,
        scored_by=scored_by,
        warnings=model.warnings,
        data=found,
    )
    records, gone = _read_records(model, scored_by, store)
    return PublishSubject(model, card, records, gone, name, manifest, found.folder)


def _find_scorers(model: SegmentSubject, store: Store) -> list[str]:
    """The runs that scored a recipe; of a split, the last one counts."""
    if model.model.startswith(SCHEME):
        registered = get_registered(store, model.model)
        return [registered.tags.get("bench.search", ""), registered.run_id]
    if step_of(store, model.model) == SEARCH_STEP:
        return [model.model]
    (member,) = model.recipe.members
    own = [member.evaluation] if member.evaluation else []
    if not member.trained_run:
        return own
    others = (
        find_evaluation_of(store, member.trained_run, model.recipe.structure, split=split)
        for split in ("val", "test")
    )
    alike = [
        each.id
        for each in others
        if each and _way_of(read_evaluated(each, store)) == _way_of(model.recipe)
    ]
    return [*alike, *own]


def _way_of(recipe: Recipe) -> Recipe:
    """A recipe without what says which run scored it, and how well."""
    members = tuple(dataclasses.replace(member, evaluation="") for member in recipe.members)
    return dataclasses.replace(recipe, members=members, validation={}, test={}, origin="")


def _read_records(
    model: SegmentSubject, scored_by: list[str], store: Store
) -> tuple[tuple[RunRecord, ...], tuple[str, ...]]:
    named: list[str] = []
    for member in model.recipe.members:
        named += reversed(list(follow_sources(store, member.trained_run)))
        named.append(member.evaluation)
    found, gone = [], []
    for run in dict.fromkeys(filter(None, [*named, *scored_by])):
        try:
            found.append(read_record(store, run))
        except BenchError:
            gone.append(run)
    return tuple(found), tuple(gone)
