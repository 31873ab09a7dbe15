"""What methods lose on other data: the change, its interval, and the block in every format."""

import csv
import io
import math

import numpy as np
import pytest

from bench.report.external import TrainedElsewhere, external_rows, measure_change
from bench.report.external_formats import (
    external_to_csv,
    external_to_json,
    external_to_latex,
    external_to_markdown,
    print_external,
)
from bench.report.intervals import difference_interval
from bench.report.page.score_table import external_section
from bench.report.tables import ScoreRecord


def record(dataset, sections, seed=0, method="scratch", run="run", warnings=()):
    scores = {f"s{i}": {"dice": value} for i, value in enumerate(sections)}
    pooled = {"dice": float(np.mean(sections)), "iou": 0.5}
    return ScoreRecord(
        method, "vesicles", dataset, seed, f"{run}{seed}", pooled, scores, warnings=warnings
    )


def test_the_interval_of_a_difference_worked_by_hand():
    # Each sample's mean is resampled as low, middle, high with 1/4, 1/2, 1/4, 0.1 apart, which
    # sqrt(2) widens. Both ends of the difference have 1/16 each, more than 2.5 %, so they are the
    # percentiles. Equal variances of two values each have 2 degrees of freedom: t is 4.302653.
    half = 2 * 0.1 * math.sqrt(2) * 4.302653 / 1.959964
    found = difference_interval([0.3, 0.5], [0.7, 0.9], resamples=20000)
    assert found == pytest.approx((-0.4 - half, -0.4 + half), abs=1e-6)
    # A difference of shares is never below -1.
    limited = difference_interval([0.3, 0.5], [0.7, 0.9], resamples=20000, limits=(-1, 1))
    assert limited == pytest.approx((-1, -0.4 + half), abs=1e-6)


def test_a_sample_that_does_not_vary_leaves_the_others_interval():
    # Of 0.6 and 0.8 the mean is resampled at either end with 1/4: 1 degree of freedom, t 12.7062.
    half = 0.1 * math.sqrt(2) * 12.706205 / 1.959964
    found = difference_interval([0.6, 0.8], [0.5, 0.5, 0.5])
    assert found == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    assert difference_interval([0.75, 0.75], [0.5, 0.5]) == (0.25, 0.25)
    assert difference_interval([0.7], [0.5, 0.5]) is None


def coverage(own, other, seed=0):
    """Share of 500 simulated pairs of datasets whose interval holds the true change.

    A section has a difficulty and the method an error of its own, skewed as Dice is.
    """
    rng = np.random.default_rng(seed)
    here = rng.beta(12, 2, size=(500, own)) * rng.beta(12, 2, size=(500, own))
    there = rng.beta(8, 3, size=(500, other)) * rng.beta(12, 2, size=(500, other))
    truth = (8 / 11 - 12 / 14) * 12 / 14
    pairs = zip(there, here, strict=True)
    ends = [difference_interval(a, b, resamples=500) for a, b in pairs]
    return float(np.mean([low <= truth <= high for low, high in ends]))


@pytest.mark.parametrize(
    ("own", "other", "least"), [(5, 5, 0.93), (10, 20, 0.93), (20, 60, 0.93), (20, 3, 0.89)]
)
def test_the_interval_of_a_change_holds_the_truth(own, other, least):
    assert least <= coverage(own, other) <= 0.97


def test_percentiles_alone_would_not(monkeypatch):
    monkeypatch.setattr("bench.report.intervals._welch_stretch", lambda samples, alike: 1.0)
    assert coverage(5, 5) < 0.93


def test_a_change_is_of_the_seeds_that_both_have():
    own = [record("a", [0.8, 0.6]), record("a", [0.4, 0.4], seed=1)]
    other = [record("b", [0.5, 0.5, 0.2]), record("b", [0.9, 0.9, 0.9], seed=2)]
    change = measure_change(own, other, "dice")
    assert change.difference == pytest.approx(0.4 - 0.7)
    assert (change.sections, change.other_sections, change.seeds) == (2, 3, (0,))
    assert change.interval[0] < -0.3 < change.interval[1]
    assert measure_change(own, [record("b", [0.5], seed=7)], "dice") is None
    assert measure_change([], other, "dice") is None


@pytest.fixture
def rows():
    groups = [
        TrainedElsewhere("a@11", [record("b|c@22", [0.5, 0.6], warnings=("as it is",))], []),
        TrainedElsewhere("c@33", [record("b|c@22", [0.3, 0.6])], [record("c@33", [0.9, 0.8])]),
    ]
    at_home = [record("b|c@22", [0.7, 0.9], run="home"), record("unasked@44", [0.1])]
    return external_rows(groups, at_home)


def test_a_block_begins_with_what_was_trained_there(rows):
    assert [row.trained_on for row in rows] == ["b|c@22", "a@11", "c@33"]
    assert [row.at_home for row in rows] == [True, False, False]
    assert [row.change is not None for row in rows] == [False, False, True]
    assert rows[2].own_scores["dice"] == pytest.approx(0.85)
    # Nothing is marked, as nothing was compared.
    assert not any(row.row.best for row in rows)


def test_every_format_has_the_block(rows, capsys):
    from rich.console import Console

    text = external_to_markdown(rows)
    assert "### b\\|c@22" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| itself", "| a@11", "| c@33"]
    assert "| 0.850 | -0.400 |" in lines[4]
    assert "\\[1\\] as it is" in text
    assert "c@33 & " in external_to_latex(rows)
    table = list(csv.DictReader(io.StringIO(external_to_csv(rows))))
    assert [line["trained_on"] for line in table] == ["b|c@22", "a@11", "c@33"]
    assert float(table[2]["change"]) == pytest.approx(-0.4)
    assert table[1]["change"] == ""
    assert external_to_json(rows)[2]["change"]["difference"] == pytest.approx(-0.4)
    page = "".join(external_section(rows))
    assert page.count("<tr>") == 4
    assert "-0.400" in page
    print_external(rows, Console(width=80))
    said = capsys.readouterr().out
    assert "Scored on other data: b|c@22" in said
    assert max(map(len, said.splitlines())) <= 80


def test_without_rows_nothing_is_written(capsys):
    from rich.console import Console

    assert external_to_markdown([]) == external_to_latex([]) == ""
    print_external([], Console())
    assert capsys.readouterr().out == ""
