"""Selections of ImageJ: against ImageJ's own rules for filling, spelt out as loops."""

import io
import random
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite

from bench.errors import BenchError
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.annotations.rasterise import draw_labels

SIZE = (32, 40)


def fill_as_imagej(rings, size=SIZE) -> np.ndarray:
    """Even-odd; a centre on an edge belongs to the side of smaller x, then of smaller y."""
    mask = np.zeros(size, bool)
    for row, column in np.ndindex(size):
        x, y = column + 0.5, row + 0.5
        for ring in rings:
            for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y1 < y) != (y2 < y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) < x:
                    mask[row, column] = not mask[row, column]
    return mask


def draw(path: Path, section: int = 0) -> np.ndarray:
    objects, _ = read_rois(path)
    return draw_labels(objects, section, SIZE).labels


def save(path: Path, roi: ImagejRoi) -> Path:
    roi.tofile(path)
    return path


def box(kind: ROI_TYPE, left, top, width, height, **fields) -> ImagejRoi:
    return ImagejRoi(
        roitype=kind, left=left, top=top, right=left + width, bottom=top + height, **fields
    )


def composite(path: list[float], **fields) -> ImagejRoi:
    numbers = np.array(path, np.float32)
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        right=SIZE[1],
        bottom=SIZE[0],
        multi_coordinates=numbers,
        shape_roi_size=len(numbers),
        **fields,
    )


def around_axis(subtype: ROI_SUBTYPE, ends, parameter: float) -> ImagejRoi:
    """A rotated shape as ImageJ stores it: its outline is there too, and is not what counts."""
    roi = ImagejRoi.frompoints([[0, 0], [1, 0], [1, 1]])
    roi.subtype = subtype
    roi.x1, roi.y1, roi.x2, roi.y2 = ends
    packed = struct.unpack(">BBh", struct.pack(">f", parameter))
    roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size = packed
    return roi


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("step", [1, 0.5])
def test_polygons_have_the_pixels_that_imagej_fills(tmp_path, seed, step):
    generator = np.random.default_rng(seed)
    # Whole and half pixels put edges onto centres.
    corners = np.round(generator.uniform(1, 31, (generator.integers(3, 9), 2)) / step) * step
    points = corners.astype(int) if step == 1 else corners
    path = save(tmp_path / "a.roi", ImagejRoi.frompoints(points, name="a"))
    np.testing.assert_array_equal(draw(path) > 0, fill_as_imagej([corners]))


def test_a_polygon_that_ends_at_the_border_is_inside_of_the_image(tmp_path):
    corners = [[0, 0], [SIZE[1], 0], [SIZE[1], SIZE[0]], [10, SIZE[0]]]
    objects, _ = read_rois(save(tmp_path / "a.roi", ImagejRoi.frompoints(corners, name="a")))
    assert draw_labels(objects, 0, SIZE).cut == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (5, 5), (10, 26), (25, 7), (30, 30)])
def test_ovals_have_the_pixels_that_imagej_fills(tmp_path, width, height):
    path = save(tmp_path / "a.roi", box(ROI_TYPE.OVAL, 3, 1, width, height))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    a, b = width / 2, height / 2
    expected = ((columns - 3 - a + 0.5) / a) ** 2 + ((rows - 1 - b + 0.5) / b) ** 2
    np.testing.assert_array_equal(draw(path) > 0, expected <= 1 + 1e-12)


@given(
    left=st.floats(-5, 20),
    top=st.floats(-5, 20),
    width=st.floats(0.1, 30),
    height=st.floats(0.1, 30),
)
@settings(max_examples=60, deadline=None)
def test_ovals_between_pixels_are_taken_as_drawn(tmp_path_factory, left, top, width, height):
    roi = box(ROI_TYPE.OVAL, 0, 0, 40, 40, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    left, top, width, height = (float(np.float32(n)) for n in (left, top, width, height))
    roi.xd, roi.yd, roi.widthd, roi.heightd = left, top, width, height
    path = save(tmp_path_factory.getbasetemp() / "oval.roi", roi)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    a, b = width / 2, height / 2
    distance = ((columns - left - a) / a) ** 2 + ((rows - top - b) / b) ** 2
    clear = np.abs(distance - 1) > 1e-9
    np.testing.assert_array_equal((draw(path) > 0)[clear], (distance <= 1)[clear])


def test_rectangles(tmp_path):
    mask = draw(save(tmp_path / "a.roi", box(ROI_TYPE.RECT, 3, 4, 10, 6)))
    assert mask.sum() == 60
    assert mask[4:10, 3:13].all()
    roi = box(ROI_TYPE.RECT, 3, 4, 10, 6, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    roi.xd, roi.yd, roi.widthd, roi.heightd = 3.75, 4.25, 9.5, 5.0
    mask = draw(save(tmp_path / "b.roi", roi))
    assert mask.sum() == 45
    assert mask[4:9, 4:13].all()


@pytest.mark.parametrize("arc", [6, 11, 60])
def test_corners_of_rounded_rectangles_are_quarter_ovals(tmp_path, arc):
    path = save(tmp_path / "a.roi", box(ROI_TYPE.RECT, 2, 3, 31, 21, rounded_rect_arc_size=arc))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    a, b = min(arc, 31) / 2, min(arc, 21) / 2
    # How far a pixel is in the corner's square, from that square's inner corner.
    x = np.maximum(np.abs(columns - 17.5) - (15.5 - a), 0) / a
    y = np.maximum(np.abs(rows - 13.5) - (10.5 - b), 0) / b
    np.testing.assert_array_equal(draw(path) > 0, x**2 + y**2 <= 1)


def test_rotated_rectangles_and_ellipses_come_from_their_axis(tmp_path):
    ends = (6.0, 8.0, 30.0, 15.0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    length = np.hypot(24, 7)
    along = ((columns - 18) * 24 + (rows - 11.5) * 7) / length
    across = ((rows - 11.5) * 24 - (columns - 18) * 7) / length
    rectangle = save(tmp_path / "a.roi", around_axis(ROI_SUBTYPE.ROTATED_RECT, ends, 9.2))
    np.testing.assert_array_equal(
        draw(rectangle) > 0, (np.abs(along) < length / 2) & (np.abs(across) < 4.6)
    )
    ellipse = save(tmp_path / "b.roi", around_axis(ROI_SUBTYPE.ELLIPSE, ends, 0.5))
    inside = (along / (length / 2)) ** 2 + (across / (length / 4)) ** 2 <= 1
    # ImageJ's polygon of 72 corners is a little smaller than the ellipse.
    assert np.count_nonzero((draw(ellipse) > 0) != inside) <= 3


def test_composites_have_holes_and_several_parts(tmp_path):
    square = np.array([(2, 2), (20, 2), (20, 20), (2, 20)])
    hole, part = square / 3 + 4, square / 4 + (25, 3)
    path = []
    for ring in (square, hole, part):
        path += [0, *ring[0]] + [n for corner in ring[1:] for n in (1, *corner)] + [4]
    roi = save(tmp_path / "a.roi", composite(path, name="a"))
    np.testing.assert_array_equal(draw(roi) > 0, fill_as_imagej(np.float32([square, hole, part])))


def test_curves_of_composites(tmp_path):
    # Four cubic arcs with the usual constant are a circle but for 0.03 %.
    x, y, r, k = 18, 15, 12, 12 * 0.5522847
    circle = [0, x + r, y]
    circle += [3, x + r, y + k, x + k, y + r, x, y + r, 3, x - k, y + r, x - r, y + k, x - r, y]
    circle += [3, x - r, y - k, x - k, y - r, x, y - r, 3, x + k, y - r, x + r, y - k, x + r, y, 4]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    distance = np.hypot(columns - x, rows - y)
    clear = np.abs(distance - r) > 0.02
    mask = draw(save(tmp_path / "a.roi", composite(circle))) > 0
    np.testing.assert_array_equal(mask[clear], (distance < r)[clear])
    # y = 2 + 24 t (1 - t) * 2 over x = 4 + 32 t: a parabola.
    mask = draw(save(tmp_path / "b.roi", composite([0, 4, 2, 2, 20, 50, 36, 2, 4]))) > 0
    t = (columns - 4) / 32
    curve = 2 + 96 * t * (1 - t)
    clear = np.abs(rows - curve) > 0.05
    np.testing.assert_array_equal(mask[clear], ((rows > 2) & (rows < curve))[clear])


def test_a_fitted_spline_bulges_between_its_corners(tmp_path):
    angles = np.arange(8) * np.pi / 4
    corners = np.stack([20 + 12 * np.cos(angles), 16 + 12 * np.sin(angles)], axis=1)
    plain, fitted = (ImagejRoi.frompoints(corners, name="a") for _ in range(2))
    fitted.options |= ROI_OPTIONS.SPLINE_FIT
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    disc = np.hypot(columns - 20, rows - 16) < 12
    differing = [
        np.count_nonzero((draw(save(tmp_path / "a.roi", roi)) > 0) != disc)
        for roi in (plain, fitted)
    ]
    assert differing[0] > 30
    assert differing[1] <= 4


def test_a_set_has_names_classes_and_sections(tmp_path):
    corners = [[2, 2], [9, 2], [9, 9]]
    rois = [
        ImagejRoi.frompoints(corners, name="vesicle-001", position=1),
        ImagejRoi.frompoints(corners, name="mito_3", z=3, c=1),
        ImagejRoi.frompoints(corners, name="0012-0345"),
        ImagejRoi.frompoints(corners, name="0012-0346", t=5),
        ImagejRoi.frompoints(corners, name="point"),
        box(ROI_TYPE.LINE, 1, 1, 4, 4, name="line"),
        box(ROI_TYPE.RECT, 1, 1, 4, 4, name="label", subtype=ROI_SUBTYPE.TEXT, text="a"),
    ]
    rois[2].group = 3
    rois[4].roitype = ROI_TYPE.POINT
    roiwrite(tmp_path / "RoiSet.zip", rois)
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "a") as archive:
        archive.writestr("nested.zip", b"PK")
        archive.writestr("__MACOSX/._vesicle-001.roi", b"x")
    objects, warnings = read_rois(tmp_path / "RoiSet.zip")
    assert [(item.name, item.kind, *item.shapes) for item in objects] == [
        ("vesicle-001", "vesicle", 1),
        ("mito_3", "mito", 3),
        ("0012-0345", "group 3", 0),
        ("0012-0346", "unclassified", 5),
    ]
    assert len(warnings) == 1
    assert "4 without an area are left out: 'label' (text), 'line' (line)" in warnings[0]


def make_zip(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return content.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.roi", b"Iout", "does not decode"),
        ("a.roi", box(ROI_TYPE.RECT, 0, 0, 3, 3).tobytes().replace(b"\1", b"\77"), "unknown type"),
        ("a.zip", b"PK\3\4", "does not decode"),
        ("a.zip", make_zip({"a.roi": bytes(2**24)}), "unpacks to far too much"),
        ("a.zip", make_zip({"a.roi": b"x"}, zipfile.ZIP_LZMA), "packed otherwise"),
        ("a.zip", make_zip({"../a.roi": b"Iout" + bytes(99)[:20]}), "('../a.roi')"),
        ("a.roi", composite([0, np.nan, 3, 1, 4, 4, 1, 9, 2, 4]).tobytes(), "received nan"),
        ("a.roi", composite([0, 1, 1, 7, 4, 4]).tobytes(), "segment 7 at 3"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, reason):
    with pytest.raises(BenchError) as error:
        read_rois(write(tmp_path / name, content))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(BenchError, match="must be readable"):
        read_rois(tmp_path / "a.roi")


def test_bombs_are_stopped_early(tmp_path):
    many = {f"{n}.roi": bytes(2**22) for n in range(50)}
    start = time.process_time()
    with pytest.raises(BenchError):
        read_rois(write(tmp_path / "a.zip", make_zip(many)))
    tall = box(ROI_TYPE.OVAL, 0, 0, 9, 60_000).tobytes()
    with pytest.raises(BenchError, match="corners"):
        read_rois(write(tmp_path / "b.zip", make_zip({f"{n}.roi": tall for n in range(400)})))
    assert time.process_time() - start < 5


def damage(content: bytes, generator: random.Random) -> bytes:
    """Cuts a file, flips bits in it, or mixes its parts."""
    data, place = bytearray(content), generator.randrange(len(content))
    match generator.randrange(3):
        case 0:
            del data[place:]
        case 1:
            for _ in range(generator.choice([1, 2, 8])):
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        case _:
            data[place:] = content[generator.randrange(len(content)) :]
    return bytes(data)


def test_damaged_files_are_read_or_refused(tmp_path):
    generator = random.Random(0)
    polygon = ImagejRoi.frompoints([[1.5, 1], [20, 3], [9, 18]], name="vesicle-1")
    polygon.options |= ROI_OPTIONS.SPLINE_FIT
    rois = [
        polygon,
        box(ROI_TYPE.OVAL, 3, 4, 12, 9, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION, widthd=9.5),
        box(ROI_TYPE.RECT, 3, 4, 12, 9, rounded_rect_arc_size=5),
        composite([0, 1, 1, 1, 20, 1, 2, 25, 10, 20, 18, 3, 10, 20, 5, 20, 1, 18, 4]),
        around_axis(ROI_SUBTYPE.ELLIPSE, (1, 2, 30, 20), 0.4),
    ]
    files = [("a.roi", roi.tobytes()) for roi in rois]
    files.append(("a.zip", make_zip({f"{n}.roi": roi.tobytes() for n, roi in enumerate(rois)})))
    refused = 0
    for _ in range(120):
        name, content = generator.choice(files)
        path = write(tmp_path / name, damage(content, generator))
        try:
            objects, _ = read_rois(path)
            draw_labels(objects, 0, SIZE)
        except BenchError:
            refused += 1
    assert 20 < refused < 110
