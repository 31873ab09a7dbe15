"""The step around the window: what it opens, what it saves, and what the run says."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import mrcfile
import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.config.data import CorrectConfig, PrepareConfig
from bench.core.files import write_json
from bench.correction.session import Correction
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.export.sphere_table import SphereRow, read_spheres, write_spheres
from bench.export.stack import make_stack
from bench.steps.correct import correct
from bench.steps.prepare import prepare
from bench.tracking.queries import fetch_artifact

PROJECT = Path(__file__).parents[2]
SHAPE = (16, 32, 40)
BALLS = (
    SphereRow("tomo", 1, 8.0, 10.0, 10.0, 5.0, p=0.4),
    SphereRow("tomo", 2, 7.0, 21.0, 29.0, 4.5, p=0.002),
)


def paint(balls, shape=SHAPE):
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint16)
    for ball in balls:
        labels[(z - ball.z) ** 2 + (y - ball.y) ** 2 + (x - ball.x) ** 2 <= ball.radius**2] = (
            ball.id
        )
    return labels


def draw(seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    return (noise - 2 * (paint(BALLS) > 0)).astype(np.float32)


@pytest.fixture
def person(monkeypatch):
    """What a person does at the window: a function of the correction and of saving."""
    doings = []

    def open_window(correction, save):
        doings.pop(0)(correction, save)

    window = SimpleNamespace(open_window=open_window)
    monkeypatch.setitem(sys.modules, "bench.correction.window", window)
    monkeypatch.setattr("bench.steps.correct.check_display", lambda *_: None)
    return doings


@pytest.fixture
def segmented(tmp_path):
    """A volume as segment leaves it: stacks, and what is known of its vesicles."""
    stack = make_stack(
        {"vesicles": paint(BALLS)}, raw=draw(), pixel_size_nm=2.2, section_nm=2.2, volume="tomo"
    )
    folder = tmp_path / "segmented"
    Correction.begin(stack).write(folder)
    left_out = SphereRow("tomo", 7, 3.0, 5.0, 30.0, 3.0, kept=False, reason="outlier")
    write_spheres(folder / "spheres.csv", [*BALLS, left_out])
    said = {"structure": "vesicles", "section_nm": 2.2, "method": "cryovesnet"}
    write_json(folder / "segmentation.json", said)
    return folder


def edit_balls(correction, save):
    edits = correction.balls["vesicles"]
    assert [row.id for row in edits.list_by_doubt()] == [2, 1]
    edits.remove(2)
    edits.resize(1, 0.5)
    save()
    edits.add((4.0, 6.0, 33.0))
    edits.undo()
    edits.restore(7)
    said = save()
    assert "1 added, 1 removed, 1 changed" in said
    # What is done after it was saved counts for nothing.
    edits.remove(1)


def test_a_volume_that_was_segmented(segmented, person, store, tmp_path, caplog):
    person.append(edit_balls)
    out = tmp_path / "out"
    caplog.set_level(logging.INFO)
    run_id = correct(CorrectConfig(input=str(segmented), output=str(out)))
    assert "corrected: 1 added, 1 removed, 1 changed" in caplog.text
    assert f"input={out}" in caplog.text or f"--input {out}" in caplog.text
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {
        name: run.data.metrics[f"correct/{name}"] for name in ("added", "removed", "changed")
    } == {
        "added": 1,
        "removed": 1,
        "changed": 1,
    }
    tags = {key.removeprefix("bench."): value for key, value in run.data.tags.items()}
    assert (tags["step"], tags["method"], tags["structure"]) == (
        "correct",
        "cryovesnet",
        "vesicles",
    )
    assert tags["output"] == str(out)
    changes = pd.read_csv(fetch_artifact(store, run_id, "changes.csv"))
    assert dict(zip(changes["id"], changes["change"], strict=True)) == {
        1: "changed",
        2: "removed",
        7: "added",
    }
    rows = read_spheres(fetch_artifact(store, run_id, "spheres.csv"))
    assert [(row.id, row.kept) for row in rows] == [(1, True), (7, True), (2, False)]
    # It is an annotation like any other.
    given = {"splits": "train=0-7;val=8-15", "volumes": "true"}
    prepare(PrepareConfig(input=str(out), output=str(tmp_path / "prepared"), **given))
    dataset = PreparedDataset.open(tmp_path / "prepared")
    found = np.stack(
        [dataset.read_labels(n, "vesicles") for s in ("train", "val") for n in dataset.sections(s)]
    )
    np.testing.assert_array_equal(found, tifffile.imread(out / "vesicles/tomo.tif"))
    resized, restored = (row for row in rows if row.kept)
    assert resized.radius == 5.5
    np.testing.assert_array_equal(found, paint([resized, restored]))


def test_what_was_corrected_is_corrected_again(segmented, person, store, tmp_path):
    """Its annotation is a dataset's; doing nothing is another run, saved or not."""
    person.append(edit_balls)
    correct(CorrectConfig(input=str(segmented), output=str(tmp_path / "out")))
    seen = []
    person.append(lambda correction, save: (seen.append(correction), save()))
    given = {"splits": "train=0-7;val=8-15", "volumes": "true"}
    prepare(PrepareConfig(input=str(tmp_path / "out"), output=str(tmp_path / "data"), **given))
    again = correct(
        CorrectConfig(dataset=str(tmp_path / "data"), split="train", output=str(tmp_path / "b"))
    )
    (correction,) = seen
    assert correction.stack.shape == (8, 32, 40)
    assert store.client.get_run(again).data.metrics["correct/changed"] == 0


def test_what_is_not_saved_leaves_nothing(segmented, person, store, tmp_path, caplog):
    person.append(lambda correction, save: correction.balls["vesicles"].remove(1))
    caplog.set_level(logging.INFO)
    config = CorrectConfig(input=str(segmented), output=str(tmp_path / "out"))
    assert correct(config) == ""
    assert "nothing was saved" in caplog.text
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_what_exists_is_left_alone(segmented, person, store, tmp_path):
    (tmp_path / "out").mkdir()
    config = CorrectConfig(input=str(segmented), output=str(tmp_path / "out"))
    with pytest.raises(BenchError, match="output must be a new folder"):
        correct(config)

    def appear(correction, save):
        (tmp_path / "late").mkdir()
        (tmp_path / "late/mine").touch()
        with pytest.raises(BenchError, match="output must be a new folder"):
            save()

    person.append(appear)
    assert correct(CorrectConfig(input=str(segmented), output=str(tmp_path / "late"))) == ""
    assert [path.name for path in (tmp_path / "late").iterdir()] == ["mine"]


@pytest.fixture
def tomograms(store, tmp_path):
    """A dataset of volumes, from MRC with an origin: one to train on, two to validate on."""
    for number, (split, name) in enumerate((("train", "a"), ("val", "b"), ("val", "c"))):
        for kind, pixels in (("raw", draw(number)), ("vesicles", paint(BALLS))):
            folder = tmp_path / "tree" / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            with mrcfile.new(folder / f"{name}.mrc") as file:
                file.set_data(pixels)
                file.set_volume()
                file.voxel_size = 22.0
                file.header.origin.x, file.header.origin.z = 120.5, -44.0
    prepare(PrepareConfig(input=str(tmp_path / "tree"), output=str(tmp_path / "data")))
    return tmp_path / "data"


def test_the_annotation_of_a_tomogram(tomograms, person, store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = {"dataset": str(tomograms), "output": str(tmp_path / "out")}
    with pytest.raises(BenchError, match=r"received 2: give -P volume= with one of val-b, val-c"):
        correct(CorrectConfig(**config))
    with pytest.raises(BenchError, match="unknown volume 'd': choose one of val-b, val-c"):
        correct(CorrectConfig(volume="d", **config))

    def remove(correction, save):
        edits = correction.balls["vesicles"]
        # As people see it: the last row of an MRC on top.
        assert edits.rows[1].y == pytest.approx(31 - BALLS[0].y)
        edits.remove(edits.find((7, 31 - 21, 29)))
        save()

    person.append(remove)
    run_id = correct(CorrectConfig(volume="val-c", **config))
    assert store.client.get_run(run_id).data.metrics["correct/removed"] == 1
    with mrcfile.open(tmp_path / "out/vesicles/val-c.mrc") as file:
        np.testing.assert_array_equal(file.data, paint(BALLS[:1]))
    with mrcfile.open(tmp_path / "out/raw/val-c.mrc") as file:
        np.testing.assert_array_equal(file.data, draw(2))
        assert [float(file.header.origin[axis]) for axis in "xyz"] == pytest.approx([120.5, 0, -44])
    (row,) = [row for row in read_spheres(tmp_path / "out/spheres.csv") if row.kept]
    assert row.centre == pytest.approx(BALLS[0].centre, abs=0.1)
    # It validates: it may not be trained on.
    assert "put it in the place of the old annotation" in caplog.text
    given = {"add_to": str(tomograms), "output": str(tmp_path / "more")}
    with pytest.raises(BenchError, match="must stay as they are and unseen in training"):
        prepare(PrepareConfig(input=str(tmp_path / "out"), **given))


def test_sections_are_painted_in(person, store, make_tree, tmp_path):
    tree = make_tree(splits={"train": 2, "val": 2})
    prepare(PrepareConfig(input=str(tree), output=str(tmp_path / "data"), pixel_size_nm=5.0))
    config = {
        "dataset": str(tmp_path / "data"),
        "structure": "mito",
        "output": str(tmp_path / "out"),
    }

    def do(correction, save):
        assert correction.stack.names == ("val-s2", "val-s3")
        labels = correction.stack.labels["mitochondria"]
        labels[correction.painted["mitochondria"].find_pixels(1)] = 0
        labels[1, 40:46, 50:60] = 99
        save()

    person.append(do)
    run_id = correct(CorrectConfig(**config))
    metrics = store.client.get_run(run_id).data.metrics
    assert (metrics["correct/added"], metrics["correct/removed"]) == (1, 1)
    labels = tifffile.imread(tmp_path / "out/mitochondria/val-s3.tif")
    assert (labels[40:46, 50:60] == 99).all()
    raw = imagecodecs.png_decode((tree / "val/raw/s2.png").read_bytes())
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/raw/val-s2.tif"), raw)
    person.append(lambda correction, save: save())
    single = config | {"output": str(tmp_path / "one"), "volume": "val-s3"}
    correct(CorrectConfig(**single))
    assert [path.name for path in (tmp_path / "one/raw").iterdir()] == ["val-s3.tif"]


def run_without_window(python_environment, tmp_path, **display):
    environment = {
        name: value
        for name, value in python_environment.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    script = PROJECT / "entrypoints/correct.py"
    return subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--input", "somewhere"],
        env=environment | display,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one display")
def test_without_a_display_a_line_says_what_else_there_is(python_environment, tmp_path):
    done = run_without_window(python_environment, tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert lines[0].startswith("error: correct needs a display for its window, received neither")
    assert "-e export -P format=imod_spheres" in lines[0]
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"numpy", "torch", "mlflow", "napari", "qtpy", "h5py"})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one display")
def test_a_display_that_is_not_there_ends_in_a_line_too(python_environment, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": os.fspath(tmp_path)}
    done = run_without_window(python_environment, tmp_path, DISPLAY=":987", **home)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Qt must be able to open a window, received" in line
    assert "-e export -P format=imod_spheres" in line
