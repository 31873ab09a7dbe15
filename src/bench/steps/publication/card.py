"""What a model's card says, gathered from the runs that made the model."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.dataset.prepared import read_manifest
from bench.errors import BenchError
from bench.models.checkpoint import ModelInfo
from bench.models.networks import find_networks
from bench.recipe.recipe import Recipe, RecipeMember
from bench.report.publication.model_card import CardData, CardModel, ModelCard, SplitScores
from bench.steps.scoring.score_files import SCORES_FILE, VALIDATION_FILE
from bench.tracking.datasets import find_used_dataset
from bench.tracking.queries import SOURCE_TAG, find_artifact, get_run
from bench.tracking.store import Store

log = logging.getLogger(__name__)

_SHORT_HASH = 12


@dataclass(frozen=True)
class _FoundDataset:
    """A data set as runs name it.

    Attributes:
        name: Its name.
        folder: Where it lies, or lay; None where no run says it.
        manifest: Its manifest; None where it is not there.
        missing: Why it is not there; empty where it is.
    """

    name: str
    folder: Path | None
    manifest: dict[str, Any] | None
    missing: str = ""


def make_card(
    store: Store,
    *,
    title: str,
    uri: str,
    recipe: Recipe,
    infos: Sequence[ModelInfo],
    scored_by: Sequence[str],
    warnings: Sequence[str],
    data: _FoundDataset,
) -> ModelCard:
    """Gathers what a card says.

    Args:
        store: The tracking store.
        title: What the model is called.
        uri: ``models:/NAME@champion``; empty where the reader has no store.
        recipe: How its networks become instances.
        infos: What each of its checkpoints says.
        scored_by: The runs that scored it; may be gone.
        warnings: What a reader of the scores must know.
        data: Its data set, by `find_manifest`.
    """
    members = zip(recipe.members, infos, strict=True)
    return ModelCard(
        title=title,
        uri=uri,
        recipe=recipe,
        models=[_describe_model(store, member, info) for member, info in members],
        data=_describe_data(recipe, data),
        scores=_read_scores(store, recipe, scored_by),
        warnings=warnings,
    )


def _describe_model(store: Store, member: RecipeMember, info: ModelInfo) -> CardModel:
    source = member.source
    if member.trained_run:
        try:
            source = get_run(store, member.trained_run).data.tags.get(SOURCE_TAG, "")
        except BenchError:
            log.info("what %s started from is not known: its run is gone", member.name)
    return CardModel(
        name=member.name,
        network=info.architecture,
        pixel_size_nm=info.input_pixel_size_nm,
        source=source,
        run=member.trained_run,
        weights_sha256=member.weights_sha256,
        terms=tuple(
            row.terms for row in find_networks(info.architecture, info.arguments) if row.terms
        ),
    )


def find_manifest(
    store: Store, recipe: Recipe, runs: Iterable[str], folder: Path | None = None
) -> _FoundDataset:
    """Finds the data set of a recipe, by its content hash.

    Args:
        store: The tracking store.
        recipe: The recipe.
        runs: Those that know where it was.
        folder: Where it lies; None: where these runs read it.
    """
    used = next((found for run in runs if run and (found := find_used_dataset(store, run))), None)
    place = folder or (used.folder if used else None)
    name = used.name if used else (place.name if place else recipe.dataset[:_SHORT_HASH])
    if place is None:
        return _FoundDataset(name, None, None, "no run says where it lies")
    try:
        manifest = read_manifest(place)
    except BenchError:
        return _FoundDataset(name, place, None, "no prepared dataset is where it should lie")
    if manifest["content_hash"] != recipe.dataset:
        return _FoundDataset(name, place, None, "another one is where it should lie")
    return _FoundDataset(name, place, manifest)


def _describe_data(recipe: Recipe, found: _FoundDataset) -> CardData:
    name, manifest = found.name, found.manifest
    if manifest is None:
        return CardData(name, recipe.dataset, recipe.pixel_size_nm, missing=found.missing)
    sections = Counter(entry["split"] for entry in manifest["sections"])
    instances = manifest["structures"].get(recipe.structure, {}).get("instances", {})
    splits = {split: (number, int(instances.get(split, 0))) for split, number in sections.items()}
    return CardData(
        name,
        recipe.dataset,
        recipe.pixel_size_nm,
        splits=splits,
        published=manifest.get("published", {}),
    )


def _read_scores(store: Store, recipe: Recipe, runs: Iterable[str]) -> list[SplitScores]:
    """The scores that runs keep by section; of splits that none has, the recipe's pooled ones."""
    found = {
        split: SplitScores(split, pooled)
        for split, pooled in (("val", recipe.validation), ("test", recipe.test))
        if pooled
    }
    for run in filter(None, runs):
        for name in (SCORES_FILE, VALIDATION_FILE):
            if (content := _read_file(store, run, name)) is not None:
                split = str(content["split"])
                found[split] = SplitScores(split, content["pooled"], content["sections"])
    return [found[split] for split in ("train", "val", "test") if split in found]


def _read_file(store: Store, run_id: str, name: str) -> dict[str, Any] | None:
    try:
        get_run(store, run_id)
        path = find_artifact(store, run_id, name)
    except BenchError as error:
        log.info("%s of a run is not known: %s", name, error)
        return None
    content: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path else None
    return content
