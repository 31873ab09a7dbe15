import io
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage.io import imread
from skimage.measure import label

from bench.errors import BenchError
from bench.report.figures.figures import (
    PANEL_SIDE_PX,
    ContactPanel,
    choose_colours,
    contact_sheet,
    overlay_figure,
    shrink_panel,
)

EPFL6 = Path(__file__).resolve().parents[4] / "shared" / "data" / "epfl6" / "test"


def render(figure: Figure) -> bytes:
    """Draws to PNG; a warning of any library fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = io.BytesIO()
        figure.savefig(png, dpi=40)
    return png.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]


def blobs(shape=(60, 80)):
    labels = np.zeros(shape, np.uint16)
    labels[5:20, 5:30] = 1
    labels[30:50, 40:70] = 2
    return labels


def panel(split="train", section="s0", size=5.0, **more):
    labels = {"mitochondria": blobs(), "vesicles": np.roll(blobs(), 9, axis=1)}
    raw = np.random.default_rng(0).integers(0, 255, (60, 80), dtype=np.uint8)
    counts = {"mitochondria": 2, "vesicles": 41}
    return ContactPanel(split, section, more.get("raw", raw), labels, counts, size)


@pytest.mark.parametrize(
    "raw",
    [
        np.full((60, 80), 7, np.uint8),
        np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32),
        np.random.default_rng(0).integers(0, 65535, (60, 80), dtype=np.uint16),
    ],
    ids=["constant", "float", "uint16"],
)
def test_overlay_figure_and_contact_sheet_take_any_section(raw):
    assert render(
        overlay_figure(
            raw,
            truth=blobs(),
            prediction=blobs() > 1,
            title="t",
            scores={"dice": 0.5},
            pixel_size_nm=None,
        )
    )
    assert render(contact_sheet([panel(raw=raw)]))


def test_overlay_figure_says_in_words_what_it_shows():
    figure = overlay_figure(
        np.zeros((60, 80)),
        truth=blobs(),
        prediction=np.zeros((60, 80), bool),
        title="test/s1, mitochondria",
        scores={"dice": 0.12345, "instance_f1": 0.5, "iou": 0.3},
        pixel_size_nm=60.0,
    )
    written = texts(figure)
    assert {"test/s1, mitochondria", "Annotation", "Prediction"} <= set(written)
    assert "Errors: Dice 0.123, Inst. F1 0.500" in written
    assert {
        "found (true positive)",
        "extra (false positive)",
        "missed (false negative)",
    } <= set(written)
    assert len(figure.axes) == 3
    assert written.count("1 µm") == 3


def test_overlay_figure_refuses_shapes_that_differ():
    with pytest.raises(BenchError, match="one shape"):
        overlay_figure(
            np.zeros((60, 81)),
            truth=blobs(),
            prediction=blobs(),
            title="t",
            scores={},
            pixel_size_nm=None,
        )


def test_contact_sheet_has_a_column_per_split_with_counts():
    panels = [panel(), panel(section="s1"), panel("val", "s2"), panel("test", "s3")]
    figure = contact_sheet(panels)
    render(figure)
    written = texts(figure)
    assert {"train", "val", "test", "Mitochondria", "Vesicles"} <= set(written)
    assert "s2\n2 mitochondria, 41 vesicles" in written
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 4
    lefts = [round(axes.get_position().x0 + axes.figure.bbox.x0, 3) for axes in shown]
    assert lefts[0] == lefts[1] < lefts[2] < lefts[3]


def test_contact_sheet_has_a_scale_bar_only_where_the_pixel_size_is_known():
    figure = contact_sheet([panel(size=5.0), panel("val", size=None)])
    assert [text for text in texts(figure) if text.endswith(" nm")] == ["100 nm"]
    (bar,) = [patch for axes in figure.axes for patch in axes.patches if type(patch) is Rectangle]
    assert bar.get_width() == pytest.approx(100 / 5.0)


def test_contact_sheet_of_nothing_is_refused():
    with pytest.raises(BenchError, match="received none"):
        contact_sheet([])


def test_contact_sheet_refuses_labels_of_another_shape():
    with pytest.raises(BenchError, match="one shape"):
        contact_sheet([panel(raw=np.zeros((61, 80)))])


def test_structures_keep_their_colour_from_sheet_to_sheet():
    both = choose_colours(["vesicles", "mitochondria", "membrane"])
    assert choose_colours(["mitochondria"]) == {"mitochondria": both["mitochondria"]}
    assert len(set(both.values())) == 3


def test_structures_of_other_names_have_colours_of_their_own():
    names = ["ribbon", "vesicles", "lysosome", "er", "membrane"]
    colours = choose_colours(names)
    assert list(colours) == ["vesicles", "membrane", "er", "lysosome", "ribbon"]
    assert len(set(colours.values())) == 5
    assert colours["vesicles"] == choose_colours(["vesicles"])["vesicles"]
    assert len(choose_colours([f"s{n}" for n in range(12)])) == 12


def test_a_shrunk_panel_keeps_its_physical_size():
    side = 3 * PANEL_SIDE_PX
    large = np.zeros((side, side), np.uint8)
    small = shrink_panel(ContactPanel("train", "s", large, {"vesicles": large}, {}, 2.0))
    assert small.raw.shape == small.labels["vesicles"].shape == (PANEL_SIDE_PX, PANEL_SIDE_PX)
    assert small.pixel_size_nm == 6.0
    assert shrink_panel(small) == small


def test_a_section_of_7000_px_is_drawn_quickly():
    raw = np.random.default_rng(0).integers(0, 255, (7000, 7000), dtype=np.uint8)
    truth = np.zeros(raw.shape, np.uint16)
    truth[1000:3000, 1000:3000] = 1
    start = time.process_time()
    figure = overlay_figure(
        raw, truth=truth, prediction=truth, title="t", scores={}, pixel_size_nm=5.0
    )
    assert max(axes.images[0].get_array().shape[0] for axes in figure.axes) <= PANEL_SIDE_PX
    render(figure)
    # About 1 s of CPU; the bound is loose because machines differ.
    assert time.process_time() - start < 10


@pytest.mark.skipif(not EPFL6.is_dir(), reason="shared/data/epfl6 is not on this machine")
def test_a_real_section_shows_errors_where_they_are():
    name = "training0118.png"
    raw = imread(EPFL6 / "raw" / name)
    truth = label(imread(EPFL6 / "mitochondria" / name) > 0)
    prediction = np.where(truth == 1, 0, truth)
    figure = overlay_figure(
        raw,
        truth=truth,
        prediction=prediction,
        title=name,
        scores={"dice": 0.9},
        pixel_size_nm=5.0,
    )
    render(figure)
    errors = figure.axes[2].images[0].get_array().astype(int)
    # Yellow, the tint of what was missed, has far more red than blue; grey has as much of each.
    missed = errors[..., 0] - errors[..., 2] > 60
    assert (missed == (truth == 1)).all()
