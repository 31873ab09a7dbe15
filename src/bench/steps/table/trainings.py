"""Validation Dice against iterations and seconds, from the runs that trained what is compared."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.core.files import write_whole
from bench.metrics.table import HEADLINE
from bench.report.figures.curves import Curve, TrainingCurves, training_figure
from bench.tracking.evaluations import metric_history, structure_of, trained_run_of
from bench.tracking.queries import ELAPSED
from bench.tracking.store import Store

_TRAINING_FILE = "training_curves.png"


def read_training(store: Store, run_id: str) -> tuple[Curve, Curve]:
    """Validation Dice of the training that an evaluation scored: by iteration, and by second."""
    trained = trained_run_of(store, run_id)
    if not trained:
        missing = Curve(missing="not trained, the source was scored as it is")
        return missing, missing
    # A training of several structures has a curve of each beside that of their mean.
    own = f"val/{HEADLINE}_{structure_of(store, run_id)}"
    history = metric_history(store, trained, own)
    history = history or metric_history(store, trained, f"val/{HEADLINE}")
    if not history:
        missing = Curve(missing="the training run has no validation Dice in the store")
        return missing, missing
    iterations, dice = zip(*history, strict=True)
    elapsed = dict(metric_history(store, trained, ELAPSED))
    timed = [step for step in iterations if step in elapsed]
    if not timed:
        unknown = Curve(missing="its training, by an earlier version, did not log its seconds")
        return Curve(iterations, dice), unknown
    scores = dict(history)
    seconds = Curve([elapsed[step] for step in timed], [scores[step] for step in timed])
    return Curve(iterations, dice), seconds


def read_trainings(store: Store, run_ids: Sequence[str], typical: str) -> TrainingCurves:
    """The curves of the trainings of a row.

    Args:
        store: The tracking store.
        run_ids: Its evaluations, one a seed.
        typical: The one of these that stands for the row.
    """
    iterations, seconds = read_training(store, typical)
    others = [read_training(store, run_id) for run_id in run_ids if run_id != typical]
    return TrainingCurves(
        iterations,
        seconds,
        [each for each, _ in others if not each.missing],
        [each for _, each in others if not each.missing],
    )


def write_training_figure(
    trainings: Mapping[tuple[str, str, str], TrainingCurves], output: Path
) -> list[Path]:
    """Writes the curves as a picture into a folder.

    Args:
        trainings: By method, structure and dataset, in the order of the table.
        output: The folder.

    Returns:
        The file; none where nothing was trained.
    """
    cells: dict[tuple[str, str], dict[str, TrainingCurves]] = {}
    for (method, structure, dataset), curves in trainings.items():
        cells.setdefault((dataset, structure), {})[method] = curves
    figure = training_figure(cells)
    path = output / _TRAINING_FILE
    if figure is None:
        path.unlink(missing_ok=True)
        return []
    write_whole(path, partial(figure.savefig, format="png", dpi=130))
    return [path]
