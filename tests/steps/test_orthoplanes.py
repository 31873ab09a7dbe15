"""A section method on a volume along z, y and x: from its evaluation to a segmentation."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from bench.config.data import PrepareConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes
from bench.errors import BenchError
from bench.inference.prediction_file import read_prediction
from bench.recipe.recipe import read_recipe
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact, get_run

SHAPE = (24, 40, 36)


def write_mrc(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.voxel_size = 22.0
        file.set_volume()


@pytest.fixture(scope="module")
def volumes(make_store, tiny, tmp_path_factory):
    """Balls in cubic voxels, a network of sections trained on them, and its evaluations."""
    folder, rng = tmp_path_factory.mktemp("isotropic"), np.random.default_rng(0)
    store, dataset = make_store(folder / "store"), str(folder / "prepared")
    for split in ("train", "val", "test"):
        z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
        mask = np.zeros(SHAPE, bool)
        for centre in ((12, 11, 10), (10, 27, 26)):
            at = np.array(centre) + rng.uniform(-1, 1, 3)
            mask |= (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= 6.5**2
        raw = 100 * ndimage.gaussian_filter(mask.astype(float), 0.7) + rng.normal(0, 12, SHAPE)
        write_mrc(folder / "in" / split / "raw" / "tomo1.mrc", raw.astype(np.int16))
        write_mrc(folder / "in" / split / "vesicles" / "tomo1.mrc", mask.astype(np.int8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepare(PrepareConfig(input=str(folder / "in"), output=dataset))
    trained = finetune(
        FinetuneConfig(dataset=dataset, structure="vesicles", method="scratch", **tiny), store
    )
    wanted = EvaluateConfig(dataset=dataset, run_id=trained, device="cpu")
    runs = {
        planes: [evaluate(replace(wanted, split=s, planes=planes), store) for s in ("val", "test")]
        for planes in ("xy", "orthogonal")
    }
    return store, folder, wanted, runs


def stored_maps(volumes, run_id, split="test"):
    store, _, wanted, _ = volumes
    (volume,) = find_volumes(PreparedDataset.open(wanted.dataset), split)
    file = fetch_artifact(store, run_id, "predictions.h5")
    return np.stack([read_prediction(file, name).foreground for name in volume.sections])


def test_an_evaluation_is_of_the_mean_of_three_axes(volumes):
    store, _, _, runs = volumes
    plain, along = (runs[planes][1] for planes in ("xy", "orthogonal"))
    assert plain != along
    recipe = read_recipe(fetch_artifact(store, along, "recipe.json"))
    assert recipe.volume.planes == "mean"
    assert '"planes"' not in fetch_artifact(store, plain, "recipe.json").read_text()
    run = get_run(store, along)
    assert run.data.metrics["test/dice"] > 0.7
    assert "mean of planes along z, y and x" in run.data.tags["bench.warning"]
    one, three = stored_maps(volumes, plain), stored_maps(volumes, along)
    assert one.shape == three.shape == SHAPE
    assert not np.array_equal(one, three)


def test_a_search_and_a_segmentation_apply_it(volumes, use_store, tmp_path):
    store, folder, wanted, runs = volumes
    use_store(store)
    config = OptimizeConfig(
        dataset=wanted.dataset,
        structure="vesicles",
        planes="orthogonal",
        output=str(tmp_path / "best"),
        opening_radii_px="0",
    )
    searched = optimize(config, store)
    recipe = read_recipe(fetch_artifact(store, searched, "recipe.json"))
    assert recipe.volume.planes == "mean"
    assert recipe.members[0].evaluation == runs["orthogonal"][0]
    given = {"input": str(folder / "in/test/raw"), "device": "cpu"}
    segment(SegmentConfig(run_id=searched, output=str(tmp_path / "out"), **given), store)
    found = tifffile.imread(tmp_path / "out/probability/tomo1.tif")
    # The rows of an MRC are written from the top.
    np.testing.assert_array_equal(found[:, ::-1], stored_maps(volumes, runs["orthogonal"][1]))
    plain = SegmentConfig(run_id=searched, output=str(tmp_path / "plain"), planes="xy", **given)
    segment(plain, store)
    found = tifffile.imread(tmp_path / "plain/probability/tomo1.tif")
    np.testing.assert_array_equal(found[:, ::-1], stored_maps(volumes, runs["xy"][1]))


def test_a_search_takes_the_newest_evaluations_of_a_model(volumes, tmp_path):
    store, _, wanted, runs = volumes
    config = OptimizeConfig(
        dataset=wanted.dataset,
        structure="vesicles",
        output=str(tmp_path),
        opening_radii_px="0",
        planes="xy",
    )
    recipe = read_recipe(fetch_artifact(store, optimize(config, store), "recipe.json"))
    assert recipe.volume.planes is None
    assert recipe.members[0].evaluation == runs["xy"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scored": "sections"}, "are of volumes, received planes=orthogonal for sections"),
        ({"augmentations": "all"}, "predicted as they are, received augmentations identity, "),
        ({"segmentation": "synapse_net"}, "received segmentation=synapse_net"),
    ],
)
def test_what_cannot_be_is_told_before_a_run(volumes, settings, message):
    store, _, wanted, _ = volumes
    runs = len(store.client.search_runs([store.experiment_id]))
    with pytest.raises(BenchError, match=message) as error:
        evaluate(replace(wanted, planes="orthogonal", **settings), store)
    assert "\n" not in str(error.value)
    assert len(store.client.search_runs([store.experiment_id])) == runs
