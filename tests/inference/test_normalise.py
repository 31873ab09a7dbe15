import numpy as np
import pytest

from bench.inference.feeding import normalise_section


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float16, np.float32, np.float64]
)
def test_mean_0_and_deviation_1_whatever_the_type(dtype):
    raw = np.random.default_rng(0).integers(10, 250, (50, 60)).astype(dtype)
    before = raw.copy()
    normalised = normalise_section(raw)
    assert normalised.dtype == np.float32
    assert normalised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert normalised.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    reference = before.astype(np.float64)
    expected = (reference - reference.mean()) / reference.std()
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_constant_section_becomes_zero(value, dtype):
    assert (normalise_section(np.full((33, 47), value, dtype)) == 0).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-6, 12345.678])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_fraction_becomes_zero(value, dtype):
    """The sum of many equal fractions is not exact, so the deviation may not be 0."""
    assert (normalise_section(np.full((1001, 999), value, dtype)) == 0).all()


def test_large_sections_of_16_bit_do_not_overflow():
    raw = np.full((2000, 2000), 65535, np.uint16)
    raw[:, ::2] = 65533
    normalised = normalise_section(raw)
    assert (np.abs(normalised) == 1).all()
