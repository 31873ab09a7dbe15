import io

import numpy as np
import pytest
from PIL import Image

from bench.report.page.pictures_section import (
    PAGE_BYTES,
    PICTURE_SIDE_PX,
    encode_jpeg,
    picture_budget,
)


@pytest.fixture(scope="module")
def noise():
    # The hardest there is to compress, of the size of an overlay.
    pixels = np.random.default_rng(0).integers(256, size=(700, 1650, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_keeps_to_its_limit_and_its_shape(noise):
    jpeg, width, height = encode_jpeg(noise, 70_000)
    assert 30_000 < len(jpeg) <= 70_000
    assert Image.open(io.BytesIO(jpeg)).size == (width, height)
    assert width / height == pytest.approx(1650 / 700, rel=0.02)


def test_the_budget_is_shared_and_bounded():
    assert picture_budget(600) * 600 <= PAGE_BYTES
    assert picture_budget(1) == picture_budget(0) == picture_budget(3) < PAGE_BYTES / 3


def test_what_compresses_well_keeps_its_size_and_its_colours():
    image = Image.new("RGBA", (400, 200), (0, 158, 115, 255))
    jpeg, *size = encode_jpeg(image, 20_000)
    read = Image.open(io.BytesIO(jpeg))
    assert (read.format, read.mode, list(read.size)) == ("JPEG", "RGB", size)
    assert size == [400, 200]
    assert np.abs(np.asarray(read)[100, 200].astype(int) - (0, 158, 115)).max() < 6


def test_a_large_picture_is_made_smaller():
    _, width, height = encode_jpeg(Image.new("RGB", (3000, 1500)), 100_000)
    assert (width, height) == (PICTURE_SIDE_PX, PICTURE_SIDE_PX // 2)


def test_a_limit_that_nothing_meets_ends(noise):
    jpeg, width, _ = encode_jpeg(noise, 1)
    assert width == 60
    assert len(jpeg) < 3000
