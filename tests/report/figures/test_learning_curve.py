"""The learning curve: what is drawn, not how it looks."""

import pytest

from bench.report.figures.charts import has_curve, learning_curve
from bench.report.tables import TableRow


def row(method, structure, dice, deviation=0.01):
    scores, deviations = {"dice": dice}, {"dice": deviation}
    return TableRow(
        method, method, structure, "d", (0, 1), ("", ""), scores, deviations, None, 3, None
    )


@pytest.fixture
def rows():
    return [
        row("unadapted", "vesicles", 0.5),
        row("finetuned:1", "vesicles", 0.6),
        row("finetuned", "vesicles", 0.8),
        row("domain_adapted", "membrane", 0.4),
        row("finetuned:1", "membrane", 0.5),
        row("finetuned", "membrane", 0.7),
    ]


def test_only_variants_make_a_curve(rows):
    assert has_curve(rows)
    assert not has_curve([row("finetuned", "vesicles", 0.8)])


def test_every_method_is_in_the_legend_once_and_keeps_its_colour(rows):
    figure = learning_curve(rows)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("Unadapted", "Fine-tuned (focal-Dice)", "Domain adapted"),
    ]
    colours = []
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        line = handles[labels.index("Fine-tuned (focal-Dice)")].lines[0]
        colours.append(line.get_color())
        assert list(line.get_ydata()) in ([0.6, 0.8], [0.5, 0.7])
    assert len(set(colours)) == 1
