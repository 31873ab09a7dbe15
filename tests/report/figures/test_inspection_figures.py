import io

import imagecodecs
import numpy as np
import pytest
from matplotlib.patches import Circle

from bench.ingest.inspection.findings import Finding
from bench.report.figures.figures import choose_colours
from bench.report.figures.inspection import (
    MOST_RINGS,
    describe_findings,
    draw_section_outlines,
    inspection_figure,
)

STRUCTURES = ("vesicles", "mitochondria", "membrane")


def test_outlines_have_the_colour_of_their_structure():
    raw = np.random.default_rng(0).integers(0, 255, (80, 90), dtype=np.uint8)
    labels = {name: np.zeros(raw.shape, np.uint8) for name in STRUCTURES}
    labels["membrane"][10:70, 10:80] = 1
    labels["vesicles"][10:20, 10:20] = 1  # shares a corner with the larger one: it is on top
    colours = choose_colours(STRUCTURES)
    drawn = draw_section_outlines(raw, labels, colours)
    assert tuple(drawn[10, 10]) == colours["vesicles"]
    assert tuple(drawn[69, 40]) == colours["membrane"]
    assert drawn[40, 40].std() == 0  # grey inside


@pytest.fixture
def make_figure():
    def make(findings, factor=1, size=5.0, shape=(300, 400)):
        return inspection_figure(
            np.zeros((*shape, 3), np.uint8),
            name="train-s1",
            findings=findings,
            factor=factor,
            colours=choose_colours(STRUCTURES),
            pixel_size_nm=size,
        )

    return make


def rings(figure) -> list[Circle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]


def test_rings_lie_where_the_findings_are(make_figure):
    found = Finding("large", "1 of 9", marks=((200.0, 320.0, 40.0),))
    black, white = rings(make_figure([found]))
    assert black.center == white.center == (320, 200)
    assert white.radius > 40
    _, small = rings(make_figure([found], factor=4))
    # The first of four pixels of a block has its centre 3/8 before the block's.
    assert small.center == (79.625, 49.625)


def test_thousands_of_marks_do_not_hide_the_image(make_figure):
    many = Finding("tiny", "5000 of 5001", marks=tuple((1.0, float(n), 1.0) for n in range(5000)))
    assert len(rings(make_figure([many]))) == 2 * MOST_RINGS


def test_the_scale_bar_is_there_where_the_pixel_size_is_known(make_figure):
    texts = [text.get_text() for text in make_figure([], factor=2).axes[0].texts]
    assert texts == ["1 µm"]  # a quarter of 400 px of 10 nm
    assert not make_figure([], size=None).axes[0].texts


def test_the_picture_is_drawn_whole(make_figure):
    content = io.BytesIO()
    make_figure([Finding("cut", "1 of 2", marks=((1, 2, 3),))]).savefig(content, format="png")
    height, width = imagecodecs.png_decode(content.getvalue()).shape[:2]
    assert 700 < width <= 1100
    assert height < 1.3 * width


def test_a_strip_makes_no_endless_picture(make_figure):
    for shape in ((4000, 20), (20, 4000)):
        width, height = make_figure([], shape=shape).get_size_inches()
        assert max(width, height) < 10


def test_long_and_many_findings_are_shortened():
    found = [Finding("tiny", "x" * 500, structure="vesicles")] * 9
    lines = describe_findings(found)
    assert len(lines) == 5
    assert lines[-1] == "and 5 more"
    assert all(len(line) < 110 for line in lines)
