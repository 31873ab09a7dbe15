"""Write instance labels for the program that a person corrects them in."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.config.data import ExportConfig, PrepareConfig
from bench.core.commands import shown_path
from bench.core.folders import move_to_free, partial_folder, sync_folder
from bench.core.progress import show_progress
from bench.errors import BenchError
from bench.export.formats import FORMATS
from bench.steps.ending import say_next
from bench.steps.serving.export_finding import find_export_subject
from bench.steps.serving.export_subject import ExportSubject
from bench.steps.used_data import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store

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
    subject = find_export_subject(config, store)
    for warning in subject.warnings:
        log.warning("warning: %s", warning)
    with contextlib.ExitStack() as stack:
        with explain_unwritable(output):
            folder = stack.enter_context(partial_folder(output))
            counts = write_labels(subject, config.format, folder)
        # The run ends before the folder appears, so that what is killed between can be repeated.
        run = open_run(store, _identify(config, subject))
        if not run.reused:
            with run:
                _log_export(run, config, subject, counts, folder)
        with explain_unwritable(output):
            if not move_to_free(folder, output):
                check_free(output)
    _log_opening(subject, config.format, counts, output)
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


def write_labels(subject: ExportSubject, format: str, folder: Path) -> dict[str, int]:
    """Writes the labels to a folder, and returns the instances by structure.

    Sections of several sizes, or pixel sizes, go into folders named by them.
    """
    counts = dict.fromkeys(subject.structures, 0)
    groups = subject.groups()
    with show_progress("export") as advance:
        for done, (group, names) in enumerate(groups.items(), start=1):
            part = folder / group if len(groups) > 1 else folder
            part.mkdir(exist_ok=True)
            stack = subject.read_stack(names, bottom_first=FORMATS[format].bottom_first)
            FORMATS[format].write(stack, part)
            for structure, labels in stack.labels.items():
                counts[structure] += np.unique(labels[labels != 0]).size
            advance(done, len(groups), "")
    sync_folder(folder)
    return counts


def _log_opening(subject: ExportSubject, format: str, counts: dict[str, int], output: Path) -> None:
    found = ", ".join(f"{count} {structure}" for structure, count in counts.items())
    log.info("exported %s of %s to %s", found, subject.split, output)
    if any(image.bottom_first for image in subject.images.values()):
        log.info(_MRC_ROWS)
    groups = subject.groups()
    folders = [output / group for group in groups] if len(groups) > 1 else [output]
    for folder in folders:
        log.info("to correct them, %s", FORMATS[format].opening.format(folder=folder))
    known = shown_path(subject.dataset.root) if subject.dataset else PrepareConfig.output
    settings = {"input": folders[0], "add_to": known, "output": f"{known}_corrected"}
    say_next("prepare", settings, "add them, once corrected, to the dataset of the model")


def _identify(config: ExportConfig, subject: ExportSubject) -> Identity:
    return Identity(
        "export",
        {
            "format": config.format,
            "split": subject.split,
            "structures": subject.structures,
            **subject.settings,
        },
        subject.inputs,
        method=subject.method,
        structure=subject.structures[0] if len(subject.structures) == 1 else "",
        dataset=subject.dataset.content_hash if subject.dataset else "",
    )


def _log_export(
    run: Run, config: ExportConfig, subject: ExportSubject, counts: dict[str, int], folder: Path
) -> None:
    settings = vars(config) | {
        "run_id": subject.run_id or "none",
        "split": subject.split,
        "structure": ",".join(subject.structures),
    }
    if subject.dataset:
        describe_run(run, subject.dataset, config, settings, subject.split)
    else:
        run.log_settings(settings, config)
    run.keep_warnings(subject.warnings)
    run.log_metrics({f"{subject.split}/{name}/instances": n for name, n in counts.items()})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if sum(path.stat().st_size for path in files) > _LARGEST_ARTIFACTS_BYTES:
        log.info("the run has no copy of the files: they are larger than 64 MB")
        return
    for path in files:
        run.log_file(path, str(Path(_ARTIFACTS) / path.parent.relative_to(folder)))
