"""What happens around the window: labels are found, saved as an annotation, and the run says so."""

import logging
from pathlib import Path

import pandas as pd

from bench.config.data import CorrectConfig, PrepareConfig
from bench.core.commands import shown_path
from bench.core.folders import move_to_free, partial_folder, replace_folder, sync_folder
from bench.core.hashing import path_sha256
from bench.core.progress import shows_itself
from bench.correction.changes import EditCounts
from bench.correction.session import CHANGE_COLUMNS, Correction
from bench.errors import BenchError, unknown_name
from bench.export.sphere_table import SPHERES_FILE
from bench.steps.export import check_free, explain_unwritable
from bench.steps.saying import say_next
from bench.steps.segmented_names import OUTPUT_TAG
from bench.steps.serving.export_finding import find_export_subject
from bench.steps.serving.export_subject import ExportSubject
from bench.steps.used_data import log_used_dataset
from bench.tracking.opening import name_adopted, open_run
from bench.tracking.queries import scratch_folder
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import AUTO

log = logging.getLogger(__name__)

_CHANGES = "changes.csv"
# Splits whose sections are trained on by nothing.
_JUDGING = ("val", "test")


def correct_labels(config: CorrectConfig, store: Store | None = None) -> str:
    """Opens the window on what a config names; returns the run's id, or none if nothing was saved.

    Raises:
        BenchError: If there are no such labels, or the output exists.
    """
    # Here, as it is Qt that takes long to load.
    from bench.correction.window import open_window

    store = store or open_store()
    output = Path(config.output)
    check_free(output)
    subject = find_export_subject(config, store)
    correction, names = _read_correction(subject, config.volume)
    log.info("%d sections are opened; W saves, closing the window ends", len(names))
    saved = _Saving(correction, output)
    with shows_itself():
        open_window(correction, saved.save)
    if not saved.done:
        name_adopted("correct")
        log.info("nothing was saved: %s was not written", output)
        return ""
    identity = _identify(subject, names, output)
    with open_run(store, identity, reuse=False) as run:
        _record(run, config, subject, saved)
    log.info("corrected: %s, in %s", saved.total, output)
    _say_preparing(subject, output)
    return run.id


def _read_correction(subject: ExportSubject, volume: str) -> tuple[Correction, list[str]]:
    """Reads what is to be corrected.

    Args:
        subject: All labels that were found.
        volume: Name of a volume, of a size of sections, or of a section; ``auto`` is the only one.

    Returns:
        The correction, and the names of its sections.

    Raises:
        BenchError: If there is no such volume, or several to choose from.
    """
    groups = subject.groups()
    if volume == AUTO and len(groups) > 1:
        raise BenchError(
            f"one volume at a time is corrected, received {len(groups)}: give -P volume= with one "
            f"of {', '.join(groups)}"
        )
    if volume == AUTO:
        (names,) = groups.values()
    elif volume in groups:
        names = groups[volume]
    elif volume in subject.images and not subject.images[volume].volume:
        names = [volume]
    else:
        raise unknown_name("volume", volume, groups)
    stack = subject.read_stack(names)
    bottom_first = subject.images[names[0]].bottom_first
    return Correction.begin(stack, bottom_first=bottom_first), names


class _Saving:
    """Saves a correction, again and again, to one folder.

    Attributes:
        correction: What is corrected.
        output: The folder.
        counts: What was done, by structure, when it was saved last; empty if it never was.
        changes: The objects that were otherwise than before then.
    """

    def __init__(self, correction: Correction, output: Path) -> None:
        """Nothing is written yet."""
        self.correction, self.output = correction, output
        self.counts: dict[str, EditCounts] = {}
        self.changes: list[dict[str, object]] = []

    @property
    def done(self) -> bool:
        """Whether it was saved."""
        return bool(self.counts)

    @property
    def total(self) -> EditCounts:
        """What was done to all structures."""
        return sum(self.counts.values(), EditCounts())

    def save(self) -> str:
        """Saves; the folder is the old or the new one at any moment. Returns what to say of it."""
        with explain_unwritable(self.output), partial_folder(self.output) as folder:
            self.correction.write(folder)
            sync_folder(folder)
            if self.done:
                replace_folder(folder, self.output)
            elif not move_to_free(folder, self.output):
                check_free(self.output)
        self.counts, self.changes = self.correction.counts(), self.correction.list_changes()
        self.correction.mark_saved()
        said = f"saved in {shown_path(self.output)}: {self.total}"
        log.info("%s", said)
        return said


def _identify(subject: ExportSubject, names: list[str], output: Path) -> Identity:
    """What a person did is in what was saved: its hash stands for that."""
    structures = subject.structures
    return Identity(
        "correct",
        {"sections": names, "structures": structures, **subject.settings},
        {**subject.inputs, "corrected": path_sha256(output)},
        method=subject.method,
        structure=structures[0] if len(structures) == 1 else "",
        dataset=subject.dataset.content_hash if subject.dataset else "",
    )


def _record(run: Run, config: CorrectConfig, subject: ExportSubject, saved: _Saving) -> None:
    settings = vars(config) | {
        "run_id": subject.run_id or "none",
        "volume": saved.correction.stack.volume or config.volume,
        "split": subject.split,
        "structure": ",".join(subject.structures),
    }
    run.log_settings(settings, config)
    run.set_tags({OUTPUT_TAG: str(saved.output.absolute())})
    if subject.dataset:
        log_used_dataset(run, subject.dataset, subject.split)
    run.keep_warnings(subject.warnings)
    counts = {"correct/": saved.total}
    if len(saved.counts) > 1:
        counts |= {f"correct/{name}/": found for name, found in saved.counts.items()}
    for name, found in counts.items():
        run.log_metrics({f"{name}{kind}": number for kind, number in vars(found).items()})
    with scratch_folder() as scratch:
        table = Path(scratch) / _CHANGES
        pd.DataFrame(saved.changes, columns=CHANGE_COLUMNS).to_csv(table, index=False)
        run.log_file(table)
    if (saved.output / SPHERES_FILE).is_file():
        run.log_file(saved.output / SPHERES_FILE)


def _say_preparing(subject: ExportSubject, output: Path) -> None:
    if subject.split in _JUDGING:
        log.info(
            "%s chooses or judges models: put it in the place of the old annotation and prepare "
            "that anew, as add_to takes none of it",
            subject.split,
        )
        return
    known = shown_path(subject.dataset.root) if subject.dataset else PrepareConfig.output
    settings = {"input": shown_path(output), "add_to": known, "output": f"{known}_corrected"}
    say_next("prepare", settings, "add it to the dataset of the model")
