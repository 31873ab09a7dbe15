import io

import numpy as np
import pytest
from PIL import Image

from bench.report.page.pictures_section import (
    PAGE_BYTES,
    PICTURE_SIDE_PX,
    encode_webp,
    panel_budget,
)


@pytest.fixture(scope="module")
def noise():
    # The hardest there is to compress, of the size of an overlay.
    pixels = np.random.default_rng(0).integers(256, size=(700, 1650, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_keeps_to_its_limit_and_its_shape(noise):
    webp, width, height = encode_webp(noise, 70_000)
    assert 30_000 < len(webp) <= 70_000
    assert Image.open(io.BytesIO(webp)).size == (width, height)
    assert width / height == pytest.approx(1650 / 700, rel=0.02)


def test_the_budget_is_shared_and_bounded():
    assert panel_budget(600) * 600 <= PAGE_BYTES
    assert panel_budget(1) == panel_budget(0) == panel_budget(9) < PAGE_BYTES / 9


def test_what_compresses_well_keeps_its_size_and_its_colours():
    image = Image.new("RGBA", (400, 200), (0, 158, 115, 255))
    webp, *size = encode_webp(image, 20_000)
    read = Image.open(io.BytesIO(webp))
    assert (read.format, read.mode, list(read.size)) == ("WEBP", "RGB", size)
    assert size == [400, 200]
    assert np.abs(np.asarray(read)[100, 200].astype(int) - (0, 158, 115)).max() < 6


def test_a_large_picture_is_made_smaller():
    _, width, height = encode_webp(Image.new("RGB", (3000, 1500)), 100_000)
    assert (width, height) == (PICTURE_SIDE_PX, PICTURE_SIDE_PX // 2)


def test_a_limit_that_nothing_meets_ends(noise):
    webp, width, _ = encode_webp(noise, 1)
    assert width == 60
    assert len(webp) < 3000
