"""Check annotated images and write them as one prepared dataset."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.config.data import PhantomConfig, PrepareConfig
from bench.config.settings import typed_settings
from bench.core.commands import shown_path
from bench.core.files import check_output
from bench.core.names import first_names
from bench.core.progress import say_while, show_progress
from bench.dataset.checks import instance_areas
from bench.dataset.partial import ignored_shares, list_shares, read_ignored
from bench.dataset.prepared import MANIFEST, VOLUMES, PreparedDataset
from bench.dataset.volumes import find_volumes
from bench.errors import BenchError
from bench.ingest.adding.adding import add_to_dataset
from bench.ingest.inputs import read_input
from bench.ingest.inspection.report import Report
from bench.ingest.sources import SourceTree, source_hashes
from bench.ingest.suggestions import suggest_splits
from bench.ingest.writing import write_prepared
from bench.methods import DEFAULT_SOURCE
from bench.models.scales import is_far
from bench.models.synapsenet import SYNAPSENET
from bench.phantom.write import write_phantom
from bench.report.figures.figures import ContactPanel, contact_sheet, shrink_panel
from bench.report.figures.overlays import hatch_ignored
from bench.steps.check import (
    check,
    choose_picture,
    fail_on_errors,
    name_of_data,
    publish_pictures,
)
from bench.steps.saying import say_artifact, say_next, say_picture
from bench.steps.used_data import log_used_dataset
from bench.tracking.datasets import ADDITIONS_TAG, pack_additions
from bench.tracking.opening import open_run
from bench.tracking.queries import scratch_folder
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import NONE, SECTION_UNIT, VOLUME_UNIT, of_units

log = logging.getLogger(__name__)

_PHANTOM = "phantom"
# In a structure's entry of the manifest.
_IGNORED = "ignored"
# Where the pictures of a check lie, in a folder named after its input.
_CHECKED = Path("results/check")
# Sections of each split on the contact sheet.
_SHOWN_PER_SPLIT = 3


def prepare(config: PrepareConfig) -> str:
    """Writes the prepared dataset and returns the id of the run that describes it.

    With ``check=true`` it reports on the input instead and writes no dataset.

    Raises:
        BenchError: If something is wrong with the input, or the output is something else.
    """
    store = open_store()
    if config.input == _PHANTOM:
        with show_progress("phantom") as advance:
            folder = write_phantom(PhantomConfig(), progress=lambda n, of: advance(n, of, ""))
        config = dataclasses.replace(config, input=str(folder))
    base = _open_base(config)
    tree = read_input(config)
    if base:
        log.info("%s: its %d sections are read and compared", base.root, len(base.entries))
        tree = add_to_dataset(tree, base)
    if config.check:
        return _check_input(config, tree, store)
    with show_progress("prepare") as advance:
        dataset = write_prepared(
            tree,
            Path(config.output),
            overwrite=config.overwrite,
            progress=lambda done, total: advance(done, total, ""),
        )
    _describe(dataset)
    _describe_added(dataset)
    far = _find_far_source(dataset)
    for warning in far:
        log.warning(warning)
    inputs = source_hashes(tree) | ({"add_to": base.content_hash} if base else {})
    identity = Identity("prepare", config.identity(), inputs, dataset=dataset.content_hash)
    run = open_run(store, identity)
    if not run.reused:
        with run, say_while("drawing the sections"):
            run.log_settings(vars(config), config)
            _log_prepared(run, dataset)
            run.keep_warnings(far)
    say_artifact(store, run.id, "")
    _say_after_writing(config, tree)
    return run.id


def _say_after_writing(config: PrepareConfig, tree: SourceTree) -> None:
    """Says what to type next: a benchmark, or what gives it the test sections that it needs."""
    if any(section.split == "test" for section in tree.sections):
        sized = {"dataset": config.output, "preset": "quick"}
        say_next("benchmark", sized, "compare methods on it, soon and small")
    elif len(tree.sections) > 2:
        split = {"splits": suggest_splits(tree.sections), "overwrite": True}
        settings = {**typed_settings(config), **split}
        say_next("prepare", settings, "keep sections for the test, without which nothing compares")


def _open_base(config: PrepareConfig) -> PreparedDataset | None:
    """The dataset that is added to; None if a new one is made.

    Raises:
        BenchError: If there is none, or the new version would take its place unasked.
    """
    if config.add_to == NONE:
        return None
    base = PreparedDataset.open(config.add_to)
    if base.root.resolve() == Path(config.output).resolve() and not config.overwrite:
        raise BenchError(
            f"output must be a folder for the new version, received {config.output}, the dataset "
            "that is added to: choose another output, or give -P overwrite=true to replace it"
        )
    return base


def _describe_added(dataset: PreparedDataset) -> None:
    """Says what was added to which dataset."""
    steps = dataset.manifest.get("additions")
    if not steps:
        return
    for key, what in (("sections", "added"), ("annotated_anew", "annotated anew")):
        if names := steps[-1][key]:
            plural = "s" if len(names) > 1 else ""
            log.info("%d section%s %s: %s", len(names), plural, what, first_names(names))
    log.info(
        "all others are those of the dataset of content %s, unchanged: benchmark or finetune with "
        "-P dataset=%s, and compare says what this brought",
        steps[-1]["to"][:12],
        dataset.root,
    )


def _check_input(config: PrepareConfig, tree: SourceTree, store: Store) -> str:
    """Reports on a tree in a run; raises BenchError if what was found must be corrected first."""
    check_output(_CHECKED)
    console = Console()
    if tree.found:
        console.print("Found in the annotation:", style="bold")
        for line in tree.found:
            console.print(f"  {line}", markup=False)
    run = open_run(store, Identity("check", config.identity(), source_hashes(tree)), reuse=False)
    with run, scratch_folder() as folder:
        run.log_settings(vars(config), config)
        report = check(tree, Path(folder), console)
        for file in sorted(Path(folder).iterdir()):
            run.log_file(file, "check")
        run.log_metrics({"check/errors": report.errors, "check/warnings": report.warnings})
        pictures = publish_pictures(Path(folder), _CHECKED / name_of_data(tree))
        console.print(f"Pictures and findings: {shown_path(pictures)}", soft_wrap=True)
        if shown := choose_picture(report):
            say_picture(pictures / f"{shown}.png")
        _say_after_check(config, report)
        fail_on_errors(report)
    return run.id


def _say_after_check(config: PrepareConfig, report: Report) -> None:
    """Says what to type next: the same again once errors are corrected, else without the check."""
    if report.errors:
        say_next("prepare", typed_settings(config), "check again once what is listed is corrected")
        return
    settings = {name: v for name, v in typed_settings(config).items() if name != "check"}
    say_next("prepare", settings, "write the dataset")


def _describe(dataset: PreparedDataset) -> None:
    size = dataset.pixel_size_nm
    known = f"{size:g} nm per pixel" if size else "pixel size not known, areas stay in px"
    table = Table(
        title=f"{dataset.root}: {known}, content {dataset.content_hash[:12]}", title_justify="left"
    )
    units = [VOLUME_UNIT if dataset.manifest.get(VOLUMES) else SECTION_UNIT]
    summaries = dataset.manifest["structures"].values()
    columns = ["Structure", "Split", "Sections", "Instances", "Suspicious", "Foreground"]
    if partly := any(_IGNORED in summary for summary in summaries):
        columns.append("Ignored")
    for column in columns:
        column = of_units(column, units)
        table.add_column(column, justify="left" if column in ("Structure", "Split") else "right")
    for name, summary in dataset.manifest["structures"].items():
        for split, count in summary["instances"].items():
            table.add_row(
                name,
                split,
                str(len(find_volumes(dataset, split) or dataset.sections(split))),
                str(count),
                str(summary["suspicious"][split]),
                f"{100 * summary['foreground_fraction'][split]:.2f} %",
                *([f"{100 * summary.get(_IGNORED, {}).get(split, 0):.2f} %"] if partly else []),
            )
    console = Console()
    console.print(table)
    for name in dataset.structures:
        shares = ignored_shares(dataset.manifest["sections"], name)
        if shares:
            console.print(f"Ignored of {name}: {list_shares(shares)}", markup=False)


def _find_far_source(dataset: PreparedDataset) -> list[str]:
    """Says how far the default source is from the scale of a dataset, if it is far."""
    size_nm = dataset.pixel_size_nm
    model = SYNAPSENET[DEFAULT_SOURCE.partition(":")[2]]
    if size_nm is None or not is_far(size_nm, model.pixel_size_nm):
        return []
    factor = size_nm / model.pixel_size_nm
    changed = f"enlarged {factor:.3g}" if factor > 1 else f"shrunk {1 / factor:.3g}"
    return [
        f"{DEFAULT_SOURCE}, the default source of trainings, was trained at "
        f"{model.pixel_size_nm:g} nm, so that sections of {size_nm:g} nm are {changed} times: "
        "check pixel_size_nm, or train with rescale=false, which feeds sections as they are"
    ]


def _log_prepared(run: Run, dataset: PreparedDataset) -> None:
    run.set_tags({"bench.dataset_name": dataset.root.name})
    if steps := dataset.manifest.get("additions"):
        run.set_tags({ADDITIONS_TAG: pack_additions(steps)})
    run.keep_warnings(dataset.manifest["warnings"])
    log_used_dataset(run, dataset, "prepared")
    run.log_file(dataset.root / MANIFEST)
    for name, summary in dataset.manifest["structures"].items():
        for key in ("instances", "suspicious", "foreground_fraction", _IGNORED):
            found = summary.get(key, {})
            counts = {f"{split}/{name}/{key}": value for split, value in found.items()}
            run.log_metrics(counts)
    run.log_figure(contact_sheet(_shown_panels(dataset)), "contact_sheet.png")


def _shown_panels(dataset: PreparedDataset) -> list[ContactPanel]:
    panels = []
    for split in dict.fromkeys(entry["split"] for entry in dataset.manifest["sections"]):
        names = dataset.sections(split)
        shown = np.linspace(0, len(names) - 1, min(len(names), _SHOWN_PER_SPLIT)).astype(int)
        for name in (names[index] for index in shown):
            panels.append(shrink_panel(_make_panel(dataset, split, name)))
    return panels


def _make_panel(dataset: PreparedDataset, split: str, section: str) -> ContactPanel:
    keys = dataset.find(section)["datasets"]
    structures = [name for name in dataset.structures if f"labels/{name}" in keys]
    labels = {name: dataset.read_labels(section, name) for name in structures}
    return ContactPanel(
        split=split,
        section=section,
        raw=hatch_ignored(dataset.read_raw(section), read_ignored(dataset, section, structures)),
        labels=labels,
        counts={name: int(instance_areas(image).size) for name, image in labels.items()},
        pixel_size_nm=dataset.pixel_size_nm,
    )
