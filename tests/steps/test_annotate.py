"""The step around micro_sam's window: what it opens, what it saves, and what the run says."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from bench.config.data import AnnotateConfig, PrepareConfig
from bench.config.training import MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.sam import write_tiny_sam
from bench.steps.annotate import annotate
from bench.steps.microsam import microsam
from bench.steps.prepare import prepare

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tiny_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotate")
    config = PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    write_tiny_sam(folder / "tiny.pt", image_px=64, decoder_features=8)
    return folder


@pytest.fixture
def model(folder, store):
    config = MicrosamConfig(
        dataset=str(folder / "prepared"),
        source=str(folder / "tiny.pt"),
        tile_px=48,
        halo_px=8,
        min_area_px=1,
        device="cpu",
    )
    return microsam(config, store)


@pytest.fixture
def person(monkeypatch):
    """What a person does at the window: a function of network, names, reading and saving."""
    doings = []

    def open_sam_window(*arguments):
        doings.pop(0)(*arguments)

    window = SimpleNamespace(open_sam_window=open_sam_window)
    monkeypatch.setitem(sys.modules, "bench.correction.sam_window", window)
    monkeypatch.setattr("bench.steps.annotate.check_display", lambda *_: None)
    return doings


def test_what_is_saved_is_read_by_prepare_and_gone_on_with(
    folder, model, person, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_EMBEDDINGS_GB", "1")
    dataset = PreparedDataset.open(folder / "prepared")
    names = dataset.sections("train")
    out = tmp_path / "out"
    config = AnnotateConfig(
        run_id=model, dataset=str(folder / "prepared"), output=str(out), device="cpu"
    )
    seen = []

    def one(network, left, read, save):
        section = read(left[0])
        assert section.image.dtype == np.uint8
        assert np.array_equal(section.labels, dataset.read_labels(left[0], "mitochondria"))
        assert network.instance_decoder is not None
        features = section.embeddings["features"]
        whole = max(section.image.shape) <= 64
        assert (features.shape == (1, 256, 4, 4)) if whole else set(features.attrs) >= {"halo"}
        seen.append(left)
        drawn = np.zeros_like(section.labels)
        drawn[4:20, 5:30] = 3
        save(left[0], drawn)

    person.append(one)
    run = store.client.get_run(annotate(config, store))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["annotate/sections"] == 1
    assert run.data.tags["bench.structure"] == "mitochondria"
    kept = list((tmp_path / "cache" / "synapse-bench" / "embeddings").iterdir())
    assert kept
    first = names[0]
    assert np.array_equal(tifffile.imread(out / "raw" / f"{first}.tif"), dataset.read_raw(first))
    # The same command goes on with the rest; who saves nothing leaves no run.
    person.append(lambda _network, left, _read, _save: seen.append(left))
    assert annotate(config, store) == ""
    assert seen == [list(names), list(names[1:])]

    def rest(_, left, read, save):
        for name in left:
            save(name, read(name).labels)

    person.append(rest)
    annotate(config, store)
    with pytest.raises(BenchError, match=f"all {len(names)} are in {out}: remove"):
        annotate(config, store)
    given = {"splits": f"train=0;val=1-{len(names) - 1}"} if len(names) > 1 else {}
    prepare(PrepareConfig(input=str(out), output=str(tmp_path / "prepared"), **given))
    again = PreparedDataset.open(tmp_path / "prepared")
    labels = again.read_labels(again.sections("train")[0], "mitochondria")
    assert np.count_nonzero(labels) == 16 * 25
    assert again.pixel_size_nm == 5.0


def test_new_images_are_fed_at_the_models_pixel_size(model, person, store, tmp_path):
    raw = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
    (tmp_path / "new").mkdir()
    tifffile.imwrite(tmp_path / "new" / "a.tif", raw)
    config = AnnotateConfig(
        run_id=model,
        input=str(tmp_path / "new"),
        pixel_size_nm=2.5,
        output=str(tmp_path / "out"),
        device="cpu",
    )

    def draw(_, names, read, save):
        section = read(names[0])
        assert section.image.shape == (30, 40)
        assert section.labels is None
        drawn = np.zeros((30, 40), np.uint32)
        drawn[:10, :10] = 1
        save(names[0], drawn)

    person.append(draw)
    annotate(config, store)
    labels = tifffile.imread(tmp_path / "out" / "mitochondria" / "a.tif")
    assert labels.shape == raw.shape
    assert np.count_nonzero(labels) == 400


def test_what_cannot_be_annotated(folder, model, person, store, tmp_path):
    base = {"output": str(tmp_path / "out"), "device": "cpu"}
    with pytest.raises(BenchError, match="no run has the id '0'"):
        annotate(AnnotateConfig(run_id="0", **base), store)
    with pytest.raises(BenchError, match=r"received .*/no/such"):
        annotate(AnnotateConfig(run_id=model, input="/no/such", **base), store)
    with pytest.raises(BenchError, match="structure must be named, as vit_b_em_organelles is of"):
        annotate(AnnotateConfig(**base), store)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one display")
def test_without_a_display_a_line_says_what_else_there_is(python_environment, tmp_path):
    environment = {
        name: value
        for name, value in python_environment.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    done = subprocess.run(
        [sys.executable, str(PROJECT / "entrypoints" / "annotate.py"), "--output", "out"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: annotate needs a display for its window, received neither")
    assert "-e segment" in lines[0]
