from fractions import Fraction

import numpy as np
import pytest

from bench.metrics.curves import histogram_scores
from bench.metrics.instances import instance_scores, match_instances
from bench.metrics.measures import measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import finish_scores, scored_metrics
from bench.metrics.vesicles import Balls
from bench.postprocess.instances import clean_mask
from bench.recipe.scores import SplitResult, threshold_level
from bench.recipe.volumes import VolumeInstances


def make_section(seed, shape=(40, 50)):
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint16)
    for instance in range(1, 4):
        y, x = rng.integers(0, 30, 2)
        truth[y : y + 8, x : x + 8] = instance
    noise = rng.normal(0, 60, shape)
    probability = (200.0 * (truth > 0) + noise).clip(0, 255).round().astype(np.uint8)
    return truth, probability


def predict(probability):
    return clean_mask(probability >= 128, opening_radius_px=1, min_area_px=5)


def score(sections):
    result = SplitResult()
    for name, (truth, probability) in sections.items():
        result.add(name, truth=truth, probability=probability, instances=predict(probability))
    return result


def test_pixels_and_instances_of_all_sections_count_alike():
    sections = {f"s{seed}": make_section(seed, (40 + 10 * seed, 50)) for seed in range(3)}
    result = score(sections)
    truth = np.concatenate([t.ravel() for t, _ in sections.values()])
    labels = [predict(p).labels for _, p in sections.values()]
    mask = np.concatenate([found.ravel() > 0 for found in labels])
    pooled = result.scores()
    counts = count_pixels(truth=truth > 0, prediction=mask)
    names = ("dice", "iou", "precision", "recall")
    pixels = finish_scores({measure_pixels: counts}, names)
    assert {name: pooled[name] for name in pixels} == pixels
    # One large image of the sections side by side has the same instances.
    height = 60
    tall = [
        np.concatenate(
            [
                np.pad(a.astype(int) + (a > 0) * 1000 * i, ((0, height - len(a)), (0, 0)))
                for i, a in enumerate(arrays)
            ],
            axis=1,
        )
        for arrays in ([t for t, _ in sections.values()], labels)
    ]
    instances = instance_scores(match_instances(truth=tall[0], prediction=tall[1]))
    assert {name: pooled[name] for name in instances} == pytest.approx(instances)
    assert set(pooled) == set(pixels) | set(instances)


def test_each_section_has_its_own_scores():
    sections = {f"s{seed}": make_section(seed) for seed in range(3)}
    result = score(sections)
    assert list(result.sections) == ["s0", "s1", "s2"]
    for name, (truth, probability) in sections.items():
        assert result.sections[name] == score({name: (truth, probability)}).scores()
    assert len({scores["dice"] for scores in result.sections.values()}) == 3


def test_histogram_is_that_of_all_pixels():
    sections = {f"s{seed}": make_section(seed) for seed in range(2)}
    truth, probability = (np.concatenate(arrays) for arrays in zip(*sections.values(), strict=True))
    whole = histogram_scores(truth=truth, probability=probability)
    pooled = score(sections).histogram
    np.testing.assert_array_equal(pooled.foreground, whole.foreground)
    np.testing.assert_array_equal(pooled.background, whole.background)


def test_empty_sections_are_named_and_score_1():
    nothing = np.zeros((40, 50), np.uint16), np.zeros((40, 50), np.uint8)
    result = score({"full": make_section(0), "empty": nothing})
    assert result.empty == ["empty"]
    assert result.sections["empty"]["dice"] == 1
    assert result.scores()["dice"] == result.sections["full"]["dice"]
    assert score({"empty": nothing}).scores()["dice"] == 1


def test_missed_and_invented_sections_are_not_empty():
    truth, probability = make_section(0)
    result = score(
        {
            "missed": (truth, np.zeros_like(probability)),
            "invented": (np.zeros_like(truth), probability),
        }
    )
    assert result.empty == []
    assert [s["dice"] for s in result.sections.values()] == [0, 0]


def test_removed_fraction_is_pooled():
    truth = np.zeros((40, 50), np.uint8)
    specks, block = np.zeros((2, 40, 50), np.uint8)
    specks[5:7, 5:7] = 255
    block[10:22, 10:22] = 255
    result = score({"specks": (truth, specks), "block": (truth, block)})
    # The opening by a disc of 1 takes the four specks and the four corners of the block.
    assert (result.before_px, result.after_px) == (148, 140)
    assert result.removed_fraction() == pytest.approx(8 / 148)
    assert score({"none": (truth, truth)}).removed_fraction() == 0


@pytest.mark.parametrize("percent", range(101))
def test_level_is_the_first_that_reaches_the_threshold(percent):
    exact = Fraction(percent, 100)
    levels = [level for level in range(256) if Fraction(level, 255) >= exact]
    assert threshold_level(percent / 100) == levels[0]


def test_every_stored_level_is_its_own_threshold():
    assert [threshold_level(level / 255) for level in range(256)] == list(range(256))


def test_volumes_are_scored_as_a_whole_with_their_vesicles():
    truth = np.zeros((20, 20, 40), np.int32)
    grid = np.ogrid[:20, :20, :40]
    for number, x in enumerate((10, 29), start=1):
        away = sum((axis - c) ** 2 for axis, c in zip(grid, (10, 10, x), strict=True))
        truth[away <= 36] = number
    levels = np.where(truth, 255, 0).astype(np.uint8)
    result = SplitResult(
        scored_metrics("vesicles", volumes=True), 2.0, voxel_size_nm=(2.0, 2.0, 2.0)
    )
    fitted = Balls(np.array([[20.0, 20, 22], [20, 20, 58]]), np.array([12.0, 12]))
    for name, balls in (("tomo1", fitted), ("tomo2", None)):
        found = np.where(truth == 2, 0, truth) if balls is None else truth
        mask = truth > 0
        instances = VolumeInstances(found, 100, 100, mask=mask, balls=balls)
        result.add(name, truth=truth, probability=levels, instances=instances)
    assert result.sections["tomo1"]["centre_error_nm"] == 1
    assert result.sections["tomo2"]["vesicle_recall"] == 0.5
    scores = result.all_scores()
    assert scores["mask_dice"] == scores["average_precision"] == 1
    assert scores["vesicle_recall"] == 0.75
    assert scores["vesicle_f1"] == pytest.approx(6 / 7)
    assert scores["centre_error_nm"] == pytest.approx(2 / 3)
    known = result.vesicles()
    assert known["tomo1"]["centre_error_nm_sd"] == pytest.approx(2**0.5)
    assert (known["tomo2"]["false_negative"], known["tomo2"]["false_positive"]) == (1, 0)
    assert SplitResult().vesicles() == {}
