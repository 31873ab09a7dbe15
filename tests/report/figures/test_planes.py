import numpy as np

from bench.report.figures.overlays import OKABE_ITO
from bench.report.figures.planes import draw_planes


def test_three_planes_show_where_a_voxel_is():
    raw = np.zeros((20, 300, 300))
    raw[4, 40, 100] = raw[4, 40, 101] = 1000
    raw += np.arange(300)  # so that percentiles are not all of one value
    sheet = draw_planes(raw, {}, at=(4, 40, 100))
    zoom = 1200 // (2 * (300 + 4 + 20) + 8)
    shape = (300 + 4 + 20, 2 * (300 + 4 + 20) + 8, 3)
    assert sheet.shape == tuple(n * zoom if n > 3 else n for n in shape)
    assert sheet.dtype == np.uint8
    bright = sheet[::zoom, ::zoom, 0]
    # xy, then zy beside it (z along x), then xz below it.
    for row, column in ((40, 100), (40, 300 + 4 + 4), (300 + 4 + 4, 100)):
        assert bright[row, column] == 255
        assert bright[row, column - 1] < 200


def test_outlines_are_drawn_on_the_copy_only():
    raw = np.random.default_rng(0).normal(size=(40, 64, 64))
    ids = np.zeros(raw.shape, np.uint16)
    ids[10:30, 20:40, 20:40] = 3
    zones = (np.indices(raw.shape)[2] > 50).astype(np.uint8)
    sheet = draw_planes(raw, {"vesicles": ids, "active_zone": zones}, voxel_nm=(2.0, 2.0, 2.0))
    left, right = sheet[:, : sheet.shape[1] // 2], sheet[:, sheet.shape[1] // 2 :]
    for colour in (OKABE_ITO["yellow"], OKABE_ITO["sky blue"]):
        assert not (left == colour).all(axis=2).any()
        assert (right == colour).all(axis=2).any()
