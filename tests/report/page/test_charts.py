import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bench.report.figures.charts import COLOURS, score_chart
from bench.report.page.figures_section import precision_recall_chart, to_svg, training_chart
from bench.report.page.records import Curve

METHODS = [f"m{n}" for n in range(8)]


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_a_method_has_the_colour_of_its_bar(rows):
    bars = [
        to_hex(bar.get_facecolor())
        for bar in score_chart([row for row in rows if row.structure == "vesicles"]).axes[0].patches
    ]
    labels = list(dict.fromkeys(row.label for row in rows))
    curves = {label: Curve((0, 1), (1, 0)) for label in reversed(labels)}
    drawn = lines(precision_recall_chart(curves, labels))
    assert [to_hex(drawn[label].get_color()) for label in labels] == bars


def test_beyond_the_colours_lines_differ():
    drawn = lines(training_chart({name: Curve((0, 1), (1, 0)) for name in METHODS}, METHODS))
    looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in drawn.values()}
    assert len(looks) == 8
    assert to_hex(drawn["m6"].get_color()) == to_hex(COLOURS["blue"])


def test_points_are_drawn_as_they_are_and_missing_curves_are_not():
    curves = {"m0": Curve((10, 20, 30), (0.1, 0.5, 0.4)), "m1": Curve(missing="gone")}
    figure = training_chart(curves, METHODS)
    (line,) = figure.axes[0].lines
    assert np.array_equal(line.get_xydata(), [(10, 0.1), (20, 0.5), (30, 0.4)])
    # A single point would be no line at all.
    assert line.get_marker() == "o"
    assert figure.axes[0].get_ylim()[1] <= 1


def test_a_figure_becomes_the_same_svg_every_time():
    curves = {"m0": Curve((0, 1), (1, 0))}
    first, second = (to_svg(training_chart(curves, METHODS), "a", "alt") for _ in range(2))
    assert first == second
    assert "matplotlib" not in first.lower()
    assert not re.search(r"\d{4}-\d\d-\d\d", first)


def test_svg_takes_ink_and_paper_from_the_page_and_says_what_it_is():
    figure = Figure()
    figure.subplots().bar([0], [1], color="white", edgecolor="black", hatch="/")
    svg = to_svg(figure, "a", 'alt "<b>"')
    assert "#000000" not in svg
    assert "#ffffff" not in svg
    assert "currentColor" in svg
    assert "var(--paper)" in svg
    tree = ET.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1))
    assert tree.attrib["aria-label"] == 'alt "<b>"'
    assert tree.attrib["role"] == "img"
    assert [float(n) for n in tree.attrib["viewBox"].split()] == pytest.approx([0, 0, 460.8, 345.6])


def test_ids_of_two_charts_do_not_meet():
    curves = {"m0": Curve((0, 1), (1, 0))}
    first, second = (to_svg(training_chart(curves, METHODS), name, "") for name in "ab")
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
