import imagecodecs
import numpy as np
import pytest

from bench.dataset.prepared import hash_pixels
from bench.ingest.inspection.likeness import Look, compare_looks, judge_looks, take_windows


def look(name: str, raw: np.ndarray, split: str = "train") -> Look:
    return Look(name, split, f"{name}.png", raw.shape, hash_pixels(raw), take_windows(raw))


def test_likeness_is_the_mean_correlation_of_the_windows():
    first, second = np.random.default_rng(0).integers(0, 255, (2, 128, 128), dtype=np.uint8)
    tiles = [
        (np.s_[32 * i : 32 * i + 32], np.s_[32 * j : 32 * j + 32])
        for i in range(4)
        for j in range(4)
    ]
    mixed = (first // 2 + second // 2).astype(np.uint8)
    expected = np.mean([np.corrcoef(first[t].ravel(), mixed[t].ravel())[0, 1] for t in tiles])
    likeness = compare_looks([look("a", first), look("b", mixed), look("c", 255 - first)])
    assert likeness[0, 1] == pytest.approx(expected, abs=1e-5)
    assert likeness[0, 2] == pytest.approx(-1, abs=1e-5)


def test_a_common_border_does_not_make_images_alike():
    images = np.random.default_rng(0).integers(1, 255, (2, 256, 256), dtype=np.uint8)
    images[:, :96] = 0
    images[:, :, :96] = 0
    assert np.corrcoef(images.reshape(2, -1))[0, 1] > 0.6
    assert compare_looks([look(str(n), image) for n, image in enumerate(images)])[0, 1] < 0.4
    blank = np.zeros((64, 64), np.uint8)
    assert compare_looks([look("a", blank), look("b", blank)])[0, 1] == 0


def test_three_copies_are_two_findings():
    raw = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    found = judge_looks([look(name, raw) for name in "abc"], "folders")
    assert [finding.section for finding in found] == ["b", "c"]


def test_copies_of_blank_windows_are_known_by_their_pixels():
    raw = np.zeros((64, 64), np.uint8)
    raw[0, 0] = 9
    found = judge_looks([look("a", raw), look("b", raw, "test")], "folders")
    assert [finding.kind for finding in found] == ["leak"]


def test_images_of_other_sizes_are_not_compared():
    raw = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    assert judge_looks([look("a", raw), look("b", raw[:-1])], "folders") == []


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_real_neighbours_are_no_copies_but_jpegs_are(real_neighbours, quality):
    for first, second in real_neighbours:
        assert judge_looks([look("a", first), look("b", second)], "folders") == []
        jpeg = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(first, level=quality))
        found = judge_looks([look("a", first), look("b", second), look("c", jpeg)], "folders")
        # JPEG of quality 50 takes most of the noise of EPFL6: 0.936.
        if quality > 50:
            assert [finding.section for finding in found] == ["c"]


def test_real_neighbours_in_two_splits_are_said(real_neighbours):
    first, second = real_neighbours[0]
    (finding,) = judge_looks([look("a", first), look("b", second, "val")], "folders")
    assert finding.kind == "neighbours"
