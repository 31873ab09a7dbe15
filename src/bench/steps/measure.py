"""Measure what was segmented: sizes, numbers, distances, and groups compared."""

import logging
from pathlib import Path

from bench.config.measuring import MeasureConfig
from bench.core.commands import shown_path
from bench.core.files import check_output
from bench.core.folders import move_to_free, partial_folder, sync_folder
from bench.core.names import first_names
from bench.core.progress import say_while, show_progress
from bench.report.measured.estimates import Measured
from bench.report.measured.grouping import ALL, choose_clusters, parse_groups, region_of
from bench.report.measured.study import Study
from bench.steps.export import check_free
from bench.steps.measuring.held_out import find_error
from bench.steps.measuring.report import (
    GROUPS_FIGURE,
    MEASURED_PAGE,
    log_measured,
    write_measured,
)
from bench.steps.measuring.subject import MeasuredInput, find_measured
from bench.steps.saying import say_picture
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store, open_store
from bench.words import NONE

log = logging.getLogger(__name__)


def measure(config: MeasureConfig, store: Store | None = None) -> str:
    """Measures a segmentation, and returns the id of the run that describes the result.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If there is no such segmentation, its pixel size is not known, groups do not
            fit it, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output)
    check_free(output)
    check_output(output.parent)
    measured = find_measured(config)
    homes = _find_homes(config, measured)
    # Always a new run: measuring again takes seconds, and writes a folder of its own.
    with open_run(store, _identify(config, measured), reuse=False) as run:
        found = _measure_units(config, measured)
        held_out, reasons = find_error(config, measured, found, store)
        axes = measured.units[0].axes
        study = Study(measured.structure, axes, found, *homes, held_out, reasons)
        with partial_folder(output) as folder:
            with say_while("tables and charts"):
                written = write_measured(study, measured, folder)
            sync_folder(folder)
            log_measured(run, config, study, written, folder)
            if not move_to_free(folder, output):
                check_free(output)
    _say_result(study, output)
    return run.id


def _find_homes(
    config: MeasureConfig, measured: MeasuredInput
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The region, the group and the animal of every section, or volume."""
    names = [unit.name for unit in measured.units]
    groups, animals = (
        parse_groups(name, "" if text == NONE else text, names)
        for name, text in (("groups", config.groups), ("animals", config.animals))
    )
    compared = [name for name in names if not groups or name in groups]
    regions = {
        unit.name: region_of(unit.name, "" if measured.whole else unit.volume)
        for unit in measured.units
    }
    return regions, groups, choose_clusters(compared, groups, animals)


def _identify(config: MeasureConfig, measured: MeasuredInput) -> Identity:
    return Identity(
        "measure",
        config.identity(),
        dict(measured.subject.inputs),
        method=measured.subject.method,
        structure=measured.structure,
        dataset="",
    )


def _measure_units(config: MeasureConfig, measured: MeasuredInput) -> Measured:
    tables, extents = [], []
    with show_progress(f"measure {measured.structure}") as advance:
        for done, unit in enumerate(measured.units, start=1):
            table, size = unit.measure(
                measured.subject, measured.structure, measured.other, config.contact_nm
            )
            tables.append(table)
            extents.append(size)
            advance(done, len(measured.units), unit.name)
    names = tuple(unit.name for unit in measured.units)
    return Measured(names, tuple(tables), tuple(extents), serial=not measured.whole)


def _say_result(study: Study, output: Path) -> None:
    """Says where the result is, and what is missing in it."""
    if "" in study.reasons:
        log.warning("warning: raw values alone, as %s", study.reasons[""])
    elif "other" in study.reasons:
        log.warning("warning: distances are raw values alone, as %s", study.reasons["other"])
    left = [name for name in study.measured.names if study.groups and name not in study.groups]
    if left:
        log.info("in no group: %s", first_names(left))
    for group, places in study.members.items():
        objects = sum(len(study.measured.tables[n]) for n in places)
        named = "" if group == ALL else f"{group}: "
        log.info("%s%d %s in %d %ss", named, objects, study.structure, len(places), study.unit)
    say_picture(output / GROUPS_FIGURE)
    log.info("open %s in a browser", shown_path(output / MEASURED_PAGE))
