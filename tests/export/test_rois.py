import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from bench.errors import BenchError
from bench.export.rois import LARGEST_SIDE, make_rois, write_rois
from bench.export.stack import make_stack
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.images.images import read_header


def fill_rois(path, shape: tuple[int, int, int]) -> np.ndarray:
    """Ids of the ROIs that roifile reads, by even-odd tests of points."""
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[1], : shape[2]] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    for number, roi in enumerate(roifile.roiread(path), start=1):
        rings = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
        inside = np.zeros(len(centres), bool)
        for ring in rings:
            closed = np.vstack([ring, ring[:1]])
            inside ^= Polygon(closed, closed=True).contains_points(centres)
        section = labels[roi.position - 1]
        assert not section[inside.reshape(shape[1:])].any()
        section[inside.reshape(shape[1:])] = number
    return labels


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_pixel_is_lost(data, label_arrays, same_sections, draw_objects, tmp_path_factory):
    labels = data.draw(label_arrays.filter(np.any))
    folder = tmp_path_factory.mktemp("rois")
    write_rois(make_stack({"vesicles": labels}), folder)
    assert same_sections(labels, fill_rois(folder / "RoiSet.zip", labels.shape))
    objects, warnings = read_rois(folder / "RoiSet.zip")
    assert warnings == ()
    assert same_sections(labels, draw_objects(objects, labels.shape))


def test_rois_tell_structure_instance_and_section(ring_labels, tmp_path):
    raw = np.random.default_rng(0).integers(0, 255, ring_labels.shape).astype(np.uint8)
    stack = make_stack(
        {"vesicles": ring_labels, "mitochondria": ring_labels},
        raw=raw,
        pixel_size_nm=5.0,
        section_nm=50.0,
    )
    write_rois(stack, tmp_path)
    rois = roifile.roiread(tmp_path / "RoiSet.zip")
    assert [(roi.name, roi.position) for roi in rois[:4]] == [
        ("vesicle-0003-0001", 1),
        ("vesicle-0003-0002", 2),
        ("vesicle-0008", 2),
        ("vesicle-0300", 1),
    ]
    # Pixels that touch at a corner have one outline, which goes through the corner twice.
    assert [roi.composite for roi in rois[:4]] == [True, True, False, False]
    assert zipfile.ZipFile(tmp_path / "RoiSet.zip").namelist() == [f"{r.name}.roi" for r in rois]
    objects, _ = read_rois(tmp_path / "RoiSet.zip")
    assert [item.kind for item in objects] == ["vesicle"] * 4 + ["mitochondria"] * 4
    header = read_header(tmp_path / "raw.tif")
    assert (header.shape, header.pages, header.pixel_sides_nm) == ((12, 14), 2, (5, 5))


def test_the_same_labels_give_the_same_bytes(ring_labels, tmp_path):
    for name in ("a", "b"):
        write_rois(make_stack({"vesicles": ring_labels}), tmp_path / name)
    first, second = ((tmp_path / name / "RoiSet.zip").read_bytes() for name in ("a", "b"))
    assert first == second


def test_an_outline_of_many_corners(same_sections, draw_objects, tmp_path):
    # A comb has more corners than a 16-bit number counts.
    labels = np.zeros((1, 3, 2**15 - 1), np.uint8)
    labels[0, 1] = labels[0, 0, ::2] = labels[0, 2, ::2] = 1
    write_rois(make_stack({"membrane": labels}), tmp_path)
    (roi,) = roifile.roiread(tmp_path / "RoiSet.zip")
    assert roi.n_coordinates > 2**16
    objects, _ = read_rois(tmp_path / "RoiSet.zip")
    assert same_sections(labels, draw_objects(objects, labels.shape))


def test_an_image_too_large_for_the_format():
    stack = make_stack({"vesicles": np.zeros((1, LARGEST_SIDE + 1), np.uint8)})
    with pytest.raises(BenchError, match="at most 32767 px, received 32768 x 1: export as"):
        next(make_rois(stack))
