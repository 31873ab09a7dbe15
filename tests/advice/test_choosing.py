"""Which pieces are chosen, and how they are cut."""

import numpy as np
import pytest

from bench.advice.choosing import choose_pieces, measure_disagreement
from bench.advice.pieces import cut_pieces, describe_look, measure_distances


def test_disagreement_is_the_mean_difference_of_two_models():
    random = np.random.default_rng(0)
    said = [random.integers(0, 256, (5, 6), dtype=np.uint8) for _ in range(4)]
    pairs = [(a, b) for a in range(4) for b in range(a)]
    plain = np.mean([np.abs(said[a] / 255 - said[b] / 255) for a, b in pairs], axis=0)
    assert measure_disagreement(said) == pytest.approx(plain, abs=1e-6)


def test_one_model_is_undecided_at_one_half():
    said = np.array([[0, 255, 127]], np.uint8)
    assert measure_disagreement([said])[0] == pytest.approx([0, 0, 1], abs=0.01)


LOOKS = [np.array([value, 0.0]) for value in (0.0, 0.1, 5.0, 5.1, 10.0)]


def test_what_is_new_and_disagreed_upon_comes_first_and_its_twin_later():
    chosen = choose_pieces(LOOKS, [0.5, 0.4, 0.2, 0.3, 0.25], [LOOKS[0]], 5)
    places = [each.place for each in chosen]
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert set(places[:2]) == {3, 4}
    # The first looks as what is annotated does.
    assert chosen[-1].novelty == pytest.approx(0)
    assert [each.score for each in chosen] == sorted((c.score for c in chosen), reverse=True)


def test_disagreement_decides_between_what_is_equally_new():
    looks = [np.array([value, 0.0]) for value in (0.0, 1.0, -1.0)]
    for disagreements, first in (([0, 0.2, 0.1], 1), ([0, 0.1, 0.2], 2)):
        assert choose_pieces(looks, disagreements, [looks[0]], 1)[0].place == first


def test_without_annotation_and_of_pieces_that_are_all_alike():
    assert len(choose_pieces(LOOKS, [0.1] * 5, [], 9)) == 5
    assert len(choose_pieces([LOOKS[0]] * 3, [0.0] * 3, [LOOKS[0]], 2)) == 2


def test_a_look_ignores_brightness_and_contrast_but_not_blur():
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 1.5)
    other = gaussian_filter(np.random.default_rng(1).normal(size=(128, 128)), 1.5)
    looks = [
        describe_look(each) for each in (image, 7 * image + 90, other, gaussian_filter(image, 2))
    ]
    distances = measure_distances(looks[:1], looks)[0]
    assert distances[1] == pytest.approx(0, abs=1e-3)
    assert distances[2] < distances[3]


def test_pieces_cover_an_image_and_a_small_image_is_whole():
    pieces = cut_pieces("m", (250, 430), (100, 200))
    covered = np.zeros((250, 430), bool)
    for piece in pieces:
        assert (piece.height, piece.width) == (100, 200)
        covered[piece.view] = True
    assert covered.all()
    assert len({piece.name for piece in pieces}) == len(pieces) == 9
    (whole,) = cut_pieces("m", (120, 190), (100, 200))
    assert whole.name == "m"
    assert whole.view == (slice(0, 120), slice(0, 190))
