from dataclasses import replace

import pytest

from bench.report.comparisons import compare_pairs
from bench.report.data_facts import DataFacts
from bench.report.tables import ScoreRecord, benchmark_table
from bench.report.verdicts import find_verdicts, format_duration


def record(method, dice, *, structure="vesicles", dataset="d", sections=8, shift=0.0, **more):
    scores = {f"{n}s": {"dice": dice + shift + 0.001 * n * n} for n in range(sections)}
    return ScoreRecord(method, structure, dataset, 0, method, {"dice": dice}, scores, **more)


def verdicts_of(records):
    rows = benchmark_table(records, [], [])
    structures = list(dict.fromkeys(record.structure for record in records))
    return find_verdicts(rows, compare_pairs(records, structures))


def test_the_best_is_that_of_the_table_with_its_interval_and_what_it_took():
    data = DataFacts(training_sections=12)
    records = [
        record("scratch", 0.4),
        record("finetuned", 0.8, costs={"train_seconds": 754.0}, data=data),
    ]
    (verdict,) = verdicts_of(records)
    assert verdict.found
    assert verdict.row.method == "finetuned"
    assert verdict.headline.startswith("Dice 0.800 (95 % interval 0.80")
    assert verdict.headline.endswith(" over 8 sections)")
    assert verdict.lines == (
        "Beyond chance it is better than: From scratch (focal-Dice).",
        "It took 13 min of training on 12 annotated sections.",
    )


def test_what_the_sections_do_not_tell_apart_is_said():
    alike = record("other", 0.79)
    sections = {
        name: {"dice": scores["dice"] + (0.03 if n % 2 else -0.01)}
        for n, (name, scores) in enumerate(alike.section_scores.items())
    }
    alike = ScoreRecord("other", "vesicles", "d", 0, "other", {"dice": 0.79}, sections)
    (verdict,) = verdicts_of([record("scratch", 0.4), record("finetuned", 0.8), alike])
    assert "It cannot be told from: other." in verdict.lines
    assert "Beyond chance it is better than: From scratch (focal-Dice)." in verdict.lines


def test_too_few_sections_say_how_many_are_needed():
    records = [record(f"m{n}", 0.5 + 0.1 * n, sections=3) for n in range(3)]
    (verdict,) = verdicts_of(records)
    # Three pairs: 2 ** -6 * 3 is below 0.05, 2 ** -5 * 3 is not.
    assert verdict.lines == (
        "3 sections are too few (at least 7 are needed) to tell it from: m1; m0.",
    )
    # Neighbours of a series are alike besides: no outcome of fewer than 10 makes p small enough.
    neighbours = [
        replace(
            r,
            section_scores={
                f"s{k[0]}": {"dice": s["dice"] ** 2} for k, s in r.section_scores.items()
            },
        )
        for r in records
    ]
    (verdict,) = verdicts_of(neighbours)
    assert verdict.lines == (
        "3 sections are too few (at least 10, or 7 far apart, are needed) to tell it from: m1; m0.",
    )
    enough = verdicts_of([record(f"m{n}", 0.5 + 0.1 * n, sections=7) for n in range(3)])
    assert enough[0].lines == ("Beyond chance it is better than: m1; m0.",)


def test_a_method_of_better_sections_but_fewer_pixels_is_named():
    (verdict,) = verdicts_of([record("a", 0.8), record("b", 0.7, shift=0.2)])
    assert verdict.row.method == "a"
    assert verdict.lines == (
        "On the mean section, though not on all pixels together, it is worse than: b.",
    )


def test_one_method_and_one_section_have_little_to_say():
    (verdict,) = verdicts_of([record("a", 0.8, sections=1)])
    assert verdict.headline == "Dice 0.800 (one section gives no interval)"
    assert verdict.lines == ("No other method was scored: there is nothing to compare it with.",)


def test_scores_of_nothing_make_no_best_method():
    (verdict,) = verdicts_of([record("a", 0.0), record("b", 0.0)])
    assert not verdict.found
    assert verdict.lines == ("No method found any of it: every score is the worst that can be.",)


def test_structures_come_in_the_order_of_tables_dataset_by_dataset():
    records = [
        record("a", 0.5, structure="membrane"),
        record("a", 0.5, structure="vesicles"),
        record("a", 0.5, structure="vesicles", dataset="e"),
        ScoreRecord("a", "ribbon", "d", 0, "", reason="failed"),
    ]
    found = [(v.row.dataset, v.row.structure) for v in verdicts_of(records)]
    assert found == [("d", "vesicles"), ("d", "membrane"), ("e", "vesicles")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.4, "8 s"), (59, "59 s"), (754, "13 min"), (3599, "1 h"), (9000, "2 h 30 min")],
)
def test_times_are_said_in_the_unit_of_people(seconds, text):
    assert format_duration(seconds) == text
