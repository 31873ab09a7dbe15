from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import label

from bench.errors import BenchError
from bench.metrics.instances import instance_scores, match_instances
from bench.postprocess.instances import clean_mask, label_mask
from bench.postprocess.watershed import (
    COMPONENTS,
    WatershedSettings,
    choose_watershed,
    default_settings,
    find_best,
    list_settings,
    measure_depth,
    separate_instances,
)
from bench.training.targets import find_boundaries

SIMPLE = WatershedSettings(0.5, 1.0, 0, 1, "")
CLEANING = {"threshold_level": 128, "opening_radius_px": 2, "min_area_px": 300}


def row_of_mitochondria(seed=0, shape=(120, 240)):
    """Three ellipses in a row that share borders: every pixel is the nearest centre's."""
    ys, xs = np.indices(shape)
    depths = [1 - ((ys - 60) / 38) ** 2 - ((xs - x) / 34) ** 2 for x in (60, 120, 180)]
    labels = np.where(np.max(depths, axis=0) > 0, np.argmax(depths, axis=0) + 1, 0)
    return labels.astype(np.uint16), *predict(labels, seed)


def predict(labels, seed, *, weakest=0.35):
    """Soft maps as of a trained network: the boundary of uneven strength, and noise."""
    rng = np.random.default_rng(seed)
    noise = [gaussian_filter(rng.standard_normal(labels.shape), s) for s in (1.5, 1.5, 8)]
    noise = [each / each.std() for each in noise]
    foreground = 0.95 * gaussian_filter((labels > 0).astype(float), 2) + 0.05 * noise[0]
    outline = gaussian_filter(find_boundaries(labels).astype(float), 1.5)
    strength = np.clip(0.75 + 0.25 * noise[2], weakest, 1)
    boundary = strength * outline / outline.max() + 0.06 * noise[1]
    return tuple(np.round(255 * p.clip(0, 1)).astype(np.uint8) for p in (foreground, boundary))


def random_case(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 60, size=2)
    noise = [gaussian_filter(rng.standard_normal(shape), s) for s in (4, 2, 1)]
    mask = noise[0] > 0
    foreground, boundary = (
        np.clip(128 + 60 * n / (n.std() or 1), 0, 255).astype(np.uint8) for n in noise[1:]
    )
    settings = WatershedSettings(
        rng.uniform(0, 0.6), rng.uniform(0, 1), int(rng.integers(3)), int(rng.integers(9)), ""
    )
    return foreground, boundary, mask, settings


def f1(truth, labels):
    return instance_scores(match_instances(truth=truth, prediction=labels))["instance_f1"]


@pytest.mark.parametrize("seed", range(4))
def test_three_touching_mitochondria_come_apart(seed):
    truth, foreground, boundary = row_of_mitochondria(seed)
    mask = clean_mask(foreground >= 128, opening_radius_px=2, min_area_px=300).labels > 0
    merged = label_mask(mask)
    assert merged.max() == 1
    assert f1(truth, merged) == 0
    other = row_of_mitochondria(seed + 100)
    for settings in (choose_watershed([other], **CLEANING)[0], default_settings(300)):
        labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
        assert labels.max() == 3
        assert f1(truth, labels) == 1
        # The cut runs along the border they share.
        assert min(match_instances(truth=truth, prediction=labels).matched_ious) > 0.9


@pytest.mark.parametrize("seed", range(60))
def test_nothing_of_the_mask_is_lost_and_components_stay_apart(seed):
    foreground, boundary, mask, settings = random_case(seed)
    before = [each.copy() for each in (foreground, boundary, mask)]
    labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, mask)
    assert np.unique(labels[mask]).tolist() == list(range(1, labels.max() + 1))
    # Every instance is one 4-connected piece: labelling them apart gives as many.
    assert label(labels, background=0, connectivity=1).max() == labels.max()
    for given, kept in zip((foreground, boundary, mask), before, strict=True):
        np.testing.assert_array_equal(given, kept)


def test_random_cases_are_cut():
    cuts = 0
    for seed in range(60):
        foreground, boundary, mask, settings = random_case(seed)
        labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
        cuts += labels.max() > label_mask(mask).max()
    assert cuts > 20


@pytest.mark.parametrize("seed", range(20))
def test_settings_of_components_separate_nothing(seed):
    foreground, boundary, mask, _ = random_case(seed)
    labels = separate_instances(foreground, boundary, mask=mask, settings=COMPONENTS)
    np.testing.assert_array_equal(labels, label_mask(mask))


def bar(columns):
    """A bar of certain foreground, 9 x 30 px, with certain boundary in some columns."""
    boundary = np.zeros((9, 30), np.uint8)
    boundary[:, columns] = 255
    return np.full((9, 30), 255, np.uint8), boundary


def test_the_cut_follows_the_boundary():
    foreground, boundary = bar([12])
    mask = np.ones(boundary.shape, np.uint8)
    mask[:, 25] = 0
    labels = separate_instances(foreground, boundary, mask=mask, settings=SIMPLE)
    assert labels.max() == 3
    assert [len(np.unique(labels[:, x])) for x in range(30)] == [1] * 30
    assert labels[0, 11] != labels[0, 13]
    assert labels[0, 12] in (labels[0, 11], labels[0, 13])
    assert labels[0, 24] == labels[0, 13] != labels[0, 26]


def test_the_cut_follows_the_boundary_wherever_the_seeds_are():
    foreground, boundary = bar([20])
    foreground[:, 3:27] = 100
    mask = np.ones(boundary.shape, bool)
    labels = separate_instances(foreground, boundary, mask=mask, settings=SIMPLE)
    assert set(labels[:, :20].flat) == {1}
    assert set(labels[:, 21:].flat) == {2}


def test_components_without_a_seed_or_with_one_stay_whole():
    foreground, boundary = bar([5])
    foreground[:, 20:] = 100
    mask = np.ones(boundary.shape, bool)
    mask[:, 18] = False
    settings = replace(SIMPLE, min_seed_area_px=50)
    labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
    # The 45 px left of the line are too small a seed, and right of the gap nothing is interior.
    np.testing.assert_array_equal(labels, label_mask(mask))
    one_less = replace(settings, min_seed_area_px=45)
    cut = separate_instances(foreground, boundary, mask=mask, settings=one_less)
    assert [cut[0, x] for x in (0, 10, 25)] == [2, 3, 1]


@pytest.mark.parametrize(("gap", "parts"), [(3, 2), (5, 1)])
def test_depth_closes_gaps_narrower_than_twice_it(gap, parts):
    foreground, boundary = bar([15])
    boundary[2 : 2 + gap, 15] = 0
    mask = np.ones(boundary.shape, bool)
    open_ = separate_instances(foreground, boundary, mask=mask, settings=SIMPLE)
    assert open_.max() == 1
    deep = replace(SIMPLE, seed_depth_px=2)
    assert separate_instances(foreground, boundary, mask=mask, settings=deep).max() == parts


def test_threshold_and_weight_decide_what_is_interior():
    foreground, boundary = bar([15])
    foreground[:], boundary[:, 15] = 204, 51
    mask = np.ones(boundary.shape, bool)
    # 0.8 - 0.2 w at the line, 0.8 elsewhere.
    for threshold, weight, parts in ((0.7, 0.0, 1), (0.7, 1.0, 2), (0.5, 1.0, 1), (0.5, 2.0, 2)):
        settings = WatershedSettings(threshold, weight, 0, 1, "")
        labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
        assert labels.max() == parts, settings


@pytest.mark.parametrize("seed", range(20))
def test_depth_is_the_distance_to_what_is_not_interior(seed):
    foreground, boundary, mask, settings = random_case(seed)
    depth = measure_depth(foreground, boundary, components=label_mask(mask), settings=settings)
    score = foreground / 255 - settings.boundary_weight * (boundary / 255)
    interior = mask & (score >= settings.seed_threshold)
    assert not interior.all()
    np.testing.assert_allclose(depth, distance_transform_edt(interior), rtol=1e-6)


@pytest.mark.parametrize("value", [False, True])
def test_uniform_masks(value):
    foreground, boundary = bar([])
    mask = np.full(boundary.shape, value)
    for depth in (0, 50):
        settings = replace(SIMPLE, seed_depth_px=depth)
        labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
        assert (labels == int(value)).all()


def test_without_an_edge_every_depth_is_enough():
    foreground, boundary = bar([])
    components = np.ones(boundary.shape, np.int32)
    depth = measure_depth(foreground, boundary, components=components, settings=SIMPLE)
    assert np.isposinf(depth).all()


def test_f1_comes_first_then_its_mean_then_the_middle():
    def best(*pairs):
        given = {
            settings: {"instance_f1": f1, "instance_f1_mean": mean}
            for settings, (f1, mean) in zip(tried, pairs, strict=True)
        }
        return tried.index(find_best(given))

    tried = [COMPONENTS, *list_settings(300)[:3]]
    assert best((0.5, 0.5), (0.6, 0.3), (0.5, 0.6), (0.5, 0.5)) == 1
    assert best((0.6, 0.2), (0.6, 0.3), (0.5, 0.6), (0.6, 0.4)) == 3
    assert best((0.6, 0.2), (0.6, 0.2), (0.6, 0.2), (0.6, 0.2)) == 2
    assert best((0.6, 0.2), (0.6, 0.2), (0.6, 0.1), (0.6, 0.1)) == 1
    assert best((0.6, 0.2), (0.6, 0.1), (0.5, 0.2), (0.5, 0.1)) == 0


def test_choice_is_the_best_of_the_table_and_the_table_is_what_separation_gives():
    sections = [row_of_mitochondria(seed) for seed in (0, 1)]
    # A boundary across a lone mitochondrion, weaker than between touching ones: bold cuts lose.
    lone, foreground, boundary = (each.copy() for each in sections[1])
    lone[:, 86:], foreground[:, 90:] = 0, 0
    boundary[:, 58:61] = np.maximum(boundary[:, 58:61], 60)
    sections.append((lone, foreground, boundary))
    chosen, rows = choose_watershed(iter(sections), **CLEANING)
    assert [row["separation"] for row in rows] == ["components"] + ["watershed"] * 32
    names = ("seed_threshold", "boundary_weight", "seed_depth_px", "min_seed_area_px")
    for row in rows[::5]:
        settings = WatershedSettings(*(row[name] for name in names), "")
        total = sum_matchings(sections, settings)
        for name, score in instance_scores(total).items():
            assert row[name] == score
    best = max(rows, key=lambda row: (row["instance_f1"], row["instance_f1_mean"]))
    assert [row["chosen"] for row in rows].count("yes") == 1
    (marked,) = [row for row in rows if row["chosen"]]
    assert {name: marked[name] for name in names} == {n: getattr(chosen, n) for n in names}
    assert marked["instance_f1"] == best["instance_f1"] == 1
    assert marked["instance_f1_mean"] == best["instance_f1_mean"]
    assert min(row["instance_f1"] for row in rows[1:]) < 1
    assert rows[0]["instance_f1"] == pytest.approx(2 / 10)
    assert "33 settings on 7 instances" in chosen.origin
    assert "F1 1.000, without separation 0.200" in chosen.origin


def sum_matchings(sections, settings):
    """The instances of all sections, each separated on its own."""
    matchings = []
    for truth, foreground, boundary in sections:
        mask = clean_mask(foreground >= 128, opening_radius_px=2, min_area_px=300).labels > 0
        labels = separate_instances(foreground, boundary, mask=mask, settings=settings)
        matchings.append(match_instances(truth=truth, prediction=labels))
    return matchings[0] + matchings[1] + matchings[2]


def test_of_equals_the_middle_watershed_is_chosen():
    """A lone square without a boundary inside: no setting cuts it."""
    truth = np.zeros((60, 60), np.uint8)
    truth[15:45, 15:45] = 1
    chosen, rows = choose_watershed([(truth, 255 * truth, 0 * truth)], **CLEANING)
    assert {row["instance_f1"] for row in rows} == {1.0}
    assert replace(chosen, origin="") == list_settings(300)[16]


def test_components_are_chosen_where_every_cut_is_wrong():
    truth = np.zeros((60, 90), np.uint8)
    truth[10:50, 10:80] = 1
    boundary = np.zeros_like(truth)
    boundary[:, 44:47] = 255
    chosen, rows = choose_watershed([(truth, 255 * truth, boundary)], **CLEANING)
    assert replace(chosen, origin=COMPONENTS.origin) == COMPONENTS
    assert rows[0]["chosen"] == "yes"
    assert rows[0]["instance_f1"] == 1 > max(row["instance_f1"] for row in rows[1:])


@pytest.mark.parametrize("count", [0, 2])
def test_without_annotated_instances_there_is_a_default(count):
    _, foreground, boundary = row_of_mitochondria()
    empty = np.zeros(foreground.shape, np.uint8)
    chosen, rows = choose_watershed([(empty, foreground, boundary)] * count, **CLEANING)
    assert chosen == default_settings(300)
    assert rows == []
    assert replace(chosen, origin="") in list_settings(300)


def test_settings_tried_are_distinct():
    assert len(list_settings(300)) == 32
    assert len(list_settings(1)) == 16
    assert min(each.min_seed_area_px for each in list_settings(0)) == 1


@pytest.mark.parametrize(
    ("foreground", "boundary", "mask", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), "foreground must"),
        (
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 5), np.uint8),
            np.zeros((4, 4), bool),
            r"boundary must .* mask's shape \(4, 4\), received uint8 of shape \(4, 5\)",
        ),
        (
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4)),
            "a mask must be boolean or integer",
        ),
    ],
)
def test_bad_input_is_refused(foreground, boundary, mask, message):
    with pytest.raises(BenchError, match=message):
        separate_instances(foreground, boundary, mask=mask, settings=SIMPLE)
    with pytest.raises(BenchError, match=message):
        choose_watershed([(mask, foreground, boundary)], **CLEANING)
