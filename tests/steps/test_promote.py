import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.config import PromoteConfig, SegmentConfig
from bench.data.prepared import PreparedDataset
from bench.inference import resumable
from bench.inference.prediction_file import read_prediction
from bench.recipe import RECIPE_FILE, read_recipe
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact
from bench.tracking.registry import find_champion

PROJECT = Path(__file__).parents[2]
CHAMPION = "models:/synapse-bench-mitochondria@champion"
# Of the montage, for the models of the searches.
TILES = 9 * 8

# A user who has the requirements and the store, and neither the project nor its code.
LOAD_AND_PREDICT = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2], model_config={"device": "cpu"})
images = np.load(sys.argv[3])
found = model.predict(images, params={"pixel_size_nm": float(sys.argv[5])})
np.savez(sys.argv[4], **found)
import bench
print(bench.__file__)
"""


@pytest.fixture
def use_searched(searched, use_store):
    use_store(searched.store)
    return searched


@pytest.fixture(scope="module")
def montage(tmp_path_factory):
    """A section of 210 x 190 px."""
    path = tmp_path_factory.mktemp("montage") / "montage.tif"
    random = np.random.default_rng(0)
    raw = 120 + random.normal(0, 8, (210, 190))
    for y, x in random.integers(20, 170, (12, 2)):
        raw[y - 11 : y + 11, x - 11 : x + 11] -= 70
    tifffile.imwrite(path, raw.clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture
def predict_elsewhere(python_environment, tmp_path):
    """Applies a registered model in a process of its own, in a folder of its own."""

    def predict(uri, model, images, pixel_size_nm=5.0):
        np.save(tmp_path / "images.npy", images)
        environment = dict(python_environment)
        del environment["PYTHONPATH"]
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        files = (str(tmp_path / "images.npy"), str(tmp_path / "found.npz"), str(pixel_size_nm))
        done = subprocess.run(
            [sys.executable, "-c", LOAD_AND_PREDICT, uri, model, *files],
            env=environment,
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "found.npz") as found:
            return dict(found), done

    return predict


def promote_run(run_id, **settings):
    return promote(PromoteConfig(structure="mito", run_id=run_id, **({"replace": True} | settings)))


def expected_of(searched, run, section):
    """What the search scored: the stored maps of its models, as its recipe combines them."""
    recipe = read_recipe(fetch_artifact(searched.store, run, RECIPE_FILE))
    on_test = dict(zip(searched.trained, searched.on_test, strict=True))
    files = [
        fetch_artifact(searched.store, on_test[member.trained_run], "predictions.h5")
        for member in recipe.members
    ]
    maps = recipe.blend.apply(
        [[read_prediction(file, section, name) for name in recipe.augmentations] for file in files]
    )
    return maps.foreground, recipe.segment(maps, 5.0).labels


@pytest.mark.parametrize("which", ["single", "ensemble"])
def test_the_champion_predicts_what_was_searched(use_searched, predict_elsewhere, which):
    """Bit for bit on the test sections, in a process that has no code but the model's own."""
    searched = use_searched
    run_id = promote_run(getattr(searched, which))
    dataset = PreparedDataset.open(searched.dataset)
    sections = dataset.sections("test")
    images = np.stack([dataset.read_raw(name) for name in sections])
    found, done = predict_elsewhere(searched.store.uri, CHAMPION, images)
    location = find_champion(searched.store, "mitochondria").location
    assert Path(done.stdout.strip()) == Path(location) / "code/bench/__init__.py"
    assert found["instances"].dtype == np.int32
    assert found["probability"].dtype == np.float32
    for number, name in enumerate(sections):
        probability, labels = expected_of(searched, getattr(searched, which), name)
        np.testing.assert_array_equal(found["instances"][number], labels)
        levels = found["probability"][number] * np.float32(255)
        np.testing.assert_array_equal(levels.round(), probability)
        assert labels.max() >= 2
    assert searched.store.client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("which", ["single", "ensemble"])
def test_segment_applies_the_champion_as_it_was_searched(use_searched, tmp_path, tiny_tree, which):
    """Bit for bit what the search scored, from the registry and from the search itself."""
    searched, run = use_searched, getattr(use_searched, which)
    promote_run(run)
    files = []
    for number, named in enumerate(
        ({"structure": "mito"}, {"run_id": run}, {"run_id": CHAMPION}, {})
    ):
        out = tmp_path / f"out{number}"
        segment(
            SegmentConfig(
                input=str(tiny_tree / "test/raw"),
                output=str(out),
                pixel_size_nm=5.0,
                device="cpu",
                **named,
            )
        )
        for name in ("s5", "s6", "s7"):
            probability, labels = expected_of(searched, run, f"test-{name}")
            np.testing.assert_array_equal(
                tifffile.imread(out / f"probability/{name}.tif"), probability
            )
            np.testing.assert_array_equal(tifffile.imread(out / f"mitochondria/{name}.tif"), labels)
        files.append({path.name for path in out.rglob("*.*")})
    assert all(names == files[0] for names in files)


def test_a_killed_segmentation_by_the_champion_ends_with_the_same_bytes(
    use_searched, tmp_path, montage, python_environment, monkeypatch
):
    """SIGKILL within the sixth of ten passes; what was finished is not predicted again."""
    promote_run(use_searched.ensemble)
    given = {"structure": "mito", "pixel_size_nm": 5.0, "device": "cpu", "input": str(montage)}
    whole, out = tmp_path / "whole/out", tmp_path / "killed/out"
    segment(SegmentConfig(output=str(whole), **given))
    # The same images once more, under a run of their own.
    experiment = use_searched.store.client.create_experiment(f"kill {tmp_path.name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    words = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, str(PROJECT / "entrypoints/segment.py"), f"--output={out}", *words]
    store = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
    process = subprocess.Popen(command, env=python_environment | store, stderr=subprocess.PIPE)
    passes = wait_for_passes(out, 5, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not out.exists()
    fed = []
    predict_tiles = resumable.predict_tiles

    def count(network, tiles, halo_px, compute):
        fed.append(len(tiles))
        return predict_tiles(network, tiles, halo_px, compute)

    monkeypatch.setattr(resumable, "predict_tiles", count)
    segment(SegmentConfig(output=str(out), **given))
    assert 0 < sum(fed) <= (10 - passes) * TILES
    assert contents(out) == contents(whole)


def wait_for_passes(out, wanted, process):
    """Returns how many passes a process has finished, once it has some and is in the next."""
    while process.poll() is None:
        folder = f".{out.name}.unfinished-*/tiles/*"
        done = len(list(out.parent.glob(f"{folder}/*/foreground.npy")))
        if done >= wanted and list(out.parent.glob(f"{folder}/*/tiles/finished/[0-9]*")):
            return done
        time.sleep(0.005)
    pytest.fail(f"the process ended: {process.stderr.read().decode()}")
    return 0


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
