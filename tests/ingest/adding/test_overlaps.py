"""Images that are in a dataset already, however their pixels are stored."""

import numpy as np
import pytest

from bench.ingest.adding.overlaps import shares_pixels

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (IMAGE.copy(), True),
        (IMAGE.astype(np.float32), True),
        (IMAGE.astype(">i2"), True),
        (IMAGE[3:20, 7:30], True),
        (IMAGE[-1:, -2:].astype(np.float32), True),
        (np.pad(IMAGE, ((2, 5), (9, 1))), True),
        (IMAGE[::-1], False),
        (IMAGE[3:20, 7:30] + 1, False),
        (IMAGE[3:20:2, 7:30], False),
        # Taller than the image, and less wide.
        (np.ones((60, 10), np.uint8), False),
    ],
)
def test_the_same_pixels_are_found(other, shared):
    assert shares_pixels(IMAGE, other) is shared
    assert shares_pixels(other, IMAGE) is shared


def test_rows_that_repeat_are_no_window():
    stripes = np.tile(np.arange(8, dtype=np.uint16), (6, 2))
    other = stripes[:3, 2:7].copy()
    assert shares_pixels(other, stripes)
    other[2, 2] = 99
    assert not shares_pixels(other, stripes)
