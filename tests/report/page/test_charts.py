import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bench.report.figures.charts import learning_curve, score_chart
from bench.report.figures.curves import Curve, TrainingCurves, training_figure
from bench.report.figures.looks import METHOD_COLOURS, choose_looks
from bench.report.page.figures_section import precision_recall_chart, to_svg, training_chart

METHODS = [f"m{n}" for n in range(10)]
LOOKS = choose_looks(METHODS)


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_a_method_has_the_colour_of_its_bar(rows):
    bars = [
        to_hex(bar.get_facecolor())
        for bar in score_chart([row for row in rows if row.structure == "vesicles"]).axes[0].patches
    ]
    labels = {row.method: row.label for row in rows}
    curves = {method: Curve((0, 1), (1, place)) for place, method in enumerate(reversed(labels))}
    drawn = lines(precision_recall_chart(curves, choose_looks(list(labels))))
    assert [to_hex(drawn[label].get_color()) for label in labels.values()] == bars


def test_beyond_the_colours_lines_differ():
    curves = {name: Curve((0, 1), (1, place)) for place, name in enumerate(METHODS)}
    drawn = lines(training_chart(curves, LOOKS))
    looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in drawn.values()}
    assert len(looks) == 10
    assert to_hex(drawn["m8"].get_color()) == to_hex(METHOD_COLOURS[0])
    assert drawn["m8"].get_linestyle() == "--"


def test_bars_beyond_the_colours_are_striped(rows):
    (row,) = [row for row in rows if row.structure == "vesicles"][:1]
    bars = score_chart([replace(row, method=name, label=name) for name in METHODS]).axes[0].patches
    assert len({(to_hex(bar.get_facecolor()), bar.get_hatch()) for bar in bars}) == 10
    assert [bool(bar.get_hatch()) for bar in bars] == [False] * 8 + [True] * 2


def test_a_method_keeps_its_colour_where_others_come_and_go():
    alone = choose_looks(["finetuned"])
    among = choose_looks(["unadapted", "domain_adapted", "finetuned", "scratch", "scratch_dice"])
    assert alone["finetuned"] == among["finetuned"]
    assert len({look.colour for look in among.values()}) == 5


def test_variants_have_the_colour_of_their_method_and_another_line():
    looks = choose_looks(["finetuned:1", "finetuned:3", "finetuned", "scratch"])
    assert len({look.colour for look in looks.values()}) == 2
    assert len({look.line for name, look in looks.items() if name != "scratch"}) == 3


def test_equal_curves_share_a_line_in_turns():
    curves = {name: Curve((0, 10, 20), (0, 0.1, 0)) for name in METHODS[:3]}
    curves["m3"] = Curve((0, 10, 20), (0, 0.1, 0.2))
    drawn = lines(training_chart(curves, LOOKS))
    patterns = [drawn[name]._unscaled_dash_pattern for name in METHODS[:4]]
    assert [offset for offset, _ in patterns[:3]] == [0, 3, 6]
    assert all(dashes == (3, 6) for _, dashes in patterns[:3])
    assert patterns[3] == (0, None)


def test_the_levels_of_dice_are_named_beside_the_axes_and_not_over_curves():
    figure = precision_recall_chart({"m0": Curve((0, 1), (1, 0))}, LOOKS)
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("Dice")]
    assert len(names) == 4
    assert all(text.get_position()[0] > figure.axes[0].get_xlim()[1] for text in names)


def test_a_learning_curve_has_the_colours_of_the_other_charts(rows):
    variants = [replace(rows[0], method=f"scratch{few}") for few in (":1", "")]
    looks = choose_looks(["unadapted", "finetuned", "scratch"])
    figure = learning_curve(variants, looks)
    (line,) = (handle.lines[0] for handle in figure.axes[0].get_legend_handles_labels()[0])
    assert line.get_color() == looks["scratch"].colour


def test_points_are_drawn_as_they_are_and_missing_curves_are_not():
    curves = {"m0": Curve((10, 20, 30), (0.1, 0.5, 0.4)), "m1": Curve(missing="gone")}
    figure = training_chart(curves, LOOKS)
    (line,) = figure.axes[0].lines
    assert np.array_equal(line.get_xydata(), [(10, 0.1), (20, 0.5), (30, 0.4)])
    # A single point would be no line at all.
    assert line.get_marker() == "o"
    assert figure.axes[0].get_ylim()[1] <= 1


def test_a_figure_becomes_the_same_svg_every_time():
    curves = {"m0": Curve((0, 1), (1, 0))}
    first, second = (to_svg(training_chart(curves, LOOKS), "a", "alt") for _ in range(2))
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
    first, second = (to_svg(training_chart(curves, LOOKS), name, "") for name in "ab")
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_other_seeds_are_thin_and_not_in_the_legend():
    curves = {"m0": Curve((10, 20), (0.1, 0.5)), "m1": Curve((10, 20), (0.2, 0.4))}
    others = {"m0": [Curve((10, 20), (0.3, 0.3)), Curve((10, 20), (0.0, 0.6))]}
    figure = training_chart(curves, LOOKS, others)
    drawn = figure.axes[0].lines
    assert [len(line.get_xdata()) for line in drawn] == [2] * 4
    thin = [line for line in drawn if line.get_linewidth() < 1]
    assert [list(line.get_ydata()) for line in thin] == [[0.3, 0.3], [0.0, 0.6]]
    assert {to_hex(line.get_color()) for line in thin} == {to_hex(LOOKS["m0"].colour)}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["m0", "m1"]


def test_the_picture_has_both_axes_of_every_structure_with_a_curve():
    curves = TrainingCurves(
        Curve((10, 20), (0.1, 0.5)), Curve((1.5, 3.0), (0.1, 0.5)), [Curve((10, 20), (0.2, 0.3))]
    )
    untimed = TrainingCurves(Curve((10, 20), (0.2, 0.4)), Curve(missing="earlier"))
    nothing = TrainingCurves(Curve(missing="not trained"), Curve(missing="not trained"))
    figure = training_figure(
        {
            ("d", "vesicles"): {"scratch": curves, "finetuned": untimed, "unadapted": nothing},
            ("d", "ribbon"): {"unadapted": nothing},
            ("d", "membrane"): {"finetuned": untimed},
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ["Vesicles"] * 2 + ["Membrane"] * 2
    assert [len(axes.lines) for axes in figure.axes] == [3, 1, 1, 0]
    assert figure.axes[2].get_xlabel() == "Iteration"
    assert "Seconds" in figure.axes[3].get_xlabel()
    assert figure.axes[3].texts[0].get_text().startswith("not logged")
    assert training_figure({("d", "ribbon"): {"unadapted": nothing}}) is None
