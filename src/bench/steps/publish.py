"""Write a folder by which others can check a result, or check such a folder."""

import logging
from pathlib import Path

from bench.config.scoring import PublishConfig
from bench.core.files import check_output
from bench.core.folders import move_to_free, partial_folder, sync_folder
from bench.core.hashing import file_sha256
from bench.core.progress import say_while
from bench.report.publication.crate import CRATE_FILE
from bench.steps.export import check_free
from bench.steps.publication.check import CheckedPublication, check_published
from bench.steps.publication.folder import SUMS_FILE, write_published
from bench.steps.publication.subject import PublishSubject, find_publish_subject
from bench.steps.saying import say_next
from bench.tracking.opening import open_run
from bench.tracking.registry import CARD_FILE
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import NONE

log = logging.getLogger(__name__)


def publish(config: PublishConfig, store: Store | None = None) -> str:
    """Writes the folder, or checks one, and returns the id of the run that says so.

    The folder is the same, to the byte, whenever the same result is published by the same code and
    packages.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If there is no such result, its data set is asked for and not there, or the
            output exists; if what is checked is not as it was published.
    """
    if config.check != NONE:
        return _check(config, store or open_store())
    output = Path(config.output)
    check_free(output)
    check_output(output)
    store = store or open_store()
    subject = find_publish_subject(config, store)
    for gone in subject.gone:
        log.warning("warning: run %s, which the model names, is gone: it is left out", gone)
    if subject.manifest is None:
        log.warning("warning: of the data set only name and hash: %s", subject.card.data.missing)
    with partial_folder(output) as folder:
        with say_while(f"writing {output}"):
            write_published(subject, config, folder)
        sync_folder(folder)
        run = open_run(store, _identify(config, subject, folder))
        if not run.reused:
            with run:
                _log_published(run, config, subject, folder)
        if not move_to_free(folder, output):
            check_free(output)
    kept = "with" if config.images else "without"
    log.info("%s has the result and its metadata (RO-Crate 1.1), %s images", output, kept)
    say_next("publish", {"check": output}, "check it, as others would (give their dataset)")
    return run.id


def _identify(config: PublishConfig, subject: PublishSubject, folder: Path) -> Identity:
    return Identity(
        "publish",
        {"weights": config.weights, "images": config.images},
        {"files": file_sha256(folder / SUMS_FILE)},
        method=subject.model.method,
        structure=subject.recipe.structure,
        dataset=subject.recipe.dataset,
    )


def _log_published(run: Run, config: PublishConfig, subject: PublishSubject, folder: Path) -> None:
    run.log_settings(vars(config) | {"run_id": subject.model.model}, config)
    run.set_tags({"bench.dataset_name": subject.dataset_name})
    for name in (CARD_FILE, CRATE_FILE, SUMS_FILE):
        run.log_file(folder / name)


def _check(config: PublishConfig, store: Store) -> str:
    """Checks a folder; what was compared is in the run."""
    checked = check_published(Path(config.check), config.dataset, config.device)
    identity = Identity(
        "publish_check",
        {"check": config.check},
        {"files": file_sha256(Path(config.check) / SUMS_FILE)},
        structure=checked.recipe.structure,
        dataset=checked.recipe.dataset,
    )
    run = open_run(store, identity, reuse=False)
    with run:
        run.log_settings(vars(config), config)
        found = checked.differences.items()
        run.log_metrics({f"{split}/largest_difference": each for split, each in found})
        _say_checked(checked, config)
    return run.id


def _say_checked(checked: CheckedPublication, config: PublishConfig) -> None:
    log.info("%s: all files are as they were published", config.check)
    if checked.dataset is not None:
        content = checked.recipe.dataset[:12]
        log.info("%s is the data set of the result, content %s", checked.dataset.root, content)
    for split, difference in checked.differences.items():
        log.info("%s: scores come out as published, to %.6f", split, difference)
    if checked.skipped:
        log.warning("warning: scores were not computed anew: %s", checked.skipped)
