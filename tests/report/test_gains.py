"""What added sections brought, paired by section over the seeds that both versions have."""

from dataclasses import replace

import pytest

from bench.report.gains import gains_to_markdown, measure_gains
from bench.report.tables import ScoreRecord


def make_record(scores, seed=0, method="finetuned", dataset="old"):
    sections = {name: {"dice": value} for name, value in scores.items()}
    return ScoreRecord(method, "vesicles", dataset, seed, "run", {"dice": 0.5}, sections)


def measure(before, since, added=3, annotated_anew=0):
    return measure_gains(
        before, since, split="test", metric="dice", added=added, annotated_anew=annotated_anew
    )


def test_a_gain_is_of_common_sections_and_seeds():
    before = [make_record({"a": 0.5, "b": 0.6}), make_record({"a": 0.1, "b": 0.1}, seed=1)]
    since = [
        make_record({"a": 0.6, "b": 0.72, "new": 0.0}, dataset="new"),
        make_record({"a": 0.9, "b": 0.9}, seed=2, dataset="new"),
    ]
    (gain,) = measure(before, since)
    assert (gain.seeds, gain.sections, gain.dataset, gain.before) == ((0,), 2, "new", "old")
    assert gain.difference == pytest.approx(0.11)
    assert gain.interval[0] <= 0.1 <= 0.12 <= gain.interval[1]


@pytest.mark.parametrize(
    "since",
    [
        [],
        [make_record({"a": 0.7}, seed=5)],
        [make_record({"a": 0.7}, method="scratch")],
        [make_record({"other": 0.7})],
        # As one that learns nothing.
        [make_record({"a": 0.5, "b": 0.6})],
        [ScoreRecord("finetuned", "vesicles", "new", 0, "", reason="failed")],
    ],
)
def test_without_a_pair_nothing_is_said(since):
    before = [make_record({"a": 0.5, "b": 0.6})]
    assert measure(before, [replace(record, dataset="new") for record in since]) == []
    assert gains_to_markdown([]) == ""


@pytest.mark.parametrize(
    ("scores", "counts", "said"),
    [
        (
            {"a": 0.6},
            (1, 0),
            "Vesicles, Fine-tuned (focal-Dice): Dice +0.100 (one section has no interval) on the "
            "same 1 test section since 1 section was added",
        ),
        (
            {"a": 0.6, "b": 0.5},
            (3, 1),
            "Vesicles, Fine-tuned (focal-Dice): Dice +0.000 (95 % interval -0.917 to +0.917, which "
            "may be chance) on the same 2 test sections since 3 sections were added and 1 section "
            "was annotated anew",
        ),
    ],
)
def test_it_is_said_in_a_sentence(scores, counts, said):
    (gain,) = measure([make_record({"a": 0.5, "b": 0.6})], [make_record(scores)], *counts)
    assert gain.describe() == said
    assert f"- {said}" in gains_to_markdown([gain])
