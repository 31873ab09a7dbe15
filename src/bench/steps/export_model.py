"""Write a champion as a model of bioimage.io, for people and programs without this suite."""

import dataclasses
import datetime
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.config.data import ExportModelConfig
from bench.config.running import SegmentConfig
from bench.core.commands import shown_path
from bench.core.folders import move_to_free, partial_folder, sync_folder
from bench.errors import BenchError
from bench.handover.checking import check_by_package, compare_script
from bench.handover.citations import ZOO, cite_networks
from bench.handover.contents import HandoverModel, choose_contents
from bench.handover.description import Credits
from bench.handover.documentation import Provenance, write_documentation
from bench.handover.folder import DESCRIPTION_FILE, write_model_folder
from bench.steps.export import check_free, explain_unwritable, log_written
from bench.steps.segmented_names import OUTPUT_TAG
from bench.steps.serving.handover_window import HandoverWindow, cut_window
from bench.steps.serving.model_origin import find_origin
from bench.steps.serving.subject import SegmentSubject, find_segment_subject
from bench.tracking.datasets import find_used_dataset
from bench.tracking.opening import open_run
from bench.tracking.registry import SCHEME
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)

_ARTIFACTS = "model"
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_AUTHOR = re.compile(r"(?P<name>[^()]+?)\s*(?:\((?P<at>[^()]+)\))?")
# What bioimage.io lets a name have.
_NOT_IN_NAMES = re.compile(r"[^\w+\- ()]+", re.ASCII)
_NAMELESS = (
    "the description names no author but 'unknown': give -P authors='NAME (AFFILIATION)' before "
    "the model is uploaded"
)
_UNLICENSED = (
    "the description has no licence, without which nobody may use the model: give -P licence= with "
    "an SPDX identifier such as CC-BY-4.0, as the terms of the training images allow it"
)


@dataclass(frozen=True)
class _Task:
    config: ExportModelConfig
    subject: SegmentSubject
    model: HandoverModel
    made_by: Credits
    provenance: Provenance
    window: HandoverWindow

    @property
    def warnings(self) -> list[str]:
        """What who uploads the model must know."""
        said = [_NAMELESS] if self.config.authors == AUTO else []
        return [*said, *([] if self.made_by.licence else [_UNLICENSED])]


def export_model(config: ExportModelConfig, store: Store | None = None) -> str:
    """Writes the model, tests it as those who receive it do, and returns the run's id.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If there is no such model, it cannot be handed over, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    check_free(output)
    task = _resolve_task(config, store)
    with open_run(store, _identify(task), reuse=False) as run:
        _describe(run, task)
        with explain_unwritable(output), partial_folder(output) as folder:
            document = partial(write_documentation, task.made_by.name, task.model, task.provenance)
            write_model_folder(folder, task.model, task.made_by, document, task.window.pixels)
            differences = compare_script(folder, task.model)
            if config.check:
                differences |= check_by_package(folder, task.model)
            _log_result(run, folder, differences)
            sync_folder(folder)
            if not move_to_free(folder, output):
                check_free(output)
    said = ", ".join(f"{name} {value:.1g}" for name, value in differences.items())
    tested = "passed" if config.check else "without"
    log.info("%s the test of bioimageio.core; largest difference from ours: %s", tested, said)
    log.info(
        "one file of it: bioimageio package %s model.zip", shown_path(output / DESCRIPTION_FILE)
    )
    return run.id


def _resolve_task(config: ExportModelConfig, store: Store) -> _Task:
    authors, citations = _parse_authors(config.authors), _parse_citations(config.cite)
    chosen = SegmentConfig(
        structure=config.structure, run_id=config.run_id, augmentations=config.augmentations
    )
    subject = find_segment_subject(chosen, store)
    member = "" if config.member == NONE else config.member
    model = choose_contents(subject.recipe, subject.infos, subject.weights, member)
    origin = find_origin(subject, store)
    used = find_used_dataset(store, subject.trained_on)
    window = cut_window(config, model, used)
    structure, made_on = model.recipe.structure, origin.describe()
    name = config.name
    if name == AUTO:
        name = f"{structure} in electron micrographs ({origin.dataset})"
    made_by = Credits(
        name=_NOT_IN_NAMES.sub(" ", name).strip(),
        description=f"Finds {structure} in electron micrographs, {made_on}.",
        authors=authors,
        licence="" if config.licence == NONE else config.licence,
        citations=[*citations, *cite_networks(model), ZOO],
        timestamp=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    named_by = subject.model if subject.model.startswith(SCHEME) else f"run {subject.model}"
    provenance = Provenance(named_by, made_on, window.origin, subject.warnings)
    return _Task(config, subject, model, made_by, provenance, window)


def _parse_authors(text: str) -> list[tuple[str, str]]:
    """Reads ``NAME (AFFILIATION); NAME`` as names with their affiliations."""
    if text == AUTO:
        return [("unknown", "")]
    found = []
    for part in text.split(";"):
        match = _AUTHOR.fullmatch(part.strip())
        if match is None or "/" in match["name"]:
            raise BenchError(
                f"authors must be NAME or NAME (AFFILIATION), separated by semicolons, received "
                f"{part.strip()!r} in {text!r}"
            )
        found.append((match["name"], match["at"] or ""))
    return found


def _parse_citations(text: str) -> list[tuple[str, str]]:
    """Reads ``TEXT 10.1234/abc; 10.5678/def`` as texts, each with its DOI."""
    found = []
    for part in [] if text == NONE else text.split(";"):
        match = _DOI.search(part)
        if match is None:
            raise BenchError(
                f"cite must have a DOI (10.NNNN/...) for each work, separated by semicolons, "
                f"received {part.strip()!r}"
            )
        doi = match[0].rstrip(".,)")
        said = re.sub(r"\b(doi:?)?\s*$", "", part[: match.start()].strip(" ,(")).strip(" ,(")
        found.append((said or doi, doi))
    return found


def _identify(task: _Task) -> Identity:
    recipe = dataclasses.replace(task.model.recipe, validation={}, test={})
    return Identity(
        step="export_model",
        settings={"recipe": recipe},
        inputs={"model": task.subject.model},
        method=task.subject.method,
        structure=recipe.structure,
        dataset=recipe.dataset,
        seed=task.subject.seed,
        labelled=task.subject.labelled,
    )


def _describe(run: Run, task: _Task) -> None:
    recipe = task.model.recipe
    settings = vars(task.config) | {
        "run_id": task.subject.model,
        "structure": recipe.structure,
        "members": [member.name for member in recipe.members],
        "recipe": recipe.describe(),
        "test_image": task.window.origin,
        "window_px": task.model.window_px,
        "channels": list(task.model.channels),
    }
    run.log_settings(settings, task.config)
    output = str(Path(task.config.output).absolute())
    run.set_tags({"bench.model_run": task.subject.model, OUTPUT_TAG: output})
    run.log_datasets_of(task.subject.trained_on, "model")
    run.keep_warnings(task.subject.warnings)
    for warning in task.warnings:
        log.warning("warning: %s", warning)


def _log_result(run: Run, folder: Path, differences: dict[str, float]) -> None:
    run.log_metrics(
        {f"export_model/difference_{name}": value for name, value in differences.items()}
    )
    log_written(run, folder, _ARTIFACTS)
