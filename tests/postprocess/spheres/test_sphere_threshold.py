import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from bench.postprocess.spheres.threshold import choose_shell_level, level_above

CROSS = {2: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)}


def choose_by_scipy(raw, levels, lowest=80):
    """The threshold with the darkest shell, one after the other; the lowest of equals."""
    best, darkest = None, np.inf
    for percent in range(lowest, 100):
        mask = levels / 255 > percent / 100
        # A border limits nothing.
        shell = mask & ~binary_erosion(mask, border_value=1)
        mean = raw[shell].mean() if shell.any() else np.inf
        if best is None or mean < darkest:
            best, darkest = percent, mean
    return level_above(best / 100)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(9, 14, 11), (1, 30, 40)])
def test_the_level_is_that_of_erosions_one_by_one(shape, seed):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal(shape), 1.5)
    levels = np.clip(255 * (0.8 + smooth), 0, 255).astype(np.uint8)
    raw = rng.integers(-300, 300, shape).astype(np.int16)
    for workers in (1, 3):
        chosen = choose_shell_level(raw, levels, lowest_threshold=0.8, workers=workers)
        assert chosen == choose_by_scipy(raw, levels)


def test_a_mask_without_a_shell_has_the_lowest_level():
    raw = np.zeros((5, 6, 7), np.float32)
    for levels in (0, 255):
        full = np.full(raw.shape, levels, np.uint8)
        assert choose_shell_level(raw, full, lowest_threshold=0.8, workers=2) == 205


def test_the_darkest_shell_is_chosen_although_higher_levels_have_none():
    levels = np.zeros((11, 11, 11), np.uint8)
    levels[2:9, 2:9, 2:9], levels[3:8, 3:8, 3:8] = 210, 230
    raw = np.ones(levels.shape, np.float32)
    raw[3:8, 3:8, 3:8] = -1
    raw[4:7, 4:7, 4:7] = np.nan
    assert choose_shell_level(raw, levels, lowest_threshold=0.8, workers=1) == level_above(0.83)


def test_levels_are_strictly_above_a_probability():
    for thousandths in range(1000):
        level = level_above(thousandths / 1000)
        assert level * 1000 > 255 * thousandths >= (level - 1) * 1000
