from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.inference import tiles
from bench.inference.blends import mean_prediction, predict_augmented
from bench.inference.device import Compute
from bench.inference.prediction import SectionPrediction, open_predictor, predict_one_by_one
from bench.inference.symmetries import SYMMETRIES
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint

CPU = Compute(torch.device("cpu"), "fp32")
ARGUMENTS = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 4}
INFO = ModelInfo(
    "unet2d", ARGUMENTS, ("foreground", "boundary"), "mitochondria", 5.0, "section", 32, 16
)


@pytest.fixture
def open_model(tmp_path):
    def open_as(**changes):
        torch.manual_seed(0)
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, build_model("unet2d", ARGUMENTS), replace(INFO, **changes))
        return open_predictor(path, CPU, "mitochondria")[0]

    return open_as


def random_section(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def record_tiles(monkeypatch):
    """Keeps the batches of tiles that are fed to the network."""
    batches = []
    original = tiles.start_tiles

    def record(network, batch, *others, **named):
        batches.append([pixels.copy() for pixels in batch])
        return original(network, batch, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", record)
    return batches


@pytest.mark.parametrize("shape", [(50, 75), (64, 64), (20, 30), (1, 40)])
@pytest.mark.parametrize("section_nm", [None, 5.0, 3.0])
def test_an_augmentation_is_the_prediction_of_the_transformed_section_alone(
    open_model, record_tiles, shape, section_nm
):
    """The network's InstanceNorm sees the tile: it is fed the very same tiles, bit for bit."""
    predict = open_model()
    raw = random_section(shape)
    names = tuple(SYMMETRIES)
    found = dict(predict_augmented(predict, raw, section_nm, names))
    assert tuple(found) == names
    fed = np.concatenate(record_tiles)
    record_tiles.clear()
    for name, symmetry in SYMMETRIES.items():
        alone = predict(np.ascontiguousarray(symmetry.forward(raw)), section_nm)
        assert_same_level(symmetry.forward(found[name].foreground), alone.foreground)
        assert_same_level(symmetry.forward(found[name].boundary), alone.boundary)
    np.testing.assert_array_equal(fed, np.concatenate(record_tiles))
    if min(shape) > 1:
        assert len({maps.foreground.tobytes() for maps in found.values()}) == 8


def assert_same_level(found, expected):
    """Convolutions of another number of tiles differ in their last bits, so levels by one."""
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_a_section_is_not_read_before_it_is_needed(open_model):
    """Memory does not grow with the number of symmetries: tiles are cut as batches need them."""
    predict = open_model()
    read = []

    def sections():
        for number in range(8):
            read.append(number)
            yield random_section((64, 64), number)

    for done, _ in enumerate(predict.predict_all(sections(), None), start=1):
        assert len(read) <= done + 1


def test_tiles_of_small_sections_share_batches(open_model, record_tiles, monkeypatch):
    """As on a GPU; a CPU is given a tile at a time."""
    monkeypatch.setattr(tiles, "fit_batch", lambda compute, edge: 4)
    maps = predict_augmented(open_model(), random_section((20, 32)), None, tuple(SYMMETRIES))
    assert len(list(maps)) == 8
    assert [len(batch) for batch in record_tiles] == [4, 4]


def test_the_mean_worked_by_hand():
    maps = [SectionPrediction(np.array([[0, 255, levels, 1]], np.uint8)) for levels in (1, 2, 4, 7)]
    # 14 / 4 = 3.5 goes up; 7 / 3 = 2.33 goes down; 3 / 2 = 1.5 goes up.
    for count, mean in ((4, 4), (3, 2), (2, 2)):
        found = mean_prediction(iter(maps[:count]))
        np.testing.assert_array_equal(found.foreground, [[0, 255, mean, 1]])
        assert found.foreground.dtype == np.uint8
        assert found.boundary is None
    assert maps[0].foreground[0, 2] == 1


def test_the_mean_against_numpy():
    levels = np.random.default_rng(0).integers(0, 256, (2, 8, 30, 40)).astype(np.uint8)
    found = mean_prediction(SectionPrediction(f, b) for f, b in zip(*levels, strict=True))
    for stored, stack in zip((found.foreground, found.boundary), levels, strict=True):
        exact = stack.mean(axis=0)
        np.testing.assert_array_equal(stored, np.floor(exact + 0.5))


def test_a_single_prediction_is_its_own_mean():
    only = SectionPrediction(random_section((4, 5)), instances=np.ones((4, 5), np.int32))
    assert mean_prediction([only]) is only


def test_a_model_without_batches_is_augmented_too():
    predict = predict_one_by_one(lambda raw, _: SectionPrediction(raw))
    raw = random_section((6, 9))
    for _, maps in predict_augmented(predict, raw, None, tuple(SYMMETRIES)):
        np.testing.assert_array_equal(maps.foreground, raw)
