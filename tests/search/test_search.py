from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from skimage.measure import label
from skimage.morphology import ball, disk, opening, remove_small_objects

from bench.errors import BenchError
from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction
from bench.metrics.instances import match_instances
from bench.metrics.measures import measure_matching, measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import METRICS, finish_scores, searchable_metrics
from bench.postprocess.watershed import WatershedSettings
from bench.search.candidates import Candidate, Evidence, middle_of_best, score_candidate
from bench.search.finalists import choose_finalists
from bench.search.map_search import MapSettings, rank, search_maps
from bench.search.search import SearchSettings, search_combinations

RADII, AREAS = (0, 1, 2), (0, 6, 20)
EVERYTHING = MapSettings("dice", "subsets", ("mean", "maximum", "vote"), 3, 9, 99, 5)


def quiet(done, total, remark):
    pass


def plain(*names):
    return {name: Candidate(Blend((name,)), 128, 1, 6, {}) for name in names}


def search(evidence, settings=EVERYTHING, finalists=10_000, defaults=None):
    return search_combinations(
        evidence,
        defaults or plain(*evidence.members),
        SearchSettings(settings, finalists, RADII, AREAS),
        quiet,
    )


def blend_by_numpy(evidence, members, names, ensemble, section):
    """A blend's map by floating-point numpy, halves rounded up."""
    maps = np.array(
        [[evidence.read(m, section, n).foreground.astype(float) for n in names] for m in members]
    )
    if ensemble == "mean":
        return np.floor(maps.mean(axis=(0, 1)) + 0.5)
    means = np.floor(maps.mean(axis=1) + 0.5)
    if ensemble == "maximum":
        return means.max(axis=0)
    return np.sort(means, axis=0)[(len(members) - 1) // 2]


def loop_over_everything(evidence, levels):
    """Scores of all combinations by metric, each by scikit-image from the start."""
    names = next(iter(evidence.members.values()))
    subsets = [s for k in range(1, len(names) + 1) for s in combinations(names, k)]
    sets = [s for k in (1, 2, 3) for s in combinations(evidence.members, k)]
    scores = {}
    for members, subset, ensemble in product(sets, subsets, ("mean", "maximum", "vote")):
        if len(members) == 1 and ensemble != "mean":
            continue
        sections = [
            (evidence.read_truth(s), blend_by_numpy(evidence, members, subset, ensemble, s))
            for s in evidence.sections
        ]
        for level, radius, area in product(levels, RADII, AREAS):
            scores[members, subset, ensemble, level, radius, area] = score_by_skimage(
                sections, level, radius, area
            )
    return scores


def score_by_skimage(sections, level, radius, area):
    pixels = matching = None
    for truth, levels in sections:
        mask = levels >= level
        mask = opening(mask, (disk if mask.ndim == 2 else ball)(radius)) if radius else mask
        if area > 1:
            mask = remove_small_objects(mask, max_size=area - 1, connectivity=1)
        labels = label(mask, connectivity=1)
        counted = count_pixels(truth=truth, prediction=labels)
        matched = match_instances(truth=truth, prediction=labels)
        pixels = counted if pixels is None else pixels + counted
        matching = matched if matching is None else matching + matched
    return finish_scores({measure_pixels: pixels, measure_matching: matching}, searchable_metrics())


def test_the_winner_is_that_of_a_plain_loop_over_all_combinations(make_evidence):
    evidence = make_evidence({"m": 0.7, "n": 0.8}, augmentations=2)
    results = {
        metric: search(evidence, replace(EVERYTHING, metric=metric))
        for metric in ("dice", "instance_f1")
    }
    # The plain loop is slow, so it is given every fourth threshold and those around the winners'.
    levels = set(range(1, 256, 4))
    for result in results.values():
        level = result.winner.level
        levels |= set(range(max(0, level - 3), min(256, level + 4)))
    scores = loop_over_everything(evidence, sorted(levels))
    for metric, result in results.items():
        assert len(result.histograms) == 2 * 3 + 3 * 3
        best = max(each[metric] for each in scores.values())
        assert result.winner.scores[metric] == pytest.approx(best, abs=1e-12)
        blend = result.winner.blend
        found = (blend.members, blend.augmentations, blend.ensemble, result.winner.level)
        place = (*found, result.winner.opening_radius_px, result.winner.min_area_px)
        assert scores[place][metric] == pytest.approx(best, abs=1e-12)
        assert result.combinations == (15 + 15 * len(RADII) * len(AREAS)) * 256


VOLUMES = ((11, 18, 20), (12, 16, 19))


def test_the_winner_among_volumes_is_that_of_a_plain_loop(make_evidence):
    evidence = make_evidence({"m": 0.7, "n": 0.8}, 1, VOLUMES, (2.0, 2.0, 2.0))
    result = search(evidence, replace(EVERYTHING, metric="instance_f1"))
    level = result.winner.level
    levels = sorted({*range(1, 256, 16), *range(max(0, level - 2), min(256, level + 3))})
    scores = loop_over_everything(evidence, levels)
    best = max(each["instance_f1"] for each in scores.values())
    assert result.winner.scores["instance_f1"] == pytest.approx(best, abs=1e-12)
    assert {each.opening_radius_px for each in result.candidates} == set(RADII)
    for candidate in result.candidates[::7]:
        expected = score_candidate(evidence, candidate, tuple(METRICS)).scores()
        assert {"vesicle_f1"} <= set(expected)
        assert candidate.scores == pytest.approx(
            {name: expected[name] for name in candidate.scores}, abs=1e-12
        )


@pytest.mark.parametrize("voxel_size_nm", [None, (50.0, 5.0, 5.0)])
def test_volumes_whose_voxels_are_no_cubes_are_not_opened(make_evidence, voxel_size_nm):
    evidence = make_evidence({"m": 0.7}, 1, VOLUMES, voxel_size_nm)
    result = search(evidence, defaults={"m": Candidate(Blend(("m",)), 128, 0, 6, {})})
    assert {each.opening_radius_px for each in result.candidates} == {0}
    assert "threshold" in {each.name for each in result.ablation}


def test_touching_instances_of_a_volume_are_separated():
    truth = np.zeros((12, 24, 40), np.int32)
    truth[:, 4:20, 4:20], truth[:, 4:20, 20:36] = 1, 2
    boundary = np.zeros(truth.shape, np.uint8)
    boundary[:, 4:20, 19:21] = 250
    maps = SectionPrediction(np.where(truth, 250, 5).astype(np.uint8), boundary)
    evidence = Evidence(("v",), {"m": ("identity",)}, lambda *_: maps, lambda _: truth)
    settings = replace(EVERYTHING, metric="instance_f1")
    result = search(evidence, settings, defaults={"m": Candidate(Blend(("m",)), 128, 0, 9, {})})
    assert isinstance(result.winner.watershed, WatershedSettings)
    assert result.winner.scores["instance_f1"] == 1


def test_scores_of_all_candidates_are_those_of_an_evaluation(make_evidence):
    evidence = make_evidence({"m": 0.7, "n": 0.8}, augmentations=2)
    result = search(evidence, finalists=3)
    for candidate in result.candidates[::5]:
        expected = score_candidate(evidence, candidate, tuple(METRICS)).scores()
        assert candidate.scores == pytest.approx(
            {name: expected[name] for name in candidate.scores}, abs=1e-12
        )


def test_the_better_models_win_and_the_ablation_adds_up(make_evidence):
    evidence = make_evidence({"good": 0.6, "poor": 3.0}, augmentations=4)
    result = search(evidence, finalists=4)
    assert result.single.blend.members == ("good",)
    assert "good" in result.winner.blend.members
    assert result.winner.scores["dice"] >= result.single.scores["dice"] + 0.02
    gains = {each.name: each.gain for each in result.ablation}
    assert next(iter(gains)) == "plain model"
    assert list(gains)[-1] == "all together"
    assert gains["plain model"] == 0
    assert gains["all together"] == pytest.approx(
        result.winner.scores["dice"] - result.single.scores["dice"]
    )
    assert gains["augmentation"] > 0.01
    # Only what is free to stay as it is cannot be worse.
    assert min(gains["threshold"], gains["opening"], gains["minimum area"]) >= 0
    assert "separation" not in gains


def test_a_model_that_is_best_as_it_is_stays_so(make_evidence):
    evidence = make_evidence({"m": 0.5}, augmentations=1)
    level = search(evidence, finalists=1).winner.level
    odd = {"m": Candidate(Blend(("m",)), level, 0, 3, {})}
    settings = SearchSettings(EVERYTHING, 1, (6,), (9000,))
    result = search_combinations(evidence, odd, settings, quiet)
    assert result.winner == result.plain["m"]
    assert result.winner.min_area_px == 3


def test_a_weighted_mean_favours_the_better_model(make_evidence):
    evidence = make_evidence({"good": 0.8, "poor": 1.6}, augmentations=2)
    found = search_maps(evidence, replace(EVERYTHING, ensembles=("weighted",)), quiet)
    weighted = [blend for blend in found if blend.weighted]
    # 2:1, 1:2, 3:1, 1:3, 3:2, 2:3 of each of the means, of which there are as many as subsets.
    assert len(weighted) == 6 * len([b for b in found if len(b.members) > 1 and not b.weighted])
    best = choose_finalists(found, 1, "dice")[0]
    assert best.weighted
    assert dict(zip(best.members, best.weights, strict=True))["good"] > 1


def test_equal_blends_are_in_the_order_of_their_plan_in_every_process(make_evidence):
    """A set would order them by hashes of texts, which differ from process to process."""
    evidence = make_evidence(dict.fromkeys("abcdef", 0.8), augmentations=1)
    found = search_maps(evidence, replace(EVERYTHING, ensembles=("mean",)), quiet)
    alone = [blend.members for blend in rank(found, "dice") if len(blend.members) == 1]
    members = [name for (name,) in alone]
    for size in (2, 3):
        of_size = [blend.members for blend in found if len(blend.members) == size]
        assert of_size == list(combinations(members, size))


@pytest.mark.parametrize("metric", ["missed", "boundary_nm"])
def test_a_search_by_what_is_lower_finds_what_a_search_by_its_opposite_does(
    make_evidence, two_rows, metric
):
    """Recall is 1 less the missed share; and a length that is not searched is never measured."""

    def fail(section):
        raise AssertionError

    METRICS["boundary_nm"] = replace(METRICS["boundary_nm"], measure=fail)
    evidence = make_evidence({"m": 0.7, "n": 0.8}, augmentations=2)
    if metric == "boundary_nm":
        with pytest.raises(BenchError, match=r"received 'boundary_nm': choose .*, missed$"):
            search(evidence, replace(EVERYTHING, metric=metric), finalists=2)
        return
    result = search(evidence, replace(EVERYTHING, metric=metric), finalists=2)
    opposite = search(evidence, replace(EVERYTHING, metric="recall"), finalists=2)
    assert result.winner == opposite.winner
    assert result.candidates == opposite.candidates
    assert [each.gain for each in result.ablation] == pytest.approx(
        [each.gain for each in opposite.ablation]
    )
    for candidate in result.candidates:
        assert candidate.scores["missed"] == pytest.approx(1 - candidate.scores["recall"])


@pytest.mark.parametrize(
    ("augmentations", "expected"), [("none", 1), ("all", 2), ("best_k", 5), ("subsets", 31)]
)
def test_augmentations_that_are_tried(make_evidence, augmentations, expected):
    evidence = make_evidence({"m": 0.8}, augmentations=5)
    found = search_maps(evidence, replace(EVERYTHING, augmentations=augmentations), quiet)
    subsets = {blend.augmentations for blend in found}
    # The best one of five may be another than none.
    assert len(subsets) in (expected, expected + (augmentations == "best_k"))
    assert ("identity",) in subsets


def test_touching_instances_are_separated_where_a_boundary_is_known():
    truth = np.zeros((24, 40), np.int32)
    truth[4:20, 4:20], truth[4:20, 20:36] = 1, 2
    foreground = np.where(truth, 250, 5).astype(np.uint8)
    boundary = np.zeros_like(foreground)
    boundary[4:20, 19:21] = 250
    maps = SectionPrediction(foreground, boundary)
    evidence = Evidence(("s",), {"m": ("identity",)}, lambda *_: maps, lambda _: truth)
    defaults = {"m": Candidate(Blend(("m",)), 128, 0, 9, {})}
    for metric in ("dice", "instance_f1"):
        settings = replace(EVERYTHING, metric=metric)
        result = search(evidence, settings, defaults=defaults)
        assert isinstance(result.winner.watershed, WatershedSettings)
        assert result.winner.scores["instance_f1"] == 1
        assert result.single.scores["instance_f1"] == 0
        assert {each.name for each in result.ablation} >= {"separation"}


def test_equal_thresholds_give_their_middle():
    assert middle_of_best(np.array([0, 1, 3, 3, 3, 3, 2]), "dice") == 3
    assert middle_of_best(np.array([1.0, 0]), "dice") == 0


def test_a_split_without_foreground_is_refused(make_evidence):
    evidence = make_evidence({"m": 0.7})
    nothing = replace(evidence, read_truth=lambda name: 0 * evidence.read_truth(name))
    with pytest.raises(BenchError, match="annotated foreground, received 2 validation sections"):
        search(nothing)


def test_a_metric_of_all_thresholds_is_refused(make_evidence):
    with pytest.raises(BenchError, match="received 'average_precision': choose one of dice"):
        search(make_evidence({"m": 1}), replace(EVERYTHING, metric="average_precision"))
