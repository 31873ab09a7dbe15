from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.report.references import NO_NUMBER, read_reference

REFERENCES = Path(__file__).parents[2] / "references"
PAPER = REFERENCES / "retinal_benchmark_table1.csv"
VESICLES = REFERENCES / "cryovesnet_2022.csv"


@pytest.fixture
def written(tmp_path):
    def write(text, name="paper.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_the_paper_has_16_rows_of_numbers_and_6_without():
    rows = read_reference(PAPER)
    assert [bool(row.scores) for row in rows] == [True] * 16 + [False] * 6
    assert {row.reason for row in rows if not row.scores} == {NO_NUMBER}
    assert all(row.published for row in rows)
    by_name = {(row.method, row.structure): row.scores for row in rows}
    assert list(by_name["Fine-tuned (focal)", "membrane"].values()) == [
        *(0.870, 0.770, 0.973, 0.787, 1.000)
    ]
    assert by_name["Fine-tuned (retrain)", "vesicles"]["dice"] == 0.158


def test_dice_and_iou_of_the_paper_agree_as_they_must():
    # IoU = Dice / (2 - Dice) of the same pixels, both printed to three decimals.
    for row in read_reference(PAPER):
        if row.scores:
            dice = row.scores["dice"]
            assert row.scores["iou"] == pytest.approx(dice / (2 - dice), abs=1.1e-3)


def test_vesicles_of_three_sets_of_tomograms_stand_apart():
    rows = read_reference(VESICLES)
    assert [row.dataset for row in rows] == [
        f"published: cryovesnet_2022, {name}" for name in ("train", "test synaptosomes", "neurons")
    ]
    assert not any(row.best for row in rows)
    assert rows[1].scores == {
        "dice": 0.83,
        "mask_dice": 0.75,
        "vesicle_recall": 0.963,
        "vesicle_precision": 0.939,
        "vesicle_f1": 0.947,
        "diameter_error": 0.08,
        "centre_error_nm": 2.32,
    }
    for row in rows:
        other_data, note = row.warnings
        assert "not compared with ours" in other_data
        assert "means of" in note
        # F1 of means over tomograms is near the pooled one, which is no mean.
        recall, precision = row.scores["vesicle_recall"], row.scores["vesicle_precision"]
        harmonic = 2 * recall * precision / (recall + precision)
        assert row.scores["vesicle_f1"] == pytest.approx(harmonic, abs=0.01)


def test_datasets_of_a_file_have_bests_of_their_own(written):
    text = "method,structure,dataset,dice\nA,mito,x,0.5\nB,mito,x,0.7\nA,mito,y,0.6\nB,mito,,0.9\n"
    rows = read_reference(written(text))
    assert [bool(row.best) for row in rows] == [False, True, False, False]
    assert rows[3].dataset == "published: paper"


def test_the_best_is_marked_among_the_published(written):
    rows = read_reference(written("method,structure,dice\nA,mito,0.5\nB,mito,0.7\n"))
    assert [(r.label, r.structure, r.best) for r in rows] == [
        ("A (published)", "mitochondria", frozenset()),
        ("B (published)", "mitochondria", frozenset({"dice"})),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns method and structure, received none"),
        ("method,dice\nA,0.5\n", "received method, dice: add structure"),
        (
            "method,structure,dise\nA,mito,0.5\n",
            "unknown column of .* 'dise': choose one of .* mean dice",
        ),
        ("method,structure,dice,dice\nA,mito,1,0\n", "must name a column once"),
        ("method,structure,dice\n", "must have a row of published scores, received none"),
        ("method,structure,dice\nA,mito,high\n", "dice in line 2 of .* from 0 to 1 .* 'high'"),
        ("method,structure,dice\nA,mito,87\n", "received '87'"),
        ("method,structure,dice\nA,mito,nan\n", "received 'nan'"),
        ("method,structure,dice\nA,no/se,0.5\n", "a structure's name must be .* 'no/se'"),
        ("method,structure,dice\nA,mito,0.5,0.6\n", "line 2 .* as many cells as the first line"),
        ("method,structure,dice\nA,mito\n", "line 2 .* as many cells as the first line"),
        ("method,structure,dice\n,mito,0.5\n", "line 2 .* must name a method"),
        ("method,structure\nA,mito\nA,mitochondria\n", "received A, mitochondria twice"),
        (b"\xff\xfe\x00", "reference must be a CSV table .* cannot be read"),
    ],
)
def test_what_is_no_reference_is_refused_in_one_line(written, text, message):
    with pytest.raises(BenchError, match=message) as caught:
        read_reference(written(text))
    assert "\n" not in str(caught.value)


def test_a_reference_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(BenchError, match="reference must be a CSV table of published scores"):
            read_reference(path)
