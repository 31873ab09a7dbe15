import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.export.label_images import viewable, write_label_tiff, write_tiff
from bench.export.stack import make_stack
from bench.ingest.images.images import read_header, read_section


@settings(max_examples=60, deadline=None)
@given(data=st.data(), largest=st.sampled_from([7, 65535, 65536, 2**32 - 1]))
def test_no_pixel_and_no_id_is_lost(data, largest, label_arrays, tmp_path_factory):
    labels = data.draw(label_arrays)
    labels = np.where(labels == 7, largest, labels).astype(np.uint32)
    folder = tmp_path_factory.mktemp("tiff")
    write_label_tiff(make_stack({"vesicles": labels}, pixel_size_nm=1.35), folder)
    for path, section in zip(sorted((folder / "vesicles").iterdir()), labels, strict=True):
        assert np.array_equal(tifffile.imread(path), section)
        assert np.array_equal(read_section(path), section)
        assert read_header(path).pixel_sides_nm == (1.35, 1.35)
        wide = labels.max() > 65535
        assert tifffile.imread(path).dtype == (np.uint32 if wide else np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("sections", [1, 2, 3, 4, 7])
def test_stacks_keep_sections_and_scale(dtype, sections, tmp_path):
    pixels = np.arange(sections * 30).reshape(sections, 5, 6).astype(dtype)
    write_tiff(tmp_path / "stack.tif", pixels, pixel_size_nm=5.0, section_nm=50.0)
    header = read_header(tmp_path / "stack.tif")
    assert (header.shape, header.pages, header.pixel_sides_nm) == ((5, 6), sections, (5, 5))
    for page, section in enumerate(pixels):
        assert np.array_equal(read_section(tmp_path / "stack.tif", page), section)


def test_imagej_reads_unit_and_distance(tmp_path):
    write_tiff(tmp_path / "s.tif", np.zeros((3, 5, 6), np.uint16), pixel_size_nm=4, section_nm=50)
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        told = file.imagej_metadata
        assert (told["slices"], told["unit"], told["spacing"]) == (3, "nm", 50)
        assert file.pages.first.resolution == (0.25, 0.25)


def test_a_scale_that_is_not_known_stays_unknown(tmp_path):
    for dtype in (np.uint16, np.uint32):
        write_tiff(tmp_path / "s.tif", np.zeros((5, 6), dtype))
        assert read_header(tmp_path / "s.tif").pixel_sides_nm is None


def test_the_image_lies_beside(ring_labels, tmp_path):
    raw = np.random.default_rng(0).normal(size=ring_labels.shape)
    stack = make_stack({"membrane": ring_labels}, raw=raw, names=("b", "a"))
    write_label_tiff(stack, tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.tif")}
    assert found == {"raw/a.tif", "raw/b.tif", "membrane/a.tif", "membrane/b.tif"}
    assert np.array_equal(tifffile.imread(tmp_path / "raw/b.tif"), raw[0].astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "uint8"), ("uint16", "uint16"), ("float32", "float32"), ("int16", "float32"),
     ("uint32", "float32"), ("float64", "float32"), ("float16", "float32")],
)  # fmt: skip
def test_images_become_what_programs_open(dtype, expected):
    assert viewable(np.ones((1, 2, 2), dtype)).dtype == expected
