import io
import warnings

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bench.errors import BenchError
from bench.report.figures.charts import precision_recall_figure, score_chart
from bench.report.tables import ScoreRecord, benchmark_table


def render(figure: Figure) -> bytes:
    """Draws to PNG; a warning of any library fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = io.BytesIO()
        figure.savefig(png, dpi=40)
    return png.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]


def rows(datasets=("d",)):
    records = []
    for dataset in datasets:
        for method, dice in (("scratch", 0.4), ("finetuned", 0.75)):
            sections = {"a": {"dice": 0.8}, "b": {"dice": 0.9}}
            records.append(
                ScoreRecord(method, "vesicles", dataset, 0, "r", {"dice": dice}, sections)
            )
        reason = "the network ran out of memory on this machine, a very long story"
        records.append(ScoreRecord("scratch", "membrane", dataset, 0, "", reason=reason))
        records.append(ScoreRecord("finetuned", "membrane", dataset, 0, "r", {"dice": 0.5}))
    return benchmark_table(records, ["scratch", "finetuned"], ["vesicles", "membrane"])


def test_score_chart_has_a_panel_per_structure_and_a_bar_per_method():
    figure = score_chart(rows())
    render(figure)
    assert [axes.get_title() for axes in figure.axes] == ["Vesicles", "Membrane"]
    vesicles, membrane = figure.axes
    assert [bar.get_width() for bar in vesicles.patches] == [0.4, 0.75]
    assert [bar.get_hatch() for bar in vesicles.patches] == [None, None]
    assert [bar.get_hatch() for bar in membrane.patches] == ["///", None]
    assert {"0.400", "0.750", "From scratch (focal-Dice)"} <= set(texts(figure))


def test_score_chart_draws_the_interval_where_it_lies_even_beside_the_bar():
    vesicles, membrane = score_chart(rows()).axes
    whiskers = [c for c in vesicles.collections if isinstance(c, LineCollection)]
    ends = [whisker.get_segments()[0][:, 0] for whisker in whiskers]
    # 0.85 +- 0.05, stretched 9.168 times as of two sections, and 1 at most.
    assert np.allclose(ends, [[0.85 - 0.4584, 1], [0.85 - 0.4584, 1]], atol=1e-4)
    assert not membrane.collections


def test_score_chart_says_shortly_why_a_cell_was_not_run():
    (text,) = [text for text in texts(score_chart(rows())) if text.startswith("not run")]
    assert text.startswith("not run: the network ran out of memory")
    assert text.endswith("…")
    assert len(text) <= 44


def test_score_chart_has_a_line_per_dataset():
    figure = score_chart(rows(("d", "e")))
    render(figure)
    assert len(figure.axes) == 4
    assert {"Dataset d", "Dataset e"} <= set(texts(figure))


def test_score_chart_of_nothing_is_refused():
    with pytest.raises(BenchError, match="received none"):
        score_chart([])


def test_precision_recall_marks_the_chosen_threshold():
    thresholds = np.array([0.75, 0.25, 0.5])
    precision = np.array([1.0, 0.5, 0.8])
    recall = np.array([0.5, 1.0, 0.8])
    figure = precision_recall_figure(thresholds, precision, recall, 0.5)
    render(figure)
    assert "Chosen threshold 0.5: Dice 0.800" in texts(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["Thresholds"].get_xydata().tolist() == [[1.0, 0.5], [0.8, 0.8], [0.5, 1.0]]
    dice = {line.get_label(): line for line in figure.axes[1].lines}["Dice"]
    assert np.allclose(dice.get_xydata(), [[0.25, 2 / 3], [0.5, 0.8], [0.75, 2 / 3]])


def test_precision_recall_takes_thresholds_without_any_prediction():
    figure = precision_recall_figure(
        np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.0, np.nan]), np.array([1.0, 0.0, 0.0]), 0.2
    )
    assert render(figure)


@pytest.mark.parametrize(
    ("precision", "chosen", "message"), [([0.5], 0.5, "one length"), ([0.5, 0.5], 0.9, "within")]
)
def test_precision_recall_refuses_what_is_no_sweep(precision, chosen, message):
    with pytest.raises(BenchError, match=message):
        precision_recall_figure(np.array([0.2, 0.6]), np.array(precision), np.ones(2), chosen)
