"""Metrics that are no share of 1, or of which less is better, in everything that is reported."""

import csv
import io
import math
import re

import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.methods import METHODS
from bench.metrics.table import METRICS
from bench.report.comparison_formats import describe_best, pair_cells
from bench.report.comparison_formats import to_markdown as write_comparisons
from bench.report.comparisons import compare_pairs, mean_ranks
from bench.report.figures.charts import learning_curve, score_chart
from bench.report.figures.curves import Curve, TrainingCurves
from bench.report.page.page import benchmark_page
from bench.report.page.records import Picture, Setting, Shown
from bench.report.references import read_reference
from bench.report.table_formats import captions, print_table, to_csv, to_latex, to_markdown
from bench.report.table_json import to_json
from bench.report.tables import ScoreRecord, benchmark_table

OTHERS = {"dice": 0.5, "iou": 0.4, "precision": 0.5, "recall": 0.5, "instance_f1": 0.3}


def record(method, distances, missed=0.5, seed=0, structure="vesicles"):
    """A record with these boundary distances of its sections; None is not defined."""
    defined = [value for value in distances if value is not None]
    scores = OTHERS | {"missed": missed}
    sections = {
        f"{place}s": {"dice": 0.5} | ({} if value is None else {"boundary_nm": value})
        for place, value in enumerate(distances)
    }
    if defined:
        scores["boundary_nm"] = sum(defined) / len(defined)
    return ScoreRecord(method, structure, "d", seed, f"{method}{seed}", scores, sections)


@pytest.fixture
def records(two_rows):
    """The nearest is finetuned; unadapted was evaluated before the metrics were known."""
    return [
        record("scratch", [31.26, 40.0, 50.0, 61.0], missed=0.0),
        record("finetuned", [1.26, 4.0, 5.0, 6.0], missed=1.0),
        ScoreRecord("unadapted", "vesicles", "d", 0, "u", OTHERS, {"0s": {"dice": 0.5}}),
    ]


def tabulate(records, metric="dice"):
    return benchmark_table(records, [*list(METHODS)[:9], "scratch"], ["vesicles"], metric)


def rows_of(records, metric="dice"):
    return [row for row in tabulate(records, metric) if row.scores]


def test_the_best_is_the_lowest_and_the_worst_that_can_be_is_never_marked(records):
    best = {row.method: row.best for row in rows_of(records)}
    assert "boundary_nm" in best["finetuned"]
    assert "boundary_nm" not in best["scratch"] | best["unadapted"]
    assert "missed" in best["scratch"]
    assert "missed" not in best["finetuned"]
    only = rows_of([record("finetuned", [1.0], missed=1.0)])
    assert "missed" not in only[0].best


def test_values_that_print_alike_tie(two_rows):
    rows = rows_of(
        [record("scratch", [1.02]), record("finetuned", [0.98]), record("unadapted", [9])]
    )
    assert ["boundary_nm" in row.best for row in rows] == [
        row.method != "unadapted" for row in rows
    ]


def test_a_metric_that_is_no_row_any_more_is_kept_and_never_the_best(records):
    old = ScoreRecord("scratch", "vesicles", "d", 0, "r", {"dice": 0.5, "gone": 3.0})
    other = ScoreRecord("finetuned", "vesicles", "d", 0, "r", {"dice": 0.4, "gone": 2.0})
    row = next(row for row in rows_of([old, other]) if row.method == "scratch")
    assert row.best == {"dice"}
    assert "gone" in to_csv([row]).splitlines()[0].split(",")


def test_markdown_latex_and_csv_have_the_columns_with_their_units(records):
    rows = rows_of(records)
    lines = [line.split(" | ") for line in to_markdown(rows).splitlines() if line.startswith("|")]
    place = lines[0].index("Boundary distance (nm)")
    assert lines[0][place - 1 : place + 3] == [
        *("Inst. F1", "Boundary distance (nm)", "Missed", "95 % interval")
    ]
    cells = {line[0].removeprefix("| "): line[place] for line in lines[2:]}
    label = {row.method: row.label for row in rows}
    assert cells[label["finetuned"]] == "**4.1**"
    assert cells[label["scratch"]] == "45.6"
    assert cells[label["unadapted"]] == "–"
    latex = to_latex(rows)
    assert "& Boundary distance (nm) & Missed &" in latex
    assert r"\textbf{4.1}" in latex
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", latex)
    assert latex.count("&") == (len(columns) - 1) * (len(rows) + 1)
    by_method = {row["method"]: row for row in csv.DictReader(io.StringIO(to_csv(rows)))}
    assert float(by_method["finetuned"]["boundary_nm"]) == pytest.approx(4.065)
    assert by_method["unadapted"]["boundary_nm"] == ""


def test_what_the_columns_mean_and_what_is_missing_stands_below(records):
    text = to_markdown(rows_of(records))
    assert (
        "Boundary distance (nm): From an annotated outline to the nearest predicted one. Lower is "
        "better." in text
    )
    assert "Missed: FN / (TP + FN) over pixels. Lower is better." in text
    assert "Dice:" not in text
    gap = "– in a row that has scores: not computed"
    assert gap in text
    assert gap in to_latex(rows_of(records)).replace("--", "–")
    assert gap not in to_markdown(rows_of(records[:2]))
    # A row without scores says itself why.
    failed = ScoreRecord("unadapted", "vesicles", "d", 0, "", reason="out of memory")
    assert gap not in to_markdown(rows_of([*records[:2], failed]))


def test_without_a_new_row_the_captions_are_as_ever(two_rows):
    for name in two_rows:
        del METRICS[name]
    rows = rows_of([ScoreRecord("scratch", "vesicles", "d", 0, "r", OTHERS)])
    (caption,) = captions(rows)
    assert caption == (
        "Scores are computed once over the pooled pixels and instances of all sections of the "
        "split, then averaged over seeds (± standard deviation where there are several). The "
        "interval is the 95 % bootstrap interval of the mean Dice of a section. The best value of "
        "each structure and column is marked, ties included unless all rows tie."
    )


def test_a_terminal_of_80_columns_shows_them_in_a_second_table(records):
    console = Console(width=80, file=io.StringIO())
    print_table(rows_of(records), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    first, second = text.split("Method")[1:]
    assert "Seeds" in first
    assert "Seeds" not in second.split("[")[0].split("Scores")[0]
    assert {"Boundary", "distance", "(nm)", "Missed", "45.6", "4.1"} <= set(second.split())


def test_pairs_have_the_lower_first_and_a_difference_without_limits(records):
    (pair,) = compare_pairs(records, ["vesicles"], "boundary_nm")
    assert (pair.first, pair.second, pair.sections) == ("finetuned", "scratch", 4)
    assert pair.difference == pytest.approx((1.26 + 4 + 5 + 6 - 31.26 - 40 - 50 - 61) / 4)
    assert pair.interval[0] < pair.difference < pair.interval[1] < -1
    assert pair_cells(pair, seeds=False)[3] == "-41.5"
    assert describe_best([pair])[0].startswith("lowest mean Boundary distance of a section: ")
    text = write_comparisons([pair], [])
    assert "sections of Boundary distance (nm) (averaged" in text
    assert text.rstrip().endswith("Lower Boundary distance is better.")


def test_sections_where_it_is_not_defined_are_no_pairs(two_rows):
    some = [record("scratch", [10.0, None, 12.0]), record("finetuned", [1.0, 2.0, 3.0])]
    (pair,) = compare_pairs(some, ["vesicles"], "boundary_nm")
    assert (pair.first, pair.sections, pair.difference) == ("finetuned", 2, -9.0)


def test_ranks_begin_with_the_lowest(records):
    ranks = mean_ranks(rows_of(records, "boundary_nm"))
    assert [(rank.method, rank.rank) for rank in ranks] == [("finetuned", 1), ("scratch", 2)]


def test_json_says_which_metric_where_it_is_not_dice(records):
    def write(metric):
        rows = rows_of(records, metric)
        pairs = compare_pairs(records, ["vesicles"], metric)
        return to_json(rows, records, pairs, mean_ranks(rows))

    plain, other = write("dice"), write("boundary_nm")
    assert other.pop("metric") == "boundary_nm"
    assert set(plain) == set(other) == {"schema_version", "rows", "comparisons", "ranks"}
    assert not {"metric"} & {*plain["rows"][0], *plain["comparisons"][0]}
    intervals = {row["method"]: row["interval"] for row in other["rows"]}
    # Of boundary distances, which can be beyond 1 and not below 0.
    assert 0 <= intervals["finetuned"][0] < 4.065 < intervals["finetuned"][1]
    assert "boundary_nm_low" in to_csv(rows_of(records, "boundary_nm")).splitlines()[0]


@pytest.mark.parametrize(
    ("metric", "reached"), [("dice", 1.13), ("missed", 1.13), ("boundary_nm", None)]
)
def test_the_axis_of_a_chart_is_the_range_of_its_metric(records, metric, reached):
    rows = tabulate(records, metric)
    (axes,) = score_chart(rows).axes
    low, high = axes.get_xlim()
    assert low == 0
    if reached is None:
        ends = [row.interval[1] for row in rows if row.interval]
        reached = max(ends) * 1.13
    assert high == pytest.approx(reached)
    assert axes.get_xlabel() == METRICS[metric].heading
    scores = [row.scores[metric] for row in rows if metric in row.scores]
    solid = [bar.get_width() for bar in axes.patches if not bar.get_hatch()]
    assert solid == scores


def test_a_learning_curve_of_nm_leaves_the_range_of_shares(two_rows):
    some = [
        record("finetuned", [10.0, 30.0]),
        record("finetuned:1", [100.0, 120.0]),
        record("unadapted", [300.0]),
    ]
    figure = learning_curve(rows_of(some, "boundary_nm"))
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert 0 <= low < 20
    assert high > 300
    assert axes.get_ylabel() == "Boundary distance (nm), mean over seeds"


def test_the_page_shows_columns_captions_and_the_scores_of_pictures(records):
    rows = tabulate(records, "boundary_nm")
    shown = [
        Shown(
            row,
            0,
            row.run_ids[0],
            [Picture("s0", "worst", {"dice": 0.5, "boundary_nm": 31.26}, missing="gone")],
            Curve(missing="none"),
            TrainingCurves(Curve(missing="none"), Curve(missing="none")),
        )
        for row in rows
        if row.scores
    ]
    pairs = compare_pairs(records, ["vesicles"], "boundary_nm")
    setting = Setting("e", "test", "data", "none", ("2026-01-02",))
    page = benchmark_page(setting, rows, [], shown, pairs, mean_ranks(rows))
    assert ">Boundary distance (nm)</th>" in page
    assert "Dice 0.500, Boundary distance (nm) 31.3" in page
    assert "Bar: Boundary distance (nm) of the pooled pixels" in page
    assert "Lower Boundary distance is better." in page
    assert "lowest mean Boundary distance of a section" in page


def test_published_tables_take_the_same_columns(two_rows, tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text(
        "method,structure,boundary_nm,dice\nA,mito,250,0.5\nB,mito,35.5,\nC,mito,,0.4\n"
    )
    rows = read_reference(path)
    assert [row.scores for row in rows] == [
        {"dice": 0.5, "boundary_nm": 250},
        {"boundary_nm": 35.5},
        {"dice": 0.4},
    ]
    assert [row.best for row in rows] == [{"dice"}, {"boundary_nm"}, set()]
    for wrong in ("-1", "inf", "nan", "far"):
        path.write_text(f"method,structure,boundary_nm\nA,mito,{wrong}\n")
        with pytest.raises(BenchError, match=r"boundary_nm in line 2 of .* from 0 to inf or"):
            read_reference(path)


def test_a_row_changes_no_number_of_the_others(two_rows):
    def write():
        scored = [
            ScoreRecord(
                method,
                "vesicles",
                "d",
                seed,
                f"{method}{seed}",
                {name: value * (1 + 0.1 * seed) for name, value in OTHERS.items()} | extra,
                {f"s{n}": {"dice": 0.4 + 0.01 * n * (seed + 1)} | extra for n in range(5)},
            )
            for method, extra in (("scratch", more), ("finetuned", more))
            for seed in range(2)
        ]
        rows = rows_of(scored)
        pairs = compare_pairs(scored, ["vesicles"])
        return list(csv.DictReader(io.StringIO(to_csv(rows)))), pairs, mean_ranks(rows)

    more = {"boundary_nm": 3.0, "missed": 0.2}
    with_rows, pairs, ranks = write()
    for name in two_rows:
        del METRICS[name]
    more = {}
    plain, *others = write()
    assert [pairs, ranks] == others
    kept = [{name: row[name] for name in plain[0]} for row in with_rows]
    assert kept == plain
    assert [name for name in with_rows[0] if name in plain[0]] == list(plain[0])


def test_infinite_ends_are_those_of_the_row(two_rows):
    assert METRICS["boundary_nm"].ends == (math.inf, 0.0)
