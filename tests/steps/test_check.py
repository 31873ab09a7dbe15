import io
import json

import imagecodecs
import numpy as np
import pytest
from rich.console import Console

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.ingest.layouts.folders import read_folder
from bench.steps.check import check, fail_on_errors


@pytest.fixture
def check_tree():
    """Checks a folder tree: returns the report and the lines on a terminal of 80 columns."""

    def run(root, output=None):
        console = Console(file=io.StringIO(), width=80)
        report = check(
            read_folder(PrepareConfig(input=str(root), pixel_size_nm=5.0)), output, console
        )
        return report, console.file.getvalue().splitlines()

    return run


@pytest.fixture
def broken_tree(write_tree, tmp_path):
    root = write_tree(tmp_path / "broken")
    path = root / "train" / "raw" / "s1.png"
    path.write_bytes(path.read_bytes()[:500])
    path = root / "train" / "mitochondria" / "s0.png"
    path.write_bytes(imagecodecs.png_encode(255 - imagecodecs.png_decode(path.read_bytes())))
    return root


def test_a_sound_tree_passes(check_tree, tiny_tree):
    report, lines = check_tree(tiny_tree)
    fail_on_errors(report)
    assert lines[0] == "8 sections, 5 nm per pixel"
    assert lines[-1].startswith("0 errors and ")
    text = " ".join(" ".join(lines).split())
    # Two discs of 11 px radius in each of three sections: 377 px (of 25 nm²) each.
    assert "mitochondria train 6 18.41% nm² 9425 9425 9425 9425 9425" in text


def test_tables_fit_a_terminal(check_tree, tiny_tree):
    _, lines = check_tree(tiny_tree)
    tables = lines[: next(n for n, line in enumerate(lines) if not line.strip())]
    assert len(tables) > 10
    assert max(map(len, tables)) <= 80
    assert not any("…" in line for line in tables)


def test_errors_are_listed_and_end_the_command(check_tree, broken_tree):
    report, lines = check_tree(broken_tree)
    errors = [line for line in lines if line.startswith("ERROR")]
    assert len(errors) == report.errors == 2
    assert "train/raw/s1.png must be a whole" in errors[0]
    assert "mitochondria of train-s0" in errors[1]
    with pytest.raises(BenchError, match=r"^[^\n]*received 2 errors and \d+ warnings?: [^\n]*$"):
        fail_on_errors(report)


def test_nothing_is_written_without_a_folder(check_tree, broken_tree, monkeypatch, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    before = sorted(broken_tree.rglob("*"))
    check_tree(broken_tree)
    assert not list(empty.iterdir())
    assert sorted(broken_tree.rglob("*")) == before


def test_pictures_and_findings(check_tree, broken_tree, tmp_path):
    folder = tmp_path / "check"
    report, _ = check_tree(broken_tree, folder)
    names = {path.name for path in folder.iterdir()}
    readable = {s.name for s in report.sections} - {"train-s1"}
    assert names == {"findings.json", *(f"{name}.png" for name in readable)}
    record = json.loads((folder / "findings.json").read_text())
    assert record["errors"] == 2
    inverted = [f for f in record["findings"] if f["kind"] == "mask-inverted"]
    assert inverted[0]["file"] == "train/mitochondria/s0.png"
    picture = imagecodecs.png_decode((folder / "val-s3.png").read_bytes())
    assert np.unique(picture.reshape(-1, picture.shape[-1]), axis=0).shape[0] > 100
