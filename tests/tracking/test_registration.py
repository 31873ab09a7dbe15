import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.core.hashing import file_sha256
from bench.inference.device import choose_compute
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.recipe.predictor import RecipePredictor, segment_array
from bench.recipe.recipe import Recipe, RecipeMember, write_recipe_folder
from bench.tracking.database import relocate_artifacts
from bench.tracking.opening import open_run
from bench.tracking.registry import find_champion, register_champion, set_champion
from bench.tracking.runs import Identity

PREDICT = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
for name in sys.argv[3:]:
    model = mlflow.pyfunc.load_model(f"models:/synapse-bench-vesicles-{name}@champion")
    found = model.predict(np.load(sys.argv[2]), params={"pixel_size_nm": 5.0})
    np.savez(f"found_{name}.npz", **found)
"""
# Champions by their names, and the pixel size in nm that each knows.
CHAMPIONS = {"known": 5.0, "unknown": None}


@pytest.fixture
def recipe(tmp_path):
    """A model with random weights under two symmetries, as a recipe in a folder."""
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}
    info = ModelInfo("unet2d", arguments, ("foreground",), "vesicles", 5.0, "section", 32, 16)
    torch.manual_seed(0)
    weights = tmp_path / "best.safetensors"
    save_checkpoint(weights, build_model("unet2d", arguments), info)
    member = RecipeMember("m", "scratch", 0, "run", "", "evaluation", file_sha256(weights))
    recipe = Recipe(
        structure="vesicles",
        dataset="d" * 64,
        pixel_size_nm=5.0,
        rescale=True,
        members=(member,),
        ensemble="mean",
        weights=(1,),
        augmentations=("identity", "rot90"),
        level=128,
        opening_radius_px=0,
        min_area_px=0,
        watershed=None,
        metric="dice",
    )
    write_recipe_folder(tmp_path / "recipe", recipe, [weights])
    return RecipePredictor.open(recipe, [weights], choose_compute("cpu", "auto"))


def test_a_champion_follows_a_project_that_moved(recipe, make_store, tmp_path, python_environment):
    """Registered, moved with the whole folder, and applied by its name."""
    store = make_store(tmp_path / "before" / "mlruns")
    for name, pixel_size_nm in CHAMPIONS.items():
        run = open_run(store, Identity("promote", {}, {}, structure="vesicles", dataset=name))
        with run:
            model = register_champion(
                run,
                tmp_path / "recipe",
                structure="vesicles",
                dataset_name=name,
                pixel_size_nm=pixel_size_nm,
                packages=(),
                plugins=(),
                scores={"val/dice": 0.5},
                tags={"bench.dataset": "d"},
                description="words",
                card="# Its card\n",
            )
        set_champion(store, model)
        assert find_champion(store, "vesicles", name) == model
    (tmp_path / "before").rename(tmp_path / "after")
    home = tmp_path / "after" / "mlruns"
    assert relocate_artifacts(home / "mlflow.db", home) > 0
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    uri = f"sqlite:///{home}/mlflow.db"
    environment = dict(python_environment)
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, uri, "images.npy", *CHAMPIONS],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = segment_array(recipe, images, 5.0)
    for name in CHAMPIONS:
        with np.load(tmp_path / f"found_{name}.npz") as found:
            for part, pixels in expected.items():
                np.testing.assert_array_equal(found[part], pixels)
                assert np.ptp(pixels) > 0
