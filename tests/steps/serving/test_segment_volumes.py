"""Whole volumes are segmented as they were evaluated, written, and go on where they were killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from scipy import ndimage

from bench.config.data import PrepareConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes, read_volume_labels
from bench.errors import BenchError
from bench.export.sphere_table import read_spheres
from bench.inference import volumes
from bench.inference.kept_levels import KeptLevels
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import read_prediction
from bench.ingest.images.formats import read_header
from bench.recipe.recipe import read_recipe
from bench.recipe.volumes import segment_volume
from bench.steps.evaluate import evaluate
from bench.steps.prepare import prepare
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact, get_run, read_settings
from bench.tracking.store import Store

from .conftest import BALLS, SHAPE, VOXEL_NM, make_tomogram, write_tomogram

PROJECT = Path(__file__).parents[3]
VOXELS = (VOXEL_NM,) * 3
ORIGIN = (12.0, -30.0, 44.0)


@dataclass(frozen=True)
class Tomograms:
    """A dataset of tomograms, and evaluations of the network on them: with spheres and without."""

    store: Store
    tree: Path
    dataset: Path
    spheres: str
    components: str


@pytest.fixture(scope="module")
def tomograms(make_store, dark_finder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tomograms")
    store = make_store(folder / "store")
    z, y, x = np.ogrid[tuple(slice(side) for side in SHAPE)]
    mask = np.zeros(SHAPE, np.int8)
    for cz, cy, cx, radius in BALLS:
        mask[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    for seed, split in enumerate(("train", "val", "test")):
        raw = make_tomogram(seed)
        write_tomogram(folder / "in" / split / "raw" / "tomo1.mrc", raw, origin=ORIGIN)
        write_tomogram(folder / "in" / split / "vesicles" / "tomo1.mrc", mask, origin=ORIGIN)
    dataset = str(folder / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepare(PrepareConfig(input=str(folder / "in"), output=dataset))
    config = EvaluateConfig(
        dataset=dataset,
        method="cryovesnet",
        structure="vesicles",
        source=str(dark_finder),
        device="cpu",
    )
    spheres = evaluate(config, store)
    components = evaluate(replace(config, spheres="none"), store)
    return Tomograms(store, folder / "in", Path(dataset), spheres, components)


@pytest.fixture
def use_tomograms(tomograms, use_store):
    use_store(tomograms.store)
    return tomograms


def config(tomograms, tmp_path, **settings):
    given = {
        "run_id": tomograms.spheres,
        "input": str(tomograms.tree / "val/raw"),
        "device": "cpu",
        "output": str(tmp_path / "out"),
    }
    return SegmentConfig(**(given | settings))


def stored_result(tomograms, run_id):
    """What the evaluation predicted of the validation tomogram, and its instances."""
    dataset = PreparedDataset.open(tomograms.dataset)
    (volume,) = find_volumes(dataset, "val")
    file = fetch_artifact(tomograms.store, run_id, "predictions.h5")
    levels = np.stack([read_prediction(file, name).foreground for name in volume.sections])
    recipe = read_recipe(fetch_artifact(tomograms.store, run_id, "recipe.json"))
    raw = mrcfile.read(tomograms.tree / "val/raw/tomo1.mrc")
    return levels, segment_volume(recipe, SectionPrediction(levels), VOXELS, lambda: raw)


@pytest.mark.parametrize("kind", ["spheres", "components"])
def test_a_volume_is_segmented_as_it_was_evaluated(use_tomograms, tmp_path, kind):
    """Probabilities bit for bit, instances id for id, from the top row on."""
    named = getattr(use_tomograms, kind)
    run_id = segment(config(use_tomograms, tmp_path, run_id=named))
    out = tmp_path / "out"
    levels, expected = stored_result(use_tomograms, named)
    probability = tifffile.imread(out / "probability/tomo1.tif")
    np.testing.assert_array_equal(probability, levels[:, ::-1])
    labels = tifffile.imread(out / "vesicles/tomo1.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected.labels[:, ::-1])
    assert labels.max() == len(BALLS)
    raw = tifffile.imread(out / "raw/tomo1.tif")
    stored = mrcfile.read(use_tomograms.tree / "val/raw/tomo1.mrc")
    np.testing.assert_array_equal(raw, stored[:, ::-1])
    header = read_header(out / "vesicles/tomo1.tif")
    assert (header.pixel_sides_nm, header.section_nm) == ((2.2, 2.2), 2.2)
    table = pd.read_csv(out / "volumes.csv", index_col="volume")
    row = table.loc["tomo1"]
    assert (row["planes"], row["instances"]) == (SHAPE[0], len(BALLS))
    size_um3 = np.prod(SHAPE) * (VOXEL_NM / 1000) ** 3
    assert row["density_per_um3"] == pytest.approx(len(BALLS) / size_um3)
    instances = pd.read_csv(out / "instances.csv")
    assert list(instances["id"]) == [1, 2, 3, 4]
    where = np.argwhere(labels == 2).mean(axis=0)
    assert instances["centroid_y_nm"][1] == pytest.approx(where[1] * VOXEL_NM)
    assert (out / "overlays/tomo1.png").stat().st_size > 5000
    run = get_run(use_tomograms.store, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["segment/instances"] == len(BALLS)
    assert "inverted" not in run.data.tags.get("bench.warning", "")
    assert fetch_artifact(use_tomograms.store, run_id, "volumes.csv").is_file()
    said = json.loads((out / "segmentation.json").read_text())
    assert (said["volumes"], said["section_nm"]) == (["tomo1"], 2.2)
    assert (said["spheres"] == "none") == (kind == "components")
    if kind == "components":
        assert row["membrane_contrast"] > 0.1
        assert not (out / "spheres.csv").exists()
        return
    rows = read_spheres(out / "spheres.csv")
    assert {row.id for row in rows if row.kept} == {1, 2, 3, 4}
    for row in rows:
        z, y, x = (round(value) for value in row.centre)
        assert labels[z, y, x] == row.id
        assert row.radius_nm == pytest.approx(row.radius * VOXEL_NM, abs=1e-3)
    assert fetch_artifact(use_tomograms.store, run_id, "spheres.csv").is_file()


@pytest.mark.parametrize("format", ["tiff", "mrc", "hdf5", "ome_zarr"])
def test_every_format_goes_back_into_prepare(use_tomograms, tmp_path, format):
    for name in ("val", "train", "test"):
        raw = (use_tomograms.tree / name / "raw/tomo1.mrc").read_bytes()
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{'1' if name == 'val' else '2' + name}.mrc").write_bytes(raw)
    segment(config(use_tomograms, tmp_path, input=str(tmp_path / "in"), format=format))
    _, expected = stored_result(use_tomograms, use_tomograms.spheres)
    labels = expected.labels if format == "mrc" else expected.labels[:, ::-1]
    out = tmp_path / "out"
    if format == "mrc":
        with mrcfile.open(out / "vesicles/1.mrc") as file:
            np.testing.assert_array_equal(file.data, labels)
            assert file.voxel_size.x == pytest.approx(22.0)
            assert tuple(file.header.origin.tolist()) == pytest.approx(ORIGIN)
            assert (file.header.dmin, file.header.dmax) == (0, len(BALLS))
            assert file.header.rms == pytest.approx(file.data.std(), rel=1e-5)
        image = mrcfile.read(out / "raw/1.mrc")
        stored = mrcfile.read(use_tomograms.tree / "val/raw/tomo1.mrc")
        assert image.dtype == np.int16
        np.testing.assert_array_equal(image, stored)
        assert mrcfile.validate(out / "vesicles/1.mrc")
    if format == "hdf5":
        with h5py.File(out / "vesicles/1.h5") as file:
            assert tuple(file["data"].attrs["resolution"]) == VOXELS
    if format == "ome_zarr":
        image = zarr.open_group(out / "1/image.ome.zarr", mode="r")
        np.testing.assert_array_equal(image["labels/vesicles/0"][:], labels)
    prepare(
        PrepareConfig(
            input=str(out),
            output=str(tmp_path / "prepared"),
            splits="regions:train=0;val=1;test=2",
        )
    )
    dataset = PreparedDataset.open(tmp_path / "prepared")
    (volume,) = find_volumes(dataset, "train")
    assert volume.shape == SHAPE
    assert volume.voxel_size_nm == pytest.approx(VOXELS)
    np.testing.assert_array_equal(read_volume_labels(dataset, volume, "vesicles"), labels)
    rows = read_spheres(out / "spheres.csv")
    assert {row.volume for row in rows} == {"1", "2train", "2test"}
    for row in (row for row in rows if row.kept and row.volume == "1"):
        assert labels[tuple(round(value) for value in row.centre)] == row.id


class Killed(BaseException):
    """What no part of a step catches."""


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_a_killed_segmentation_goes_on(
    use_tomograms, tmp_path, monkeypatch, contents, killed_after
):
    """Three of seven slabs of 4 planes are finished when it is killed, say."""
    monkeypatch.setattr(volumes, "_SLAB_VOXELS", {"cpu": 4 * SHAPE[1] * SHAPE[2]})
    monkeypatch.setattr(volumes, "_WRITTEN_VOXELS", 8 * SHAPE[1] * SHAPE[2])
    whole = tmp_path / "whole/out"
    segment(config(use_tomograms, tmp_path, output=str(whole)))
    experiment = use_tomograms.store.client.create_experiment(f"kill {tmp_path.name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    settings = config(use_tomograms, tmp_path, output=str(tmp_path / "killed/out"))
    append, done = KeptLevels.append, []

    def dying(kept, number, levels):
        if len(done) == killed_after:
            raise Killed
        append(kept, number, levels)
        done.append(len(levels))

    with monkeypatch.context() as patch:
        patch.setattr(KeptLevels, "append", dying)
        with pytest.raises(Killed):
            segment(settings)
    assert not Path(settings.output).exists()
    rest = []

    def counting(kept, number, levels):
        append(kept, number, levels)
        rest.append(len(levels))

    monkeypatch.setattr(KeptLevels, "append", counting)
    segment(settings)
    # Each plane is predicted once, and written once.
    assert sum(done) + sum(rest) == 2 * SHAPE[0]
    assert contents(Path(settings.output)) == contents(whole)
    assert [path.name for path in Path(settings.output).parent.iterdir()] == ["out"]


def test_a_process_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    use_tomograms, tmp_path, start_process, python_environment, monkeypatch, contents
):
    """SIGKILL between two slabs of planes; those that were finished are not predicted again."""
    raw = np.tile(mrcfile.read(use_tomograms.tree / "val/raw/tomo1.mrc"), (12, 2, 2))
    image = str(write_tomogram(tmp_path / "long.mrc", raw))
    given = {"input": image, "run_id": use_tomograms.components}
    whole = tmp_path / "whole/out"
    segment(config(use_tomograms, tmp_path, output=str(whole), **given))
    experiment = use_tomograms.store.client.create_experiment(f"kill {tmp_path.name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    out = tmp_path / "killed/out"
    command = [sys.executable, str(PROJECT / "entrypoints/segment.py"), "--device", "cpu"]
    for name, value in (given | {"output": str(out)}).items():
        command += [f"--{name}", value]
    store = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
    process = start_process(command, env=python_environment | store, stderr=subprocess.PIPE)
    while not (found := list(out.parent.glob(".out.unfinished-*/tiles/long/model0/fed/0.json"))):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not out.exists()
    finished = json.loads(found[0].read_text())["planes"]
    assert 0 < finished < len(raw)
    append, rest = KeptLevels.append, []

    def counting(kept, number, levels):
        append(kept, number, levels)
        rest.append(len(levels))

    monkeypatch.setattr(KeptLevels, "append", counting)
    segment(config(use_tomograms, tmp_path, output=str(out), **given))
    # What was fed and is left, and the map of all.
    assert sum(rest) == 2 * len(raw) - finished
    assert contents(out) == contents(whole)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_section_method_is_applied_as_it_was_evaluated(
    use_tomograms, tmp_path, tiny_section_network
):
    """Plane by plane, and its components are those of the volume."""
    run_id = evaluate(
        EvaluateConfig(
            dataset=str(use_tomograms.dataset),
            method="unadapted",
            structure="vesicles",
            source=str(tiny_section_network),
            device="cpu",
            min_area_px=20,
            threshold=0.3,
            opening_radius_px=0,
        )
    )
    segment(config(use_tomograms, tmp_path, run_id=run_id))
    dataset = PreparedDataset.open(use_tomograms.dataset)
    (volume,) = find_volumes(dataset, "val")
    file = fetch_artifact(use_tomograms.store, run_id, "predictions.h5")
    recipe = read_recipe(fetch_artifact(use_tomograms.store, run_id, "recipe.json"))
    from bench.inference.prediction_file import read_mean

    levels = np.stack(
        [read_mean(file, name, recipe.augmentations).foreground for name in volume.sections]
    )
    probability = tifffile.imread(tmp_path / "out/probability/tomo1.tif")
    np.testing.assert_array_equal(probability, levels[:, ::-1])
    expected = segment_volume(recipe, SectionPrediction(levels), VOXELS, lambda: None)
    labels = tifffile.imread(tmp_path / "out/vesicles/tomo1.tif")
    np.testing.assert_array_equal(labels, expected.labels[:, ::-1])
    assert labels.any()


def test_symmetries_that_keep_the_wedge_are_averaged(use_tomograms, tmp_path):
    """As evaluated, and as the user asks for at another model."""
    given = EvaluateConfig(
        dataset=str(use_tomograms.dataset),
        method="cryovesnet",
        structure="vesicles",
        source=read_settings(use_tomograms.store, use_tomograms.components)["source"],
        spheres="none",
        augmentations="all",
        device="cpu",
    )
    run_id = evaluate(given)
    recipe = read_recipe(fetch_artifact(use_tomograms.store, run_id, "recipe.json"))
    assert recipe.augmentations == ("identity", "rot180", "flip_y", "flip_x")
    (volume,) = find_volumes(PreparedDataset.open(use_tomograms.dataset), "val")
    file = fetch_artifact(use_tomograms.store, run_id, "predictions.h5")
    maps = [
        np.stack([read_prediction(file, name, symmetry).foreground for name in volume.sections])
        for symmetry in recipe.augmentations
    ]
    mean = np.floor(np.mean(maps, axis=0) + 0.5)
    segment(config(use_tomograms, tmp_path, run_id=run_id))
    probability = tifffile.imread(tmp_path / "out/probability/tomo1.tif")
    np.testing.assert_array_equal(probability, mean[:, ::-1])
    other = str(tmp_path / "asked")
    named = use_tomograms.components
    segment(config(use_tomograms, tmp_path, run_id=named, augmentations="all", output=other))
    asked = tifffile.imread(tmp_path / "asked/probability/tomo1.tif")
    np.testing.assert_array_equal(asked, probability)


def test_inverted_contrast_is_reported(use_tomograms, tmp_path):
    """Of components it is seen in what was found, as nothing says what the model was trained on."""
    raw = mrcfile.read(use_tomograms.tree / "val/raw/tomo1.mrc").astype(np.int32)
    # What the network finds dark has a rim that is bright, as membranes of an inverted tomogram.
    inside = ndimage.binary_opening(ndimage.gaussian_filter(raw, 1) < 940)
    rim = inside ^ ndimage.binary_dilation(inside, iterations=2)
    raw = np.where(rim, 1300, np.where(inside, 800, 1000))
    path = write_tomogram(tmp_path / "bright.mrc", raw.astype(np.int16))
    named = use_tomograms.components
    run_id = segment(config(use_tomograms, tmp_path, run_id=named, input=str(path)))
    assert pd.read_csv(tmp_path / "out/volumes.csv")["instances"][0] == len(BALLS)
    warnings = get_run(use_tomograms.store, run_id).data.tags["bench.warning"]
    assert "the contrast of bright seems inverted" in warnings


def test_what_the_user_sets_is_done(use_tomograms, tmp_path):
    settings = config(
        use_tomograms,
        tmp_path,
        separation="components",
        threshold=0.5,
        min_area_px=900,
    )
    run_id = segment(settings)
    levels, _ = stored_result(use_tomograms, use_tomograms.spheres)
    labels = tifffile.imread(tmp_path / "out/vesicles/tomo1.tif")
    sizes = np.bincount(labels.ravel())[1:]
    assert len(sizes)
    assert sizes.min() >= 900
    assert (levels[:, ::-1][labels > 0] >= 128).all()
    said = read_settings(use_tomograms.store, run_id)["postprocess_origin"]
    assert said.endswith("Set by the user: min_area_px, threshold, separation.")
    chosen = config(use_tomograms, tmp_path, threshold=0.3, output=str(tmp_path / "spheres"))
    segment(chosen)
    (level,) = pd.read_csv(tmp_path / "spheres/volumes.csv")["threshold"]
    assert level == pytest.approx(0.3, abs=0.01)


def test_bad_volumes_are_one_line(use_tomograms, tmp_path):
    raw = mrcfile.read(use_tomograms.tree / "val/raw/tomo1.mrc")
    tifffile.imwrite(tmp_path / "plain.tif", raw.astype(np.uint16), imagej=True)
    tifffile.imwrite(tmp_path / "single.tif", raw[3].astype(np.uint16))
    write_tomogram(tmp_path / "thin.mrc", raw[:3])
    write_tomogram(tmp_path / "flat.mrc", raw)
    with mrcfile.open(tmp_path / "flat.mrc", "r+") as file:
        file.voxel_size = (22.0, 22.0, 110.0)
    for name, settings, message in [
        ("single.tif", {"pixel_size_nm": 2.2}, "received single images .single.tif.: save the"),
        ("plain.tif", {}, "no section_nm and pixel_size_nm for plain.tif, which does not state"),
        ("plain.tif", {"pixel_size_nm": 2.2}, "no section_nm for plain.tif.* give -P section_nm="),
        ("thin.mrc", {}, "network unet3d needs at least 4 x 4 x 4 voxels .* has 3 x 44 x 48"),
        ("flat.mrc", {}, "flat.mrc: spheres need voxels that are cubes, received 11 x 2.2 x 2.2"),
        ("thin.mrc", {"workers": 2}, "volumes are segmented in one process, received cluster="),
        ("thin.mrc", {"min_area_px": 5}, "received min_area_px where vesicles become spheres"),
    ]:
        with pytest.raises(BenchError, match=message):
            segment(config(use_tomograms, tmp_path, input=str(tmp_path / name), **settings))
        assert not (tmp_path / "out").exists()


def test_a_volume_network_needs_an_evaluation_on_volumes(use_tomograms, tmp_path, dark_finder):
    single = config(
        use_tomograms, tmp_path, input=str(tmp_path / "a.tif"), run_id=use_tomograms.spheres
    )
    assert single.section_nm is None
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 20, 20), np.uint16), imagej=True)
    given = replace(single, pixel_size_nm=2.2, section_nm=2.2)
    segment(given)
    assert pd.read_csv(tmp_path / "out/volumes.csv")["section_nm"][0] == 2.2
    assert pd.read_csv(tmp_path / "out/volumes.csv")["instances"][0] == 0
