"""Write instance labels for the program that a person corrects them in."""

import errno
import logging
from pathlib import Path

import numpy as np

from bench.config import ExportConfig
from bench.data.export.formats import FORMATS
from bench.data.replacing import move_to_free, partial_folder, sync_folder
from bench.errors import BenchError
from bench.steps.export_subject import Subject, find_subject
from bench.steps.progress import show_progress
from bench.steps.training_run import describe_run
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)

# An export of more than this stays where it was written.
LARGEST_ARTIFACTS_BYTES = 64 * 2**20
ARTIFACTS = "export"


def export(config: ExportConfig, store: Store | None = None) -> str:
    """Writes the labels and returns the id of the run that describes them.

    Raises:
        BenchError: If there are no such labels, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    check_free(output)
    subject = find_subject(config, store)
    counts = write_export(subject, config.format, output)
    run = open_run(store, identify(config, subject))
    if not run.reused:
        with run:
            log_export(run, config, subject, counts)
    return run.id


def check_free(output: Path) -> None:
    """Raises BenchError if there is something in the place of an output."""
    if output.exists() or output.is_symlink():
        raise BenchError(
            f"output must be a new folder, received {output}, which exists and may hold "
            "corrections: choose another output, or remove it yourself"
        )


def write_export(subject: Subject, format: str, output: Path) -> dict[str, int]:
    """Writes the folder, whole or not at all, and returns the instances by structure.

    Sections of several sizes go into folders named by them.
    """
    counts = dict.fromkeys(subject.structures, 0)
    sizes = subject.sizes()
    try:
        with partial_folder(output) as folder, show_progress("export") as advance:
            for done, (size, names) in enumerate(sizes.items(), start=1):
                part = folder_of(folder, size, several=len(sizes) > 1)
                part.mkdir(exist_ok=True)
                stack = subject.read_stack(names)
                FORMATS[format].write(stack, part)
                for structure, labels in stack.labels.items():
                    counts[structure] += np.unique(labels[labels != 0]).size
                advance(done, len(sizes), "")
            sync_folder(folder)
            if not move_to_free(folder, output):
                check_free(output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BenchError(
            f"{output.parent} must be a folder that can be written, received {error.strerror!r} "
            f"for {error.filename}: give yourself permission, or choose another output"
        ) from error
    found = ", ".join(f"{count} {structure}" for structure, count in counts.items())
    log.info("exported %s of %s to %s", found, subject.split, output)
    for size in sizes:
        part = folder_of(output, size, several=len(sizes) > 1)
        log.info("to correct them, %s", FORMATS[format].opening.format(folder=part))
    return counts


def folder_of(folder: Path, size: tuple[int, int], *, several: bool) -> Path:
    """The folder of the sections of a size (height, width)."""
    return folder / f"{size[1]}x{size[0]}" if several else folder


def identify(config: ExportConfig, subject: Subject) -> Identity:
    """The identity of an export: the labels and the format."""
    return Identity(
        "export",
        {"format": config.format, "split": subject.split, "structures": subject.structures},
        {"evaluation": subject.run_id},
        method=subject.method,
        structure=subject.structures[0] if len(subject.structures) == 1 else "",
        dataset=subject.dataset.content_hash,
    )


def log_export(run: Run, config: ExportConfig, subject: Subject, counts: dict[str, int]) -> None:
    """Logs what was exported, with the files themselves where they are small."""
    settings = vars(config) | {
        "run_id": subject.run_id or "none",
        "split": subject.split,
        "structure": ",".join(subject.structures),
    }
    describe_run(run, subject.dataset, settings, subject.split)
    run.log_metrics({f"{subject.split}/{name}/instances": n for name, n in counts.items()})
    output = Path(config.output)
    files = sorted(path for path in output.rglob("*") if path.is_file())
    if sum(path.stat().st_size for path in files) > LARGEST_ARTIFACTS_BYTES:
        log.info("the run has no copy of the files: they are larger than 64 MB")
        return
    for path in files:
        run.log_file(path, str(Path(ARTIFACTS) / path.parent.relative_to(output)))
