"""Say which images, or pieces of montages, to annotate next, and draw on them what models find."""

import logging
from collections.abc import Sequence
from pathlib import Path

from bench.advice.choosing import choose_pieces
from bench.advice.pieces import describe_look
from bench.config.advice import SuggestConfig
from bench.core.folders import unfinished_folder
from bench.dataset.prepared import PreparedDataset
from bench.steps.advice.asking import (
    AskedModel,
    ask_models,
    find_models,
    hash_models,
    read_asked,
)
from bench.steps.advice.curve import find_forecast
from bench.steps.advice.output import begin_content, open_annotated, publish_content
from bench.steps.advice.pool import Pool, list_candidates
from bench.steps.advice.predrawing import list_learned, prepare_drawing
from bench.steps.advice.suggest_report import (
    Suggestions,
    log_suggestions,
    say_suggestions,
    write_suggestions,
)
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)


def suggest(config: SuggestConfig, store: Store | None = None) -> str:
    """Suggests what to annotate and returns the id of the run.

    Killed, the same command goes on with the next image.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If there is no model or no image, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    dataset, structure = open_annotated(config)
    models = find_models(config, store, structure, dataset.content_hash)
    pool = list_candidates(config, dataset)
    if len(models) == 1:
        log.warning(
            "warning: one model cannot disagree: pieces are ranked by how undecided it is; two "
            "seeds or methods say more"
        )
    identity = Identity(
        "suggest",
        config.identity(),
        {"images": pool.sha256, **hash_models(models)},
        structure=structure,
        dataset=dataset.content_hash,
    )
    with (
        unfinished_folder(output, identity.fingerprint()) as folder,
        open_run(store, identity, reuse=False) as run,
    ):
        asked = [each.run_id for each in models]
        settings = vars(config) | {"structure": structure, "models": ",".join(asked)}
        describe_run(run, dataset, config, settings, "annotated")
        result = _rank(config, dataset, structure, models, pool, folder / "asked", store)
        content = begin_content(folder)
        write_suggestions(config, result, content)
        log_suggestions(run, result, content)
        publish_content(folder, content, output)
    say_suggestions(config, result, dataset)
    return run.id


def _rank(
    config: SuggestConfig,
    dataset: PreparedDataset,
    structure: str,
    models: Sequence[AskedModel],
    pool: Pool,
    folder: Path,
    store: Store,
) -> Suggestions:
    """Asks the models, and ranks all pieces."""
    files = ask_models(config, models, structure, pool, folder)
    looks, disagreements = [], []
    for name, pieces in pool.pieces.items():
        found = read_asked(files[name])
        looks += list(found.looks)
        disagreements += [float(found.disagreement[each.view].mean()) / 255 for each in pieces]
    learned = list_learned(dataset, structure)
    known = [describe_look(dataset.read_raw(name)) for name in learned]
    return Suggestions(
        structure,
        [piece for pieces in pool.pieces.values() for piece in pieces],
        disagreements,
        choose_pieces(looks, disagreements, known, len(looks)),
        prepare_drawing(config, dataset, structure, pool, files, store),
        models,
        find_forecast(store, dataset, structure, config.budget),
    )
