"""The learning curve that evaluations on validation sections make, continued."""

from bench.advice.forecast import FEWEST_COUNTS, Forecast, forecast_gain
from bench.config.scoring import CompareConfig
from bench.core.commands import shown_path
from bench.dataset.prepared import PreparedDataset
from bench.metrics.table import HEADLINE
from bench.steps.table.records import read_scores
from bench.tracking.newest import newest_evaluations
from bench.tracking.store import Store

_SPLIT = "val"
_Curve = dict[int, list[dict[str, float]]]


def find_forecast(
    store: Store, dataset: PreparedDataset, structure: str, more: int
) -> tuple[str, Forecast] | None:
    """What the learning curve forecasts, of the method with the most points, then the best.

    Test sections are not looked at: what is annotated next would be chosen by them.

    Args:
        store: The tracking store.
        dataset: The dataset.
        structure: What is segmented.
        more: So many more sections.

    Returns:
        The method and the forecast; None where no method was scored at three numbers of sections.
    """
    found = newest_evaluations(store, store.experiment_id, _SPLIT, CompareConfig.protocol)
    mine = [
        each
        for each in found
        if (each.cell.structure, each.cell.dataset) == (structure, dataset.content_hash)
        and not each.trained_on
        and not each.cell.pseudo
        and each.augmentations == CompareConfig.augmentations
    ]
    annotated = len(dataset.sections("train"))
    curves: dict[str, _Curve] = {}
    for evaluation, scores in read_scores(store, mine):
        if isinstance(scores, Exception):
            continue
        sections = {name: each[HEADLINE] for name, each in scores["sections"].items()}
        count = evaluation.cell.labelled or annotated
        curves.setdefault(evaluation.cell.method, {}).setdefault(count, []).append(sections)
    usable = {name: curve for name, curve in curves.items() if len(curve) >= FEWEST_COUNTS}
    if not usable:
        return None
    forecasts = {name: forecast_gain(curve, annotated, more) for name, curve in usable.items()}
    best = max(forecasts, key=lambda name: (len(usable[name]), forecasts[name].score))
    return best, forecasts[best]


def how_to_measure(dataset: PreparedDataset, structure: str) -> tuple[str, dict[str, object]]:
    """The step and its settings that would measure a learning curve."""
    annotated = len(dataset.sections("train"))
    few = sorted({max(1, annotated // 4), max(1, annotated // 2)})
    return "benchmark", {
        "dataset": shown_path(dataset.root),
        "structures": structure,
        "methods": "pixel_classifier",
        "labelled": ",".join([*map(str, few), "all"]),
        "split": _SPLIT,
    }
