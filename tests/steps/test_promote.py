import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.config import PromoteConfig
from bench.data.prepared import PreparedDataset
from bench.inference.prediction_file import read_prediction
from bench.recipe import RECIPE_FILE, read_recipe
from bench.steps.promote import promote
from bench.tracking.queries import fetch_artifact
from bench.tracking.registry import find_champion

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
    run_id = promote(PromoteConfig(structure="mito", run_id=getattr(searched, which), replace=True))
    dataset = PreparedDataset.open(searched.dataset)
    sections = dataset.sections("test")
    images = np.stack([dataset.read_raw(name) for name in sections])
    champion = "models:/synapse-bench-mitochondria@champion"
    found, done = predict_elsewhere(searched.store.uri, champion, images)
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
