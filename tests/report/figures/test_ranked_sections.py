import pytest

from bench.report.figures.overlays import rank_sections, spread_sections, typical_sections


def scores(*dice):
    return {f"s{n}": {"dice": value} for n, value in enumerate(dice)}


def test_sections_are_ranked_and_ties_keep_their_order():
    assert rank_sections(scores(0.5, 0.1, 0.5, 0.9) | {"unscored": {}}) == ["s1", "s0", "s2", "s3"]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ((), {}),
        ((0.5,), {"s0": "only section"}),
        ((0.5, 0.2), {"s1": "worst", "s0": "best"}),
        ((0.5, 0.2, 0.3), {"s1": "worst", "s2": "median", "s0": "best"}),
        # Of four, the lower of the two in the middle.
        ((0.1, 0.2, 0.3, 0.4), {"s0": "worst", "s1": "median", "s3": "best"}),
    ],
)
def test_typical_sections(dice, expected):
    assert typical_sections(scores(*dice)) == expected


@pytest.mark.parametrize("number", range(1, 200))
def test_the_typical_sections_are_always_among_the_nine_shown(number):
    many = scores(*((37 * n % 101) / 101 for n in range(number)))
    shown = spread_sections(many, 9)
    assert set(typical_sections(many)) <= set(shown)
    assert len(shown) == len(set(shown)) == min(number, 9)
