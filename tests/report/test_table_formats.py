import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from bench.report.table_formats import (
    captions,
    describe_failures,
    escape_latex,
    print_table,
    shorten_dataset,
    to_csv,
    to_latex,
    to_markdown,
)
from bench.report.tables import ScoreRecord, benchmark_table

REASON = "out of memory: batch_size=8 & 50% of\n GPU #0 | free"
HASH = "0123456789abcdef" * 4


def record(method, structure, seed, dice, dataset="d"):
    sections = {name: {"dice": dice + shift} for name, shift in (("a", -0.02), ("b", 0.02))}
    scores = {
        "dice": dice,
        "iou": dice / (2 - dice),
        "precision": dice,
        "recall": dice,
        "panoptic_quality": dice / 2,
    }
    if structure == "vesicles":
        scores["instance_f1"] = 0.25
    run_id = f"{method}-{structure}-{seed}"
    return ScoreRecord(method, structure, dataset, seed, run_id, scores, sections)


def table(dataset="d"):
    return [
        record("scratch", "vesicles", 0, 1 / 3, dataset),
        record("scratch", "vesicles", 1, 0.35, dataset),
        record("finetuned", "vesicles", 0, 0.5, dataset),
        record("scratch", "mitochondria", 0, 0.9, dataset),
        ScoreRecord("finetuned", "mitochondria", dataset, 0, "", reason=REASON),
    ]


@pytest.fixture
def rows():
    return benchmark_table(table(), ["scratch", "finetuned"], ["vesicles", "mitochondria"])


@pytest.fixture
def two_datasets():
    return benchmark_table(
        table() + table(HASH), ["scratch", "finetuned"], ["vesicles", "mitochondria"]
    )


def markdown_cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_the_papers_columns_and_a_row_per_cell(rows):
    cells = markdown_cells(to_markdown(rows))
    assert cells[0] == [
        *("Method", "Structure", "Dice", "IoU", "Precision", "Recall", "Inst. F1"),
        *("95 % interval", "Sections", "Seeds"),
    ]
    assert {len(line) for line in cells} == {10}
    assert len(cells) == 2 + 3
    assert cells[2][:3] == ["From scratch (focal-Dice)", "Vesicles", "0.342 ± 0.012"]
    assert cells[4][2:7] == ["**0.500**", "**0.333**", "**0.500**", "**0.500**", "0.250"]
    assert cells[4][7:] == ["0.317–0.683", "2", "1"]


def test_markdown_marks_no_value_that_all_have_and_leaves_out_what_was_not_scored(rows):
    cells = markdown_cells(to_markdown(rows))
    assert cells[2][6] == "0.250 ± 0.000"
    assert cells[3][6] == "–"


def test_a_failure_is_a_note_and_no_row_of_dashes(rows):
    text = to_markdown(rows)
    assert (
        "Not scored (mitochondria: Fine-tuned (focal-Dice)): out of memory: batch\\_size=8 & 50% "
        "of GPU #0 \\| free"
    ) in text.splitlines()
    assert text.rstrip().endswith(captions(rows)[-1])


def test_one_cause_is_one_note_however_many_cells_it_stops():
    why = "no internet"
    records = [
        ScoreRecord(method, structure, "d", 0, "", reason=why)
        for method in ("unadapted", "finetuned")
        for structure in ("vesicles", "membrane")
    ]
    records.append(ScoreRecord("unadapted", "mitochondria", "d", 0, "", reason="out of memory"))
    rows = benchmark_table([*records, *table()[:2]], [], [])
    assert describe_failures(rows) == [
        "Not scored (vesicles, membrane: Unadapted; Fine-tuned (focal-Dice)): no internet",
        "Not scored (mitochondria: Unadapted): out of memory",
    ]


def test_all_formats_number_the_warnings_of_a_scored_cell():
    scored = replace(record("scratch", "vesicles", 0, 0.5, "d"), warnings=("toy", "kept"))
    rows = benchmark_table([scored], ["scratch"], ["vesicles"])
    text = to_markdown(rows)
    assert markdown_cells(text)[2][-1] == r"1 \[1,2\]"
    assert [line for line in text.splitlines() if line.startswith("\\[")] == [
        r"\[1\] toy",
        r"\[2\] kept",
    ]
    assert pd.read_csv(io.StringIO(to_csv(rows)))["warnings"][0] == "toy; kept"
    assert "[2] kept" in to_latex(rows)


def test_several_datasets_are_named_by_the_start_of_their_hash(two_datasets):
    cells = markdown_cells(to_markdown(two_datasets))
    assert cells[0][0] == "Dataset"
    assert [line[0] for line in cells[2:]] == ["d"] * 3 + ["0123456789ab"] * 3


def test_csv_returns_through_pandas_in_full_precision(rows):
    frame = pd.read_csv(io.StringIO(to_csv(rows)))
    assert len(frame) == len(rows)
    for (_, line), row in zip(frame.iterrows(), rows, strict=True):
        assert (line["method"], line["structure"], line["n"]) == (row.method, row.structure, row.n)
        for metric in ("dice", "iou", "instance_f1", "panoptic_quality"):
            if metric in row.scores:
                assert line[metric] == row.scores[metric]
            else:
                assert pd.isna(line[metric])
        if row.interval:
            assert (line["dice_low"], line["dice_high"]) == row.interval
    first, failed = frame.iloc[0], frame.iloc[3]
    assert first["dice_sd"] == rows[0].deviations["dice"]
    assert first["run_ids"].split() == ["scratch-vesicles-0", "scratch-vesicles-1"]
    assert first["seeds"] == "0 1"
    assert failed["reason"] == REASON
    assert pd.isna(failed["dice"])
    assert pd.isna(first["reason"])


def test_latex_escapes_and_has_as_many_cells_as_columns(rows):
    text = to_latex(rows)
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(rows) - 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}
    assert r"batch\_size=8 \& 50\% of GPU \#0 \textbar{} free" in text
    assert r"\textbf{0.500}" in text
    assert text.count(r"\midrule") == 2
    assert text.count("{") == text.count("}")
    assert not re.search(r"(?<!\\)[%#_]", text)


def test_every_special_character_of_latex_is_escaped():
    assert escape_latex(r"a&b%c$d#e_f{g}h~i^j\k<l>") == (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j"
        r"\textbackslash{}k\textless{}l\textgreater{}"
    )


def printed(rows, **more):
    console = Console(width=80, file=io.StringIO(), **more)
    print_table(rows, console)
    return console.file.getvalue()


def test_the_terminal_table_keeps_its_numbers_whole_at_80_columns(rows):
    text = printed(rows)
    assert max(map(len, text.splitlines())) <= 80
    for whole in ("0.342±0.012", "0.317–0.683", "Mitochondria", "Recall"):
        assert whole in text
    assert "…" not in text
    assert "Not scored (mitochondria: Fine-tuned (focal-Dice)): out of memory" in text.replace(
        "\n", " "
    ).replace("  ", " ")


def test_wide_numbers_go_to_a_table_below_and_names_stay_readable():
    """Deviations, brackets and notes of a benchmark with seeds once left two letters to a name."""
    names = ("dice", "iou", "precision", "recall", "instance_f1")
    records = [
        ScoreRecord(
            *("unet_resnet50", "mitochondria", "d", seed, f"r{seed}"),
            dict.fromkeys(names, 0.5 + 0.1 * seed),
            section_scores={f"s{at:04d}": {"dice": 0.4 + 0.1 * at} for at in range(3)},
            warnings=("its source: nothing was learned",),
        )
        for seed in (0, 1)
    ]
    text = printed(benchmark_table(records, [], []))
    assert "U-Net, ResNet-50 Mitochondria 0.550±0.071" in text
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"Seeds\n", text)
    assert "2 [1]" in text


def test_the_terminal_table_marks_the_best(rows):
    text = printed(rows, force_terminal=True, color_system="standard")
    assert "\x1b[1;32m0.500\x1b[0m" in text.replace(" ", "")
    assert "\x1b[1;32m0.342" not in text.replace(" ", "")


def test_the_terminal_table_shows_brackets_in_names_as_they_are():
    record_ = ScoreRecord("mine [bold]", "vesicles", "d", 0, "r", {"dice": 0.5})
    assert "[bold]" in printed(benchmark_table([record_], [], []))


def test_the_terminal_table_names_each_dataset(two_datasets):
    text = printed(two_datasets)
    assert "Dataset d\n" in text
    assert "Dataset 0123456789ab\n" in text


@pytest.mark.parametrize(
    ("dataset", "short"), [(HASH, HASH[:12]), ("sha256:" + HASH, HASH[:12]), ("epfl6", "epfl6")]
)
def test_only_hashes_are_shortened(dataset, short):
    assert shorten_dataset(dataset) == short


def test_vesicles_of_volumes_are_columns_where_a_method_has_them():
    """In every form of the table; a table of sections is as it was, in CSV as well."""
    plain = {"dice": 0.8, "iou": 0.7, "precision": 0.8, "recall": 0.8, "instance_f1": 0.5}
    of_volumes = plain | {"mask_dice": 0.75, "diameter_error": 0.05, "centre_error_nm": 1.95}
    sections = [ScoreRecord("scratch", "vesicles", "d", 0, "r1", plain)]
    both = [*sections, ScoreRecord("unadapted", "vesicles", "d", 0, "r2", of_volumes)]

    def rows_of(records):
        return benchmark_table(records, ["unadapted", "scratch"], ["vesicles"])

    def write_all(rows):
        console = Console(width=80, file=io.StringIO())
        print_table(rows, console)
        texts = [to_markdown(rows), to_csv(rows), to_latex(rows)]
        return [*texts, console.file.getvalue().replace("\n", " ")]

    for text in write_all(rows_of(sections)):
        assert not re.search("vesicle_|Vesicle (recall|F1)|[Mm]ask.[Dd]ice|error", text)
    for text in write_all(rows_of(both)):
        assert re.search("mask_dice|Mask +Dice|Mask", text)
        assert re.search("centre_error_nm|Centre error|Centre", text)
        assert not re.search("vesicle_f1|Vesicle F1", text)
    rows = rows_of(both)
    markdown = to_markdown(rows)
    assert "Centre error (nm): Distance of the centres of paired vesicles, mean. Lower" in markdown
    assert "| 0.750 | 0.050 | 1.95 |" in markdown
    (header, first, second) = to_csv(rows).splitlines()
    places = [header.split(",").index(name) for name in ("mask_dice", "centre_error_nm")]
    by_row = {
        line.split(",")[0]: [line.split(",")[place] for place in places] for line in (first, second)
    }
    assert by_row == {"scratch": ["", ""], "unadapted": ["0.75", "1.95"]}
