import numpy as np
import pytest

from bench.report.figures.figures import COLOUR, LONGEST_SIDE_PX, instance_figure

LABELS = np.zeros((300, 400), np.int32)
LABELS[50:150, 60:260] = 1


def shown(figure):
    return figure.axes[0].images[0].get_array()


def test_outlines_lie_on_the_edges_of_instances():
    figure = instance_figure(np.full((300, 400), 7), LABELS, title="s1", pixel_size_nm=None)
    drawn = (shown(figure) == COLOUR).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (50, 149, 60, 259)
    assert not drawn[60:140, 70:250].any()
    assert figure.axes[0].get_title() == "s1"
    assert not figure.axes[0].patches


@pytest.mark.parametrize("side", [64, 5000])
def test_a_scale_bar_is_as_long_as_it_says(side):
    raw = np.random.default_rng(0).integers(0, 255, (side, side)).astype(np.uint8)
    labels = np.zeros((side, side), np.int32)
    figure = instance_figure(raw, labels, title="montage", pixel_size_nm=5.0)
    axes = figure.axes[0]
    width_px = shown(figure).shape[1]
    assert width_px <= LONGEST_SIDE_PX
    length, unit = axes.texts[0].get_text().split()
    length_nm = float(length) * {"nm": 1, "µm": 1000}[unit]
    share = axes.patches[0].get_width() / width_px
    assert share * side * 5.0 == pytest.approx(length_nm, rel=0.01)
