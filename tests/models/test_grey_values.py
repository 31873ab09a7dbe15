import numpy as np
import pytest

from bench.models.grey_values import GreyValues, find_contrast_warnings


def section(mean=128, deviation=40, skew=0.0, dtype=np.uint8, seed=0):
    """Noise, with a share of dark pixels."""
    random = np.random.default_rng(seed)
    raw = random.normal(mean, deviation, (90, 110))
    raw[random.random(raw.shape) < skew] -= 2.5 * deviation
    top = np.iinfo(dtype).max
    return raw.clip(0, top).astype(dtype)


def test_numbers_are_medians_over_sections():
    found = GreyValues.measure([np.full((4, 4), value, np.uint16) for value in (5, 90, 7)])
    assert found == GreyValues("uint16", 7.0, 0.0, 7.0, 7.0, 7.0)
    assert GreyValues(**found.to_json()) == found


def test_a_large_section_is_sampled():
    """A grid of its pixels says the same to a few thousandths."""
    raw = np.random.default_rng(0).integers(0, 256, (3000, 2000), dtype=np.uint8)
    found = GreyValues.measure([raw])
    assert found.mean == pytest.approx(raw.mean(), rel=5e-3)
    assert found.mean != float(raw.mean())
    assert found.deviation == pytest.approx(raw.std(), rel=5e-3)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (section(seed=1), ""),
        (section(150, 35, seed=1), ""),
        (section(180, 40), "mean 179.4 and deviation"),
        (section(128, 18), "and deviation 18, in training 127.8 and 40"),
        # Other units say nothing of contrast: a camera of 12 bits, stored in 16.
        (section(2000, 600, dtype=np.uint16), ""),
    ],
)
def test_what_is_far(other, said):
    seen = GreyValues.measure([section()])
    found = GreyValues.measure([other]).describe_distance(seen)
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_an_inverted_section_is_far_at_any_depth(depth):
    raw = section(150, 30, skew=0.2)
    seen = GreyValues.measure([raw])
    inverted = (255 - raw).astype(depth) * (1 if depth is np.uint8 else 100)
    said = GreyValues.measure([inverted]).describe_distance(seen)
    assert "inverted?" in said or "mean" in said
    if depth is np.uint16:
        assert said == "mostly dark where training was not: inverted?"


def test_sections_are_named_in_one_line():
    seen = GreyValues.measure([section()])
    images = [("s2", section(128, 15)), ("s1", section()), ("s10", section(128, 15))]
    (line,) = find_contrast_warnings([seen], images)
    assert line.startswith("the contrast of 2 of 3 sections looked at (s2, s10) is far from")
    assert find_contrast_warnings([seen], images[1:2]) == []
    assert find_contrast_warnings([], images) == []
