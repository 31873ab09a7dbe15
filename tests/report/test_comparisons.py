import numpy as np
import pytest
from scipy import stats

from bench.report.comparison_formats import to_markdown
from bench.report.comparisons import compare_pairs, mean_ranks
from bench.report.intervals import bootstrap_interval
from bench.report.tables import ScoreRecord, benchmark_table


def record(method, sections, seed=0, structure="vesicles", dataset="d", pooled=None):
    dice = float(np.mean(list(sections.values()))) if pooled is None else pooled
    per_section = {name: {"dice": value} for name, value in sections.items()}
    return ScoreRecord(
        method, structure, dataset, seed, f"{method}{seed}", {"dice": dice}, per_section
    )


def test_sections_are_averaged_over_seeds_and_paired_by_name():
    # Over its seeds a averages 0.8, 0.6 and 0.5: on what both have 0.3 and 0.2 above b.
    records = [
        record("b", {"right": 0.4, "left": 0.5, "of b": 0.1}),
        record("a", {"left": 0.9, "right": 0.6, "of a": 0.5}, seed=0),
        record("a", {"left": 0.7, "right": 0.6, "of a": 0.5}, seed=1),
    ]
    (pair,) = compare_pairs(records, ["vesicles"])
    assert (pair.first, pair.second, pair.sections) == ("a", "b", 2)
    assert pair.difference == pytest.approx(0.25)
    # Percentiles 0.2 and 0.3, stretched by sqrt(2) * 12.706 / 1.960 = 9.168 as of two values.
    assert pair.interval == pytest.approx((0.25 - 0.4584, 0.25 + 0.4584), abs=1e-4)
    assert pair.over_sections.p == 0.5
    assert pair.over_seeds is None
    assert not pair.testable


def test_one_pair_against_scipy():
    rng = np.random.default_rng(0)
    low, high = rng.beta(5, 5, size=12), rng.beta(8, 4, size=12)
    names = [f"{i}s" for i in range(12)]
    records = [
        record("low", dict(zip(names, low, strict=True))),
        record("high", dict(zip(names, high, strict=True))),
    ]
    (pair,) = compare_pairs(records, ["vesicles"])
    assert pair.over_sections.p == pytest.approx(stats.wilcoxon(high, low).pvalue)
    assert pair.p_holm == pair.over_sections.p
    assert pair.interval == pytest.approx(bootstrap_interval(high - low))


def test_holm_is_within_a_structure_and_every_pair_is_there():
    # Six sections in which c > b > a: every p is 2 / 64, of three pairs each 6 / 64.
    sections = [f"{i}s" for i in range(6)]
    records = [
        record(method, {s: level + 0.01 * i * rise for i, s in enumerate(sections)})
        for method, level, rise in (("a", 0.1, 1), ("b", 0.3, 2), ("c", 0.6, 4))
    ]
    records += [
        record(m, {s: level + 0.01 * i * level for i, s in enumerate(sections)}, structure="nuclei")
        for m, level in (("a", 0.9), ("b", 0.5))
    ]
    pairs = compare_pairs(records, ["nuclei", "vesicles"])
    assert [(p.structure, p.first, p.second) for p in pairs] == [
        ("nuclei", "a", "b"),
        ("vesicles", "c", "b"),
        ("vesicles", "c", "a"),
        ("vesicles", "b", "a"),
    ]
    assert [p.p_holm for p in pairs] == pytest.approx([2 / 64, 6 / 64, 6 / 64, 6 / 64])
    assert [p.smallest_p_holm for p in pairs] == [p.p_holm for p in pairs]
    assert [p.distinguishable for p in pairs] == [True, False, False, False]
    assert [p.testable for p in pairs] == [True, False, False, False]


def test_datasets_are_not_mixed():
    records = [record("a", {"s": 0.5}), record("b", {"s": 0.4}, dataset="e")]
    assert compare_pairs(records, ["vesicles"]) == []


def test_methods_without_a_common_section_have_no_p():
    records = [record("a", {"s1": 0.5}), record("b", {"s2": 0.4}), record("c", {"s1": 0.1})]
    by_names = {(p.first, p.second): p for p in compare_pairs(records, ["vesicles"])}
    apart = by_names["a", "b"]
    assert (apart.sections, apart.difference, apart.p_holm) == (0, None, None)
    # The one pair that was tested is not corrected for those that were not.
    assert by_names["a", "c"].p_holm == 1


def test_seeds_are_compared_where_both_have_two():
    values = {"a": (0.9, 0.8, 0.7), "b": (0.5, 0.4), "c": (0.1,)}
    records = [
        record(method, {"s1": dice}, seed=seed, pooled=dice)
        for method, seeds in values.items()
        for seed, dice in enumerate(seeds)
    ]
    pairs = compare_pairs(records, ["vesicles"])
    tested = {(p.first, p.second): p.over_seeds for p in pairs if p.over_seeds}
    # All of a above all of b: 2 of the 10 ways to deal five ranks.
    assert tested == {("a", "b"): tested["a", "b"]}
    assert tested["a", "b"].p == pytest.approx(0.2)
    assert tested["a", "b"].effect == 1


def test_six_seeds_against_six_are_shown_with_their_exact_p():
    # Apart, they are one of the 924 ways to deal twelve ranks, or its mirror image.
    records = [
        record(method, {"s1": level + 0.01 * seed}, seed=seed, pooled=level + 0.01 * seed)
        for method, level in (("retina", 0.6), ("unet_resnet50_moco", 0.4))
        for seed in range(6)
    ]
    pairs = compare_pairs(records, ["vesicles"])
    (test,) = (pair.over_seeds for pair in pairs)
    assert test.p == pytest.approx(2 / 924)
    assert round(test.p, 5) == 0.00216
    assert test.effect == 1
    text = to_markdown(pairs, [])
    assert "Mann-Whitney" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| ") and "RETINA" in line)
    assert "0.00216" in line


def test_records_without_scores_are_not_compared():
    missing = ScoreRecord("b", "vesicles", "d", 0, "", reason="no data")
    assert compare_pairs([record("a", {"s1": 0.5}), missing], ["vesicles"]) == []


def test_mean_ranks_by_hand(rows_of):
    # Vesicles: a 1, b and c tie at three decimals: 2.5 each. Membrane: c 1, a 2, b 3.
    # d lacks a structure and is not ranked.
    rows = rows_of(
        vesicles={"a": 0.9, "b": 0.5001, "c": 0.5002, "d": 0.99},
        membrane={"a": 0.5, "b": 0.4, "c": 0.6},
    )
    assert [(r.method, r.rank, r.structures) for r in mean_ranks(rows)] == [
        ("a", 1.5, 2),
        ("c", 1.75, 2),
        ("b", 2.75, 2),
    ]


@pytest.fixture
def rows_of():
    def make(**structures):
        records = [
            record(method, {"s": dice}, structure=structure)
            for structure, methods in structures.items()
            for method, dice in methods.items()
        ]
        return benchmark_table(records, [], [])

    return make
