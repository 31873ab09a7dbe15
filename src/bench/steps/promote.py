"""Register the best combination of a structure as its champion."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bench.config.running import SegmentConfig
from bench.config.scoring import PromoteConfig
from bench.core.version import code_version
from bench.errors import BenchError
from bench.metrics.table import HEADLINE, find_metric
from bench.models.checkpoint import load_info
from bench.models.networks import find_networks
from bench.models.plugins import plugins_of
from bench.recipe.recipe import Recipe, write_recipe_folder
from bench.report.publication.model_card import ModelCard, find_interval, write_card
from bench.report.variants import combination_name
from bench.steps.publication.card import find_manifest, make_card
from bench.steps.saying import say_next
from bench.steps.scoring.recipes import FoundRecipe, fetch_searched, refuse_oracle
from bench.structures import find_structure
from bench.tracking.datasets import find_used_dataset
from bench.tracking.evaluations import find_search
from bench.tracking.opening import open_run
from bench.tracking.queries import scratch_folder
from bench.tracking.registry import (
    CARD_FILE,
    CHAMPION,
    DATASET_NAME_TAG,
    RECIPE_TAG,
    SCHEME,
    RegisteredModel,
    find_champion,
    find_version,
    model_name,
    register_champion,
    set_champion,
)
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, experiment_id_of, open_store
from bench.words import AUTO

# What the store takes of a tag of a version.
_LONGEST_TAG = 4000
_SHORT_HASH = 12
log = logging.getLogger(__name__)


def _list_scores(recipe: Recipe) -> dict[str, float]:
    splits = {"val": recipe.validation, "test": recipe.test}
    return {
        f"{split}/{name}": float(value)
        for split, scores in splits.items()
        for name, value in scores.items()
    }


def _version_tags(found: FoundRecipe, dataset_name: str, sha256: str) -> dict[str, str]:
    recipe = found.recipe
    tags = {
        RECIPE_TAG: sha256,
        "bench.structure": recipe.structure,
        "bench.dataset": recipe.dataset,
        DATASET_NAME_TAG: dataset_name,
        "bench.metric": recipe.metric,
        "bench.search": found.run_id,
        "bench.members": ",".join(m.trained_run or m.source for m in recipe.members),
        "bench.code": code_version(),
        "bench.warning": "\n".join(found.warnings)[:_LONGEST_TAG],
    }
    tags |= {name: repr(value) for name, value in _list_scores(recipe).items()}
    return {name: value for name, value in tags.items() if value}


def _write_description(card: ModelCard, dataset_name: str, search: str) -> str:
    """The page of a version: the card in short, which is among its files."""
    recipe = card.recipe
    size = "unknown" if recipe.pixel_size_nm is None else f"{recipe.pixel_size_nm:g} nm"
    lines = [
        f"Segments {recipe.structure}: {recipe.describe()}.",
        "",
        *_describe_scores(card),
        f"- chosen by val/{recipe.metric} on dataset {dataset_name} ({recipe.dataset[:12]}), "
        f"pixel size {size}",
        f"- search: run {search}",
    ]
    for member in recipe.members:
        made_by = f"run {member.trained_run}" if member.trained_run else member.source
        lines.append(f"- model {member.name}: {made_by}")
    lines.append(f"- {CARD_FILE} among its files: data, limits, licences, how to use it")
    return "\n".join(lines)


def _describe_scores(card: ModelCard) -> list[str]:
    """A line for each score that matters, with its interval where sections are known."""
    scores, lines = _list_scores(card.recipe), []
    for split in ("val", "test"):
        kept = next((each for each in card.scores if each.split == split), None)
        for metric in dict.fromkeys((card.recipe.metric, HEADLINE)):
            if f"{split}/{metric}" not in scores:
                continue
            interval, rests = find_interval(kept, metric, card.unit) if kept else (None, "")
            within = ""
            if interval:
                low, high = interval
                within = f" (95 % interval of a {card.unit}'s {low:.4f} to {high:.4f}, {rests})"
            lines.append(f"- {split}/{metric}: {scores[f'{split}/{metric}']:.4f}{within}")
    return lines


@dataclass(frozen=True)
class _Task:
    """What is promoted, and against whom.

    The hashes are that of the recipe, and that by which earlier versions registered it.
    """

    found: FoundRecipe
    dataset_name: str
    hashes: tuple[str, str]
    registered: RegisteredModel | None
    champion: RegisteredModel | None

    @property
    def recipe(self) -> Recipe:
        return self.found.recipe

    @property
    def sha256(self) -> str:
        return self.hashes[0]

    @property
    def of_other_data(self) -> bool:
        """Whether the champion was chosen on other data."""
        return self.champion is not None and self.champion.dataset != self.recipe.dataset


def promote(config: PromoteConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Makes the recipe of a search the champion of its structure, and returns the run's id.

    A recipe is registered once: doing it again changes nothing, and says so.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If there is no recipe, its weights are gone, or the champion is better, or was
            made on other data of the same name.
    """
    store = store or open_store()
    task = _resolve_task(config, store)
    _check_challenge(task, replace=config.replace)
    run = open_run(store, _identify(task), parent=parent)
    if run.reused and task.registered is None:
        # Its version was deleted from the registry.
        run = open_run(store, _identify(task), parent=parent, reuse=False)
    if run.reused:
        champion = _crown(store, task, task.registered)
    else:
        with run:
            _describe(run, config, task)
            champion = _crown(store, task, task.registered or _register(run, task))
    images = {"run_id": champion.champion_uri, "input": "IMAGES", "output": SegmentConfig.output}
    say_next("segment", images, "segment images of yours with it")
    return run.id


def _resolve_task(config: PromoteConfig, store: Store) -> _Task:
    structure = find_structure(config.structure).name
    run_id = config.run_id
    if run_id == AUTO:
        run_id = find_search(store, experiment_id_of(store, config.experiment), structure)
        log.info("promote %s: the newest finished search is run %s", structure, run_id)
    found = fetch_searched(store, run_id)
    if found.recipe.structure != structure:
        raise BenchError(
            f"run {found.run_id} searched {found.recipe.structure}, received structure="
            f"{structure}: give structure={found.recipe.structure}, or another run"
        )
    for member in found.recipe.members:
        refuse_oracle(member.method, "be a champion")
    hashes = found.recipe.hashes()
    dataset = found.recipe.dataset
    used = find_used_dataset(store, found.run_id)
    dataset_name = used.name if used else dataset[:_SHORT_HASH]
    champion = find_champion(store, structure, dataset_name, dataset)
    if champion and champion.tags.get(RECIPE_TAG) in hashes:
        return _Task(found, dataset_name, hashes, champion, champion)
    name = model_name(structure, dataset_name)
    known = (find_version(store, name, sha256) for sha256 in hashes)
    registered = next((model for model in known if model), None)
    return _Task(found, dataset_name, hashes, registered, champion)


def _check_challenge(task: _Task, *, replace: bool) -> None:
    if task.of_other_data and not replace:
        assert task.champion is not None
        raise BenchError(
            f"a champion stays with its data, received run {task.found.run_id} of data set "
            f"{task.dataset_name} {task.recipe.dataset[:_SHORT_HASH]}, and {task.champion.uri} was "
            f"made on {task.champion.dataset[:_SHORT_HASH]} of the same name: give replace=true to "
            "replace it, or prepare the data into a folder of another name"
        )
    scores = _compare_scores(task)
    if scores is None:
        return
    ours, theirs = scores
    assert task.champion is not None
    log.info("val/%s: challenger %.4f, champion %.4f", task.recipe.metric, ours, theirs)
    if find_metric(task.recipe.metric).merit(ours - theirs) < 0 and not replace:
        raise BenchError(
            f"a champion is replaced by a better one, received run {task.found.run_id} with "
            f"val/{task.recipe.metric} {ours:.4f} and {task.champion.uri} has {theirs:.4f}: give "
            "replace=true to replace it all the same"
        )


def _compare_scores(task: _Task) -> tuple[float, float] | None:
    """Validation scores of challenger and champion; None where they cannot be compared."""
    champion, recipe = task.champion, task.recipe
    key = f"val/{recipe.metric}"
    if champion is None or champion.tags.get(RECIPE_TAG) in task.hashes:
        return None
    if task.of_other_data or key not in champion.tags:
        log.info("%s was chosen on other data: no scores to compare", champion.uri)
        return None
    return float(recipe.validation[recipe.metric]), float(champion.tags[key])


def _identify(task: _Task) -> Identity:
    return Identity(
        step="promote",
        settings={"recipe": task.sha256},
        inputs={"search": task.found.run_id},
        method=combination_name(task.recipe.metric),
        structure=task.recipe.structure,
        dataset=task.recipe.dataset,
    )


def _describe(run: Run, config: PromoteConfig, task: _Task) -> None:
    found, recipe = task.found, task.recipe
    run.log_settings(
        vars(config)
        | {
            "structure": recipe.structure,
            "search": found.run_id,
            "members": ", ".join(member.name for member in recipe.members),
            "recipe": recipe.describe(),
            "metric": recipe.metric,
        },
        config,
    )
    run.set_tags(
        {
            "bench.search": found.run_id,
            "bench.recipe.recipe": recipe.describe(),
            DATASET_NAME_TAG: task.dataset_name,
        }
    )
    run.log_datasets_of(found.run_id, "champion")
    run.keep_warnings(found.warnings)
    scores = _compare_scores(task)
    if scores is not None:
        names = ("promote/challenger", "promote/champion")
        run.log_metrics(dict(zip(names, scores, strict=True)))


def _register(run: Run, task: _Task) -> RegisteredModel:
    recipe = task.recipe
    infos = [load_info(path) for path in task.found.weights]
    networks = [row for info in infos for row in find_networks(info.architecture, info.arguments)]
    name = model_name(recipe.structure, task.dataset_name)
    card = make_card(
        run.store,
        title=name,
        uri=f"{SCHEME}{name}@{CHAMPION}",
        recipe=recipe,
        infos=infos,
        scored_by=[task.found.run_id],
        warnings=task.found.warnings,
        data=find_manifest(run.store, recipe, [task.found.run_id]),
    )
    text = write_card(card)
    run.log_text(text, CARD_FILE)
    with scratch_folder() as scratch:
        folder = Path(scratch) / "recipe"
        write_recipe_folder(folder, recipe, task.found.weights)
        return register_champion(
            run,
            folder,
            structure=recipe.structure,
            dataset_name=task.dataset_name,
            pixel_size_nm=recipe.pixel_size_nm,
            packages={package for network in networks for package in network.packages},
            plugins=plugins_of(network.name for network in networks),
            scores=_list_scores(recipe),
            tags=_version_tags(task.found, task.dataset_name, task.sha256),
            description=_write_description(card, task.dataset_name, task.found.run_id),
            card=text,
        )


def _crown(store: Store, task: _Task, model: RegisteredModel | None) -> RegisteredModel:
    assert model is not None
    same = task.champion is not None and task.champion.uri == model.uri
    if same:
        log.info("%s has this recipe and is the champion: nothing new is registered", model.uri)
        return model
    set_champion(store, model)
    known = "registered before" if task.registered else "registered"
    before = f", in place of {task.champion.uri}" if task.champion else ""
    log.info("%s, %s, is now %s@%s%s", model.uri, known, model.name, CHAMPION, before)
    return model
