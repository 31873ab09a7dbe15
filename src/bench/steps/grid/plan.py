"""What a benchmark will do, said before it does it: trainings, what is reused, time, disk."""

import dataclasses
import logging
import shutil
from dataclasses import dataclass

from bench.cluster.clusters import LOCAL
from bench.config.presets import methods_from_scratch, with_preset
from bench.config.running import PRESETS, BenchmarkConfig
from bench.core.names import first_names
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.models.networks import find_network
from bench.steps.grid.cells import GridCell
from bench.steps.grid.checks import Checked, Sources, check_cells, describe_missing
from bench.steps.grid.estimate import Workload
from bench.steps.grid.grid import NOT_NAMED, make_grid
from bench.steps.grid.measure import Speed, measure_prediction, measure_training
from bench.steps.training.minutes import check_minutes
from bench.tracking.store import Store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)

# From here on a shorter way is named.
LONG_S = 3600.0
# What a preset must take at most, of the time that is planned, to be worth a word.
_MOST_SHARE = 0.75


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        config: The settings, resolved.
        cells: The cells that can run.
        notes: What is left out, and why.
        lines: The plan for people, a line each.
    """

    config: BenchmarkConfig
    cells: list[GridCell]
    notes: list[str]
    lines: list[str]


def make_plan(typed: BenchmarkConfig, dataset: PreparedDataset, store: Store) -> Plan:
    """Checks everything that the cells need, and says what will be done.

    Args:
        typed: The settings as typed.
        dataset: The prepared dataset.
        store: The tracking store.

    Raises:
        BenchError: If a cell cannot run, except by weights that are not there and that no method
            named by the user starts from.
    """
    check_minutes(typed)
    device = _device_kind(typed)
    config = with_preset(typed, device)
    cells = make_grid(config, dataset)
    log.info("checking the sources and settings of %d cells ...", len(cells))
    sources = Sources(store)
    config, cells, notes = _leave_out(typed, config, cells, dataset, sources)
    grid = Workload(config, dataset, cells)
    if _is_elsewhere(config):
        said = "the workers' device is not here: their time is not known before they run"
        return Plan(config, cells, notes, [_count_line(grid, Checked()), said])
    checked = check_cells(cells, config, store)
    speeds = _measure(grid, checked)
    seconds = grid.seconds(speeds, checked)
    lines = [_count_line(grid, checked)]
    if speeds:
        lines.append(_time_line(seconds, speeds, config))
        lines += _unknown_lines(grid, checked)
        lines.append(_disk_line(grid.disk_bytes(speeds, checked), store))
    if seconds > LONG_S:
        # From the beginning, but with the sources that are known.
        anew = Checked(tasks=checked.tasks, unadapted=checked.unadapted)
        times = _presets_s(typed, dataset, sources, speeds, anew)
        lines.append(_shorter_line(times, seconds))
    return Plan(config, cells, notes, lines)


def _device_kind(config: BenchmarkConfig) -> str:
    if config.device not in (AUTO, "cpu"):
        return "cuda"
    return str(choose_compute(config.device, AUTO).device.type)


def _is_elsewhere(config: BenchmarkConfig) -> bool:
    """Whether workers of other machines have a device that this one lacks."""
    if config.cluster in (NONE, LOCAL):
        return False
    try:
        choose_compute(config.device, config.precision)
    except BenchError:
        return True
    return False


def _leave_out(
    typed: BenchmarkConfig,
    config: BenchmarkConfig,
    cells: list[GridCell],
    dataset: PreparedDataset,
    sources: Sources,
) -> tuple[BenchmarkConfig, list[GridCell], list[str]]:
    """Leaves out what starts from weights that cannot be had, unless the user named it."""
    missing = sources.find_missing(cells, config)
    if not missing:
        return config, cells, []
    what, others = describe_missing(missing, cells)
    left = [cell for cell in cells if cell not in missing]
    if typed.methods not in NOT_NAMED or (typed.methods != AUTO and not left):
        raise BenchError(
            f"a benchmark needs the weights of its methods, {what}: fetch them elsewhere, give "
            f"source=FILE, or go on without: -P methods={others}"
        )
    if typed.methods == AUTO and not any(cell.method.step == "finetune" for cell in left):
        names = methods_from_scratch(typed, _device_kind(typed))
        scratch = make_grid(dataclasses.replace(config, methods=",".join(names)), dataset)
        left = list(dict.fromkeys([*left, *scratch]))
    names = tuple(dict.fromkeys(cell.method.name for cell in left))
    note = f"left out: {what}. The benchmark goes on with {', '.join(names)}"
    return dataclasses.replace(config, methods=",".join(names)), left, [note]


def _measure(grid: Workload, checked: Checked) -> dict[str, Speed]:
    """The speed of every network that has something left to do, by its name."""
    speeds: dict[str, Speed] = {}
    # A training that learns says more than a model that is only applied.
    unfinished = [cell for cell in grid.trainings() if cell not in checked.models]
    unfinished.sort(key=lambda cell: not cell.method.learns)
    for cell in unfinished:
        name = cell.method.network
        if name not in speeds and find_network(name).foreseen:
            iterations = getattr(checked.tasks[cell].config, "iterations", 1)
            speeds[name] = measure_training(checked.tasks[cell], len(unfinished) * iterations)
    for cell, split in grid.evaluations():
        name = cell.method.network
        if name in speeds or (cell, split) in checked.evaluations:
            continue
        if not find_network(name).foreseen:
            continue
        task = checked.unadapted.get(cell) or checked.tasks.get(cell.trained)
        if task is not None and hasattr(task, "info"):
            compute = choose_compute(grid.config.device, AUTO)
            speeds[name] = measure_prediction(task.info, compute, len(grid.cells))
    return speeds


def _count_line(grid: Workload, checked: Checked) -> str:
    cells, trainings, evaluations = grid.cells, grid.trainings(), grid.evaluations()
    counts = {
        "method": len({cell.method.name for cell in cells}),
        "structure": len({cell.structure.name for cell in cells}),
        "seed": len({cell.seed for cell in cells}),
        "number of sections": len({cell.labelled for cell in cells}),
        "dataset": len({cell.external for cell in cells}),
    }
    grid_of = " x ".join(_count(what, count) for what, count in counts.items() if count > 1)
    done = len(checked.models), len(checked.evaluations)
    return (
        f"{_count('cell', len(cells))}{grid_of and f' ({grid_of})'}: "
        f"{_count('training', len(trainings))}, {done[0]} of them finished before, and "
        f"{_count('evaluation', len(evaluations))}, {done[1]} of them finished before"
    )


def _count(what: str, count: int) -> str:
    """``1 cell``, ``2 cells``, ``2 numbers of sections``."""
    first, *rest = what.split()
    return " ".join([f"{count} {first}{'' if count == 1 else 's'}", *rest])


def _time_line(seconds: float, speeds: dict[str, Speed], config: BenchmarkConfig) -> str:
    compute = next(iter(speeds.values())).compute
    measured = "; ".join(map(str, speeds.values()))
    aside = "" if config.cluster == NONE else ", on one worker"
    return (
        f"about {format_time(seconds)} on {compute.device} in {compute.precision}{aside} "
        f"(measured now: {measured})"
    )


def _unknown_lines(grid: Workload, checked: Checked) -> list[str]:
    """Says which trainings have no time, as their network is planned when they begin."""
    left = [cell.method for cell in grid.trainings() if cell not in checked.models]
    names = dict.fromkeys(row.name for row in left if not find_network(row.network).foreseen)
    return [f"beside that time: {', '.join(names)}, not known before it trains"] if names else []


def _disk_line(needed: float, store: Store) -> str:
    folder = next(p for p in (store.work, *store.work.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    line = f"at most {needed / 1e9:.2g} GB of disk, {free / 1e9:.3g} GB are free in {folder}"
    return line if needed < free else f"{line}: warning, that may not suffice"


def _presets_s(
    typed: BenchmarkConfig,
    dataset: PreparedDataset,
    sources: Sources,
    speeds: dict[str, Speed],
    checked: Checked,
) -> dict[str, tuple[float, str]]:
    """The seconds of every preset, and its methods, as far as their weights are there."""
    device, found = _device_kind(typed), {}
    for name in PRESETS:
        named = dataclasses.replace(typed, preset=name)
        config = with_preset(named, device)
        cells = sources.had(make_grid(config, dataset), config)
        if typed.methods == AUTO and not cells:
            names = ",".join(methods_from_scratch(named, device))
            cells = make_grid(dataclasses.replace(config, methods=names), dataset)
        methods = first_names([*dict.fromkeys(cell.method.name for cell in cells)])
        found[name] = Workload(config, dataset, cells).seconds(speeds, checked), methods
    return found


def _shorter_line(times: dict[str, tuple[float, str]], seconds: float) -> str:
    """The presets that take less time, each with its own."""
    found = [
        f"-P preset={name} takes about {format_time(took)} ({methods})"
        for name, (took, methods) in times.items()
        if took < _MOST_SHARE * seconds
    ]
    if not found:
        return "over an hour: fewer methods, seeds, structures or iterations take less"
    return f"over an hour: {', '.join(found)}"


def format_time(seconds: float) -> str:
    """A duration in the words of an estimate: ``40 s``, ``12 min``, ``3 h 20 min``, ``4 days``.

    Examples:
        >>> [format_time(seconds) for seconds in (0.2, 42, 750, 12_000, 400_000)]
        ['1 s', '42 s', '12 min', '3 h 20 min', '4.6 days']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 600) * 10, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / 24 / 3600:.2g} days"
