import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig, MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference import tiles
from bench.inference.prediction_file import read_prediction
from bench.ingest.images.images import read_header, read_section
from bench.models.sam import write_tiny_sam
from bench.recipe.recipe import RECIPE_FILE, read_recipe
from bench.recipe.scores import SplitResult
from bench.recipe.sections import segment_by_recipe
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.microsam import microsam
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact, read_settings

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def use_pipeline(pipeline, use_store):
    use_store(pipeline.store)
    return pipeline


def config(pipeline, tmp_path, **settings):
    given = {"run_id": pipeline.trained, "device": "cpu", "output": str(tmp_path / "out")}
    return SegmentConfig(**(given | settings))


def test_the_sections_of_an_evaluation_are_segmented_as_it_did(use_pipeline, tmp_path, tiny_tree):
    """Probabilities bit for bit, instances id for id, measured as the images say."""
    # Other tests evaluate the model, too: its newest evaluation may be theirs.
    settings = config(
        use_pipeline,
        tmp_path,
        run_id=use_pipeline.on_val,
        input=str(tiny_tree / "val/raw"),
        pixel_size_nm=5.0,
    )
    run_id = segment(settings)
    out = Path(settings.output)
    dataset = PreparedDataset.open(use_pipeline.dataset)
    stored = fetch_artifact(use_pipeline.store, use_pipeline.on_val, "predictions.h5")
    recipe = read_recipe(fetch_artifact(use_pipeline.store, use_pipeline.on_val, RECIPE_FILE))
    sections, result = pd.read_csv(out / "sections.csv", index_col="section"), SplitResult()
    assert list(sections.index) == ["s3", "s4"]
    with h5py.File(stored) as file:
        for name in sections.index:
            probability = tifffile.imread(out / f"probability/{name}.tif")
            np.testing.assert_array_equal(probability, file[f"val-{name}/identity"])
            labels = tifffile.imread(out / f"mitochondria/{name}.tif")
            assert labels.dtype == np.uint16
            maps = read_prediction(stored, f"val-{name}")
            expected = segment_by_recipe(recipe, maps, 5.0, lambda: pytest.fail("read"))
            np.testing.assert_array_equal(labels, expected.labels)
            truth = dataset.read_labels(f"val-{name}", "mitochondria")
            result.add(
                name,
                truth=truth,
                probability=probability,
                instances=replace(expected, labels=labels.astype(np.int32)),
            )
            assert ((labels > 0) == (truth > 0)).mean() > 0.9
            assert read_header(out / f"mitochondria/{name}.tif").pixel_sides_nm == (5.0, 5.0)
            assert sections["instances"][name] == labels.max() > 0
            assert sections["density_per_um2"][name] == pytest.approx(labels.max() / 0.32**2)
            assert (out / f"overlays/{name}.png").stat().st_size > 1000
    assert result.scores() == recipe.validation
    instances = pd.read_csv(out / "instances.csv")
    assert len(instances) == sections["instances"].sum()
    run = use_pipeline.store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["bench.step"] == "segment"
    origin = read_settings(use_pipeline.store, run_id)["postprocess_origin"]
    assert origin.startswith("As evaluation ")
    trained = use_pipeline.store.client.get_run(use_pipeline.trained)
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == [
        i.dataset.digest for i in trained.inputs.dataset_inputs
    ]
    assert run.data.metrics["segment/instances"] == len(instances)


def test_it_says_what_the_model_was_made_on(use_pipeline, tmp_path, tiny_tree, caplog):
    """And nothing of images like those."""
    settings = config(use_pipeline, tmp_path, input=str(tiny_tree / "val/raw"), pixel_size_nm=5.0)
    with caplog.at_level("INFO"):
        segment(settings)
    run = use_pipeline.store.client.get_run(use_pipeline.on_test)
    dice = f"Dice {run.data.metrics['test/dice']:.3f} on its test sections"
    said = f"model {use_pipeline.trained}: made on data set prepared (5 nm), {dice}"
    assert said in caplog.messages
    described = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert described["made_on"] == "prepared"
    assert described["test_dice"] == run.data.metrics["test/dice"]
    assert not [line for line in caplog.messages if "contrast" in line]


@pytest.mark.parametrize("early", [False, True])
def test_images_far_from_what_it_saw_are_reported(
    use_pipeline, tmp_path, tiny_tree, early, monkeypatch
):
    """A model of an earlier version does not say what that was: its data set is measured."""
    checkpoint = fetch_artifact(use_pipeline.store, use_pipeline.trained, "checkpoint")
    stored = json.loads((checkpoint / "best.json").read_text())["training"]["grey_values"]
    assert (stored["depth"], stored["mean"] > 90) == ("uint8", True)
    if early:
        monkeypatch.setattr("bench.steps.serving.model_origin.grey_values_of", lambda infos: ())
    pale = tmp_path / "pale"
    pale.mkdir()
    for path in (tiny_tree / "val/raw").iterdir():
        tifffile.imwrite(pale / f"{path.stem}.tif", read_section(path) // 6 + 200)
    run_id = segment(config(use_pipeline, tmp_path, input=str(pale), pixel_size_nm=11.0))
    warnings = use_pipeline.store.client.get_run(run_id).data.tags["bench.warning"]
    assert "the contrast of 2 of 2 sections looked at (s3, s4) is far from what the" in warnings
    assert f"in training {stored['mean']:.4g} and {stored['deviation']:.3g})" in warnings
    assert "the image has pixels of 11 nm and the model was trained at 5 nm" in warnings


def test_a_killed_segmentation_goes_on_and_ends_with_the_same_bytes(
    use_pipeline, tmp_path, montage, start_process, python_environment, monkeypatch, contents
):
    """SIGKILL in the middle; the rest is predicted once, and nothing is half-written."""
    whole = tmp_path / "whole/out"
    segment(config(use_pipeline, tmp_path, input=str(montage), output=str(whole)))
    # The same images once more, under a run of their own.
    experiment = use_pipeline.store.client.create_experiment(f"kill {tmp_path.name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    out = tmp_path / "killed" / "out"
    command = [sys.executable, str(PROJECT / "entrypoints/segment.py"), "--device", "cpu"]
    command += ["--run_id", use_pipeline.trained, "--input", str(montage), "--output", str(out)]
    store = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
    process = start_process(command, env=python_environment | store, stderr=subprocess.PIPE)
    finished = wait_for_tiles(out, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not out.exists()
    fed = count_batches(monkeypatch)
    segment(config(use_pipeline, tmp_path, input=str(montage), output=str(out)))
    assert 0 < sum(fed) <= 483 - finished
    assert contents(out) == contents(whole)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def wait_for_tiles(out, process):
    """Returns how many tiles a process has finished, once it has some."""
    while process.poll() is None:
        for flags in out.parent.glob(f".{out.name}.unfinished-*/tiles/**/finished"):
            if len(list(flags.glob("[0-9]*"))) > 10:
                return int(zarr.open_array(flags, mode="r")[:].sum())
        time.sleep(0.005)
    pytest.fail(f"the process ended: {process.stderr.read().decode()}")
    return 0


def count_batches(monkeypatch):
    """Records how many tiles are predicted at a time."""
    fed = []
    start_tiles = tiles.start_tiles

    def counting(network, tiles, *others, **named):
        fed.append(len(tiles))
        return start_tiles(network, tiles, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", counting)
    return fed


def test_a_finished_segmentation_is_written_again_elsewhere(
    use_pipeline, tmp_path, tiny_tree, contents
):
    image = str(tiny_tree / "test/raw/s5.png")
    settings = [
        config(use_pipeline, tmp_path, input=image, output=str(tmp_path / name)) for name in "ab"
    ]
    assert segment(settings[0]) == segment(settings[1])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_model_of_an_evaluation_with_settings_of_the_user(use_pipeline, tmp_path, tiny_tree):
    settings = config(
        use_pipeline,
        tmp_path,
        run_id=use_pipeline.on_test,
        input=str(tiny_tree / "test/raw/s5.png"),
        min_area_px=100000,
        format="ome_zarr",
    )
    run = use_pipeline.store.client.get_run(segment(settings))
    out = Path(settings.output)
    said = json.loads((out / "segmentation.json").read_text())
    assert said["min_area_px"] == 100000
    assert said["opening_radius_px"] == 0
    assert use_pipeline.on_test in said["postprocess_origin"]
    assert said["postprocess_origin"].endswith("Set by the user: min_area_px.")
    root = zarr.open_group(out / "s5/image.ome.zarr", mode="r")
    raw = read_section(tiny_tree / "test/raw/s5.png")
    np.testing.assert_array_equal(root["0"][0], raw)
    assert not root["labels/mitochondria/0"][:].any()
    assert zarr.open_array(out / "s5/probability.ome.zarr/0", mode="r")[:].max() > 200
    assert len(pd.read_csv(out / "instances.csv")) == 0
    assert "pixel size of 1 of 1 sections is unknown" in run.data.tags["bench.warning"]


@pytest.mark.parametrize(("rescale", "remedy"), [("true", "check"), ("false", "use rescale=true")])
def test_a_pixel_size_far_from_the_model_is_reported(
    use_pipeline, tmp_path, tiny_tree, rescale, remedy
):
    settings = config(
        use_pipeline,
        tmp_path,
        input=str(tiny_tree / "test/raw/s6.png"),
        pixel_size_nm=12.0,
        rescale=rescale == "true",
    )
    run = use_pipeline.store.client.get_run(segment(settings))
    assert "12 nm and the model was trained at 5 nm" in run.data.tags["bench.warning"]
    assert remedy in run.data.tags["bench.warning"]


def test_what_a_file_says_of_its_size_is_told(use_pipeline, tmp_path, tiny_tree):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(read_section(tiny_tree / "test/raw/s6.png").astype(np.int16))
        file.voxel_size = 1.0
    settings = config(use_pipeline, tmp_path, input=str(tmp_path / "a.mrc"))
    run = use_pipeline.store.client.get_run(segment(settings))
    assert "a.mrc: states voxels of exactly 1 Angstrom" in run.data.tags["bench.warning"]
    assert "pixel size of 1 of 1 sections is unknown" in run.data.tags["bench.warning"]


def test_a_stack_is_segmented_section_by_section(use_pipeline, tmp_path, tiny_tree):
    images = [read_section(path) for path in sorted((tiny_tree / "test/raw").glob("*.png"))]
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.stack(images), photometric="minisblack")
    several, single = tmp_path / "several", tmp_path / "single"
    segment(config(use_pipeline, tmp_path, input=str(stack), output=str(several)))
    folder = str(tiny_tree / "test/raw")
    segment(config(use_pipeline, tmp_path, input=folder, output=str(single)))
    for kind in ("mitochondria", "probability"):
        first, second = (
            [path.read_bytes() for path in sorted((out / kind).glob("*.tif"))]
            for out in (several, single)
        )
        assert first == second
    assert sorted(path.stem for path in (several / "mitochondria").glob("*")) == [
        "stack_z0",
        "stack_z1",
        "stack_z2",
    ]


@pytest.mark.parametrize("format", ["tiff", "ome_zarr"])
def test_results_of_mrc_lie_on_it_as_3dmod_and_fiji_show_it(
    use_pipeline, tmp_path, tiny_tree, format
):
    """They show the last stored row of an MRC on top, and the first one of what is written."""
    stored = read_section(next((tiny_tree / "val/raw").iterdir()))
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(stored.astype(np.uint16))
    (tmp_path / "plain").mkdir()
    tifffile.imwrite(tmp_path / "plain/a.tif", stored, photometric="minisblack")
    found = {}
    for name, given in (("mrc", tmp_path / "a.mrc"), ("tif", tmp_path / "plain")):
        out = tmp_path / f"out {name}"
        settings = {"input": str(given), "output": str(out), "pixel_size_nm": 5.0}
        # Other tests evaluate the model with settings that leave no instance.
        settings["run_id"] = use_pipeline.on_val
        run_id = segment(config(use_pipeline, tmp_path, format=format, **settings))
        warnings = use_pipeline.store.client.get_run(run_id).data.tags.get("bench.warning", "")
        assert ("begin with its last stored row" in warnings) == (name == "mrc")
        if format == "tiff":
            images = [
                tifffile.imread(out / kind / "a.tif") for kind in ("mitochondria", "probability")
            ]
        else:
            image = zarr.open(out / "a/image.ome.zarr", mode="r")
            images = [image["labels/mitochondria/0"][0], image["0"][0]]
        found[name] = images
    for of_mrc, of_tif in zip(found["mrc"], found["tif"], strict=True):
        assert of_tif.any()
        np.testing.assert_array_equal(of_mrc, of_tif[::-1])


def test_a_sam_is_applied_in_windows_of_its_own(use_pipeline, tmp_path, tiny_tree):
    write_tiny_sam(tmp_path / "tiny.pt", image_px=64, decoder_features=0)
    dataset = str(use_pipeline.dataset)
    trained = microsam(
        MicrosamConfig(
            dataset=dataset,
            source=str(tmp_path / "tiny.pt"),
            tile_px=32,
            halo_px=8,
            min_area_px=1,
            points_per_side=4,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
            device="cpu",
        )
    )
    evaluated = evaluate(
        EvaluateConfig(dataset=dataset, run_id=trained, device="cpu", min_area_px=1, threshold=0)
    )
    image = str(tiny_tree / "val/raw/s3.png")
    segment(config(use_pipeline, tmp_path, run_id=trained, input=image, pixel_size_nm=5.0))
    stored = read_prediction(
        fetch_artifact(use_pipeline.store, evaluated, "predictions.h5"), "val-s3"
    )
    probability = tifffile.imread(tmp_path / "out/probability/s3.tif")
    np.testing.assert_array_equal(probability, stored.foreground)
    labels = tifffile.imread(tmp_path / "out/mitochondria/s3.tif")
    np.testing.assert_array_equal(labels > 0, stored.instances > 0)
    assert labels.max() == len(np.unique(stored.instances[stored.instances > 0]))
    assert not (tmp_path / "out/tiles").exists()


def test_bad_input_is_one_line(use_pipeline, tmp_path, tiny_tree, run_entry_point):
    colour = tmp_path / "colour.tif"
    tifffile.imwrite(colour, np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))
    torn = tmp_path / "torn.png"
    torn.write_bytes((tiny_tree / "test/raw/s5.png").read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    good = str(tiny_tree / "test/raw/s5.png")
    model, out = use_pipeline.trained, str(tmp_path / "new")
    for arguments, message in [
        ((model, str(colour), out), "must be grey, received 3 colour channels"),
        ((model, str(torn), out), "that does not decode"),
        ((model, str(tmp_path / "empty"), out), "must hold images"),
        ((model, str(tmp_path / "nothing.tif"), out), "No such file or directory"),
        ((model, good, str(tmp_path / "taken")), "output must be a new folder"),
        (("auto", good, out), "segment needs a model: without run_id it takes the champion"),
        (("0" * 32, good, out), "no run has the id"),
        ((use_pipeline.prepared, good, out), "must have trained a model"),
    ]:
        named = zip(("--run_id", "--input", "--output"), arguments, strict=True)
        status, said = run_entry_point("segment", *(word for pair in named for word in pair))
        assert status == 2
        assert said.splitlines()[-1].startswith("error: ")
        assert message in said.splitlines()[-1]
        assert not Path(out).exists()
    assert not list(tmp_path.glob(".new*"))


def test_an_image_larger_than_the_memory_is_refused_before_it_is_read(
    use_pipeline, tmp_path, montage, monkeypatch
):
    monkeypatch.setattr("bench.core.memory.free_bytes", lambda: 1_000_000)
    with pytest.raises(BenchError, match=r"montage of 700 x 660 px needs about 0\.0 GB .* cut it"):
        segment(config(use_pipeline, tmp_path, input=str(montage)), use_pipeline.store)
    assert not (tmp_path / "out").exists()


def test_a_model_without_evaluation_needs_settings(
    use_pipeline, tmp_path, tiny_tree, tiny, run_entry_point
):
    short = tiny | {"iterations": 1, "epoch_iterations": 1}
    trained = finetune(
        FinetuneConfig(dataset=str(use_pipeline.dataset), source="random", seed=7, **short)
    )
    given = ("--run_id", trained, "--input", str(tiny_tree / "test/raw/s5.png"))
    given += ("--output", str(tmp_path / "out"))
    status, said = run_entry_point("segment", *given)
    assert status == 2
    assert "has none: evaluate it first, or give opening_radius_px and min_area_px" in said
    status, said = run_entry_point(
        "segment", *given, "--opening_radius_px", "1", "--min_area_px", "5"
    )
    assert status == 0, said
    described = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert described["postprocess_origin"] == (
        "The model was not evaluated. Set by the user: opening_radius_px, min_area_px."
    )
