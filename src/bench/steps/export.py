"""Write instance labels for the program that a person corrects them in."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.config.data import ExportConfig, PrepareConfig
from bench.core.commands import shown_path
from bench.core.folders import move_to_free, partial_folder, sync_folder
from bench.core.progress import show_progress
from bench.dataset.prepared import SPLITS, PreparedDataset
from bench.errors import BenchError
from bench.export.formats import FORMATS
from bench.steps.saying import say_next
from bench.steps.serving.export_finding import find_export_subject
from bench.steps.serving.export_subject import ExportSubject
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)

# An export of more than this stays where it was written.
_LARGEST_ARTIFACTS_BYTES = 64 * 2**20
_ARTIFACTS = "export"
_MRC_ROWS = (
    "what was read from MRC is written as 3dmod and Fiji show the MRC, so that it fits there; "
    "programs that show the first stored row on top, such as napari with mrcfile, show the MRC "
    "mirrored against it"
)


def export(config: ExportConfig, store: Store | None = None) -> str:
    """Writes the labels and returns the id of the run that describes them.

    Raises:
        BenchError: If there are no such labels, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    check_free(output)
    subjects = _find_subjects(config, store)
    subject = subjects[0]
    for warning in subject.warnings:
        log.warning("warning: %s", warning)
    with contextlib.ExitStack() as stack:
        with explain_unwritable(output):
            folder = stack.enter_context(partial_folder(output))
            counts = write_labels(subjects, config.format, folder)
        # The run ends before the folder appears, so that what is killed between can be repeated.
        run = open_run(store, _identify(config, subjects))
        if not run.reused:
            with run:
                _log_export(run, config, subjects, counts, folder)
        with explain_unwritable(output):
            if not move_to_free(folder, output):
                check_free(output)
    _log_opening(subjects, config.format, counts, output)
    return run.id


def check_free(output: Path) -> None:
    """Raises BenchError if there is something in the place of an output."""
    if output.exists() or output.is_symlink():
        raise BenchError(
            f"output must be a new folder, received {output}, which exists and may hold "
            "corrections: choose another output, or remove it yourself"
        )


@contextlib.contextmanager
def explain_unwritable(output: Path) -> Iterator[None]:
    """Says for a block what is wrong where a folder cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BenchError(
            f"{output.parent} must be a folder that can be written, received {error.strerror!r} "
            f"for {error.filename}: give yourself permission, or choose another output"
        ) from error


def _find_subjects(config: ExportConfig, store: Store) -> list[ExportSubject]:
    """What a config names; of annotation in a format that joins them, every split by itself."""
    annotation = config.run_id in (AUTO, NONE) and config.input == NONE
    if not (FORMATS[config.format].together and annotation and config.split == AUTO):
        return [find_export_subject(config, store)]
    dataset = PreparedDataset.open(config.dataset)
    present = {entry["split"] for entry in dataset.manifest["sections"]}
    splits = [
        replace(config, split=split, structure=_structures_of(config, dataset, present))
        for split in SPLITS
        if split in present
    ]
    return [find_export_subject(each, store) for each in splits]


def _structures_of(config: ExportConfig, dataset: PreparedDataset, splits: set[str]) -> str:
    """The structures that are annotated in all splits, where the user names none."""
    if config.structure != AUTO:
        return config.structure
    annotated = [set(dataset.annotated(split)) for split in splits]
    common = [name for name in dataset.structures if all(name in found for found in annotated)]
    if not common:
        raise BenchError(
            f"a structure must be annotated in all of {', '.join(sorted(splits))}, received "
            f"{', '.join(dataset.structures)} in some of them only: export one split by -P split="
        )
    return ",".join(common)


def write_labels(subjects: list[ExportSubject], format: str, folder: Path) -> dict[str, int]:
    """Writes the labels to a folder, and returns the instances by structure.

    Sections of several sizes, or pixel sizes, go into folders named by them, but in a format that
    joins them.
    """
    row = FORMATS[format]
    counts = dict.fromkeys(subjects[0].structures, 0)
    groups = [(each, *group) for each in subjects for group in each.groups().items()]
    with show_progress("export") as advance:
        for done, (subject, group, names) in enumerate(groups, start=1):
            apart = len(groups) > 1 and not row.together
            part = folder / group if apart else folder
            part.mkdir(exist_ok=True)
            stack = subject.read_stack(names, bottom_first=row.bottom_first)
            row.write(stack, part)
            for structure, labels in stack.labels.items():
                counts[structure] += np.unique(labels[labels != 0]).size
            advance(done, len(groups), "")
    sync_folder(folder)
    return counts


def _log_opening(
    subjects: list[ExportSubject], format: str, counts: dict[str, int], output: Path
) -> None:
    subject, row = subjects[0], FORMATS[format]
    found = ", ".join(f"{count} {structure}" for structure, count in counts.items())
    log.info("exported %s of %s to %s", found, _name_splits(subjects), output)
    if any(image.bottom_first for each in subjects for image in each.images.values()):
        log.info(_MRC_ROWS)
    groups = subject.groups()
    apart = len(groups) > 1 and not row.together
    folders = [output / group for group in groups] if apart else [output]
    for folder in folders:
        purpose = "correct them" if row.corrected else "use them"
        log.info("to %s, %s", purpose, row.opening.format(folder=folder))
    if not row.corrected:
        return
    known = shown_path(subject.dataset.root) if subject.dataset else PrepareConfig.output
    settings = {"input": folders[0], "add_to": known, "output": f"{known}_corrected"}
    say_next("prepare", settings, "add them, once corrected, to the dataset of the model")


def _name_splits(subjects: list[ExportSubject]) -> str:
    return ", ".join(subject.split for subject in subjects)


def _identify(config: ExportConfig, subjects: list[ExportSubject]) -> Identity:
    subject = subjects[0]
    return Identity(
        "export",
        {
            "format": config.format,
            "split": _name_splits(subjects),
            "structures": subject.structures,
            **subject.settings,
        },
        subject.inputs,
        method=subject.method,
        structure=subject.structures[0] if len(subject.structures) == 1 else "",
        dataset=subject.dataset.content_hash if subject.dataset else "",
    )


def _log_export(
    run: Run,
    config: ExportConfig,
    subjects: list[ExportSubject],
    counts: dict[str, int],
    folder: Path,
) -> None:
    subject, splits = subjects[0], _name_splits(subjects)
    settings = vars(config) | {
        "run_id": subject.run_id or "none",
        "split": splits,
        "structure": ",".join(subject.structures),
    }
    if subject.dataset:
        describe_run(run, subject.dataset, config, settings, splits)
    else:
        run.log_settings(settings, config)
    run.keep_warnings(subject.warnings)
    place = subject.split if len(subjects) == 1 else "all"
    run.log_metrics({f"{place}/{name}/instances": n for name, n in counts.items()})
    log_written(run, folder, _ARTIFACTS)


def log_written(run: Run, folder: Path, artifacts: str) -> None:
    """Logs the files of a folder into one of the run's, unless they have more than 64 MB."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if sum(path.stat().st_size for path in files) > _LARGEST_ARTIFACTS_BYTES:
        log.info("the run has no copy of the files: they are larger than 64 MB")
        return
    for path in files:
        run.log_file(path, str(Path(artifacts) / path.parent.relative_to(folder)))
