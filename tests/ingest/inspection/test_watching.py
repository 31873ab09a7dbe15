"""Sections that are not all there, or not as the others, said by prepare too."""

import mrcfile
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.inspection.watching import PixelWatch
from bench.ingest.writing import write_prepared


@pytest.fixture
def make_stack(tmp_path, tissue, discs):
    """An MRC stack with its labels beside; `change` alters the sections (z, y, x)."""

    def make(change):
        raw = np.stack([tissue(number, discs) for number in range(6)])
        labels = np.stack([(discs > 0).astype(np.int8)] * 6)
        change(raw, labels)
        for name, pixels in (("tomo", raw.astype(np.int16)), ("tomo_mitochondria", labels)):
            with mrcfile.new(tmp_path / "input" / f"{name}.mrc", overwrite=True) as file:
                file.set_data(pixels)
                file.set_image_stack() if name == "tomo" else file.set_volume()
        return tmp_path / "input"

    (tmp_path / "input").mkdir()
    return make


@pytest.mark.parametrize(
    ("number", "kept"), [(0, "1-5"), (1, "0,2-5"), (2, "0-1,3-5"), (4, "0-3,5"), (5, "0-4")]
)
def test_a_blank_section_is_named_by_its_number(make_stack, read_tree, tmp_path, number, kept):
    def blank(raw, labels):
        raw[number] = 0

    tree = read_tree(make_stack(blank), splits="train=0-3;val=4;test=5")
    message = (
        f"raw image section {number} of tomo.mrc must have contrast, received 0 in every pixel: "
        f"replace it, or leave section {number} out of splits, as in train={kept}"
    )
    with pytest.raises(BenchError) as caught:
        write_prepared(tree, tmp_path / "out")
    assert str(caught.value) == message
    assert [f.fact for f in inspect_tree(tree).findings if f.kind == "unusable"] == [message]


def test_a_blank_section_that_is_left_out_does_no_harm(make_stack, read_tree, tmp_path):
    def blank(raw, labels):
        raw[2] = 7

    tree = read_tree(make_stack(blank), splits="train=0-1,3;val=4;test=5")
    assert len(write_prepared(tree, tmp_path / "out").sections("train")) == 3


@pytest.mark.parametrize("annotated", [True, False])
def test_an_inverted_section_among_others_is_a_warning(make_stack, read_tree, tmp_path, annotated):
    def invert(raw, labels):
        raw[2] = 255 - raw[2]
        labels[2] *= annotated

    tree = read_tree(make_stack(invert), splits="train=0-3;val=4;test=5")
    warnings = write_prepared(tree, tmp_path / "out").manifest["warnings"]
    (warning,) = [w for w in warnings if w.startswith("grey values are inverted")]
    assert "train-tomo_z02: " in warning
    assert "mitochondria is brighter" in warning or not annotated
    assert "correlates with -0." in warning or annotated


def test_sections_as_they_should_be_have_no_warning(make_stack, read_tree, tmp_path):
    tree = read_tree(make_stack(lambda raw, labels: None), splits="train=0-3;val=4;test=5")
    warnings = write_prepared(tree, tmp_path / "out").manifest["warnings"]
    assert not [w for w in warnings if "inverted" in w]


def test_real_sections_are_not_inverted(real_tree, read_tree, tmp_path):
    warnings = write_prepared(read_tree(real_tree), tmp_path / "out").manifest["warnings"]
    assert not [w for w in warnings if "inverted" in w]


def test_sections_of_a_series_are_correlated_where_masks_say_nothing(
    make_section, make_source, tissue
):
    watch = PixelWatch(make_source())
    watch.add(make_section("train", "s0", None), tissue(0), {})
    assert watch.correlations == [None]
    watch.add(make_section("train", "s1", None), 255 - tissue(0), {})
    assert watch.correlations[1] == pytest.approx(-1)
    watch.add(make_section("val", "s2", None), tissue(0), {})
    assert watch.correlations[2] is None
