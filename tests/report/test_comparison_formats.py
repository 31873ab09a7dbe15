import csv
import io

import pytest
from rich.console import Console

from bench.report.comparison_formats import describe_best, print_comparisons, to_csv, to_markdown
from bench.report.comparisons import MeanRank, compare_pairs
from bench.report.data_facts import DataFacts
from bench.report.tables import ScoreRecord


def compared(sections, levels, seeds=1, structure="vesicles"):
    """Comparisons of methods whose Dice is a level, spread a little over sections."""
    records = [
        ScoreRecord(
            method,
            structure,
            "tiny@12345678",
            seed,
            f"{method}{seed}",
            {"dice": level + 0.001 * seed},
            {f"{i}s": {"dice": level * (1 - 0.01 * i)} for i in range(sections)},
        )
        for method, level in levels.items()
        for seed in range(seeds)
    ]
    return compare_pairs(records, [structure])


def test_with_three_sections_the_report_says_that_no_test_can_tell():
    lines = describe_best(compared(3, {"scratch": 0.8, "unadapted": 0.1}))
    assert lines == [
        "highest mean Dice of a section: From scratch (focal-Dice)",
        "cannot be told from it by 3 sections, whatever the outcome (smallest p 0.25, corrected "
        "for all pairs 0.25): Unadapted",
    ]


def test_the_correction_counts_towards_what_can_be_told():
    # Six sections: one pair can reach 2 / 64 = 0.03, three pairs only 0.09.
    two = describe_best(compared(6, {"a": 0.8, "b": 0.1}))
    assert two[1:] == ["distinguishable from it: b (p = 0.031)"]
    three = describe_best(compared(6, {"a": 0.8, "b": 0.1, "c": 0.2}))
    assert three[1:] == [
        "cannot be told from it by 6 sections, whatever the outcome (smallest p 0.031, corrected "
        "for all pairs 0.094): c; b"
    ]


def test_what_was_never_scored_together_is_not_said_to_be_alike():
    records = [
        ScoreRecord(m, "vesicles", "d", 0, m, {"dice": 0.5}, {m: {"dice": 0.5}}) for m in "ab"
    ]
    lines = describe_best(compare_pairs(records, ["vesicles"]))
    assert lines[1:] == ["cannot be compared with it, no section in common: b"]


def test_sections_without_a_difference_are_named():
    records = [
        ScoreRecord(m, "vesicles", "d", 0, m, {"dice": 0.5}, {s: {"dice": 0.5} for s in "xy"})
        for m in "ab"
    ]
    (line,) = describe_best(compare_pairs(records, ["vesicles"]))[1:]
    assert "by 2 sections (0 of which differ), whatever the outcome (smallest p 1" in line


def test_a_close_method_is_not_distinguishable():
    records = [
        ScoreRecord("a", "vesicles", "d", 0, "r1", {"dice": 0.5}, sections(0.1, 0.9)),
        ScoreRecord("b", "vesicles", "d", 0, "r2", {"dice": 0.5}, sections(0.2, 0.7)),
    ]
    # Four of eight differences are +0.2 and four -0.1: W- = 4 * 2.5 = 10, W+ = 4 * 6.5 = 26.
    # Of 256 patterns those with a sum of 10 or less: with i small and j large ranks,
    # 2.5 i + 6.5 j <= 10: j = 0 any i (16), j = 1 and i <= 1 (4 * 5 = 20): p = 2 * 36 / 256.
    (pair,) = compare_pairs(records, ["vesicles"])
    assert pair.p_holm == pytest.approx(72 / 256)
    assert describe_best([pair])[1:] == [
        "not distinguishable from it: b (p = 0.28; needs 83 sections)"
    ]


def sections(low, high):
    return {f"{i}s": {"dice": (low, high)[i % 2]} for i in range(8)}


def test_csv_has_every_number_in_full():
    pairs = compared(7, {"a": 0.8, "b": 0.1}, seeds=2)
    (row,) = csv.DictReader(io.StringIO(to_csv(pairs)))
    assert (row["first"], row["second"], row["sections"]) == ("a", "b", "7")
    assert float(row["difference"]) == pairs[0].difference
    assert (float(row["low"]), float(row["high"])) == pairs[0].interval
    assert float(row["p_holm"]) == float(row["smallest_p_holm"]) == 2 / 128
    assert float(row["rank_biserial"]) == float(row["cliffs_delta"]) == 1
    assert float(row["seeds_p"]) == float(row["seeds_smallest_p_holm"]) == pytest.approx(1 / 3)


def test_csv_is_empty_where_there_is_no_value():
    records = [
        ScoreRecord(m, "vesicles", "d", 0, m, {"dice": 0.5}, {m: {"dice": 0.5}}) for m in "ab"
    ]
    (row,) = csv.DictReader(io.StringIO(to_csv(compare_pairs(records, ["vesicles"]))))
    assert row["sections"] == "0"
    assert {row[name] for name in ("difference", "low", "p", "p_holm", "seeds_p")} == {""}


def test_markdown_shows_every_pair_and_the_ranks():
    pairs = compared(3, {"a": 0.8, "b": 0.1, "c_d": 0.2})
    text = to_markdown(pairs, [MeanRank("tiny", "a", 1.5, 2)])
    assert "## Vesicles, tiny@12345678" in text
    assert "| a | b | 3 | +0.693 | +0.674 to +0.712 | 0.25 | 0.75 \\[0.75\\] | +1.00 |" in text
    assert text.count("\n| a |") == 3
    assert "c\\_d" in text
    assert "| a | 1.50 |" in text


def test_markdown_without_a_pair_says_so():
    assert "No structure has two scored methods" in to_markdown([], [])


def test_the_terminal_has_a_block_per_structure():
    console = Console(width=80, record=True)
    pairs = compared(6, {"a": 0.8, "b": 0.1}) + compared(3, {"a": 0.2, "b": 0.4}, structure="axon")
    print_comparisons(pairs, console)
    text = "\n".join(line.rstrip() for line in console.export_text().splitlines())
    assert "Vesicles\n  highest mean Dice of a section: a\n  distinguishable from it: b" in text
    assert "Axon\n  highest mean Dice of a section: b\n  cannot be told from it by 3" in text
    assert max(map(len, text.splitlines())) <= 80


def test_volumes_are_called_volumes():
    """As what was scored is: in lines, headers and captions."""
    records = [
        ScoreRecord(
            method,
            "vesicles",
            "data",
            0,
            "run",
            {"dice": score},
            {f"tomo{n}": {"dice": score - 0.01 * n} for n in range(2)},
            data=DataFacts(unit="volume"),
        )
        for method, score in (("a", 0.9), ("b", 0.7))
    ]
    comparisons = compare_pairs(records, ["vesicles"])
    text = to_markdown(comparisons, [])
    assert "highest mean Dice of a volume: a" in text
    assert "by 2 volumes, whatever the outcome" in text
    assert "| Volumes |" in text
    assert "Difference is the mean over volumes of Dice" in text
    assert "section" not in text
