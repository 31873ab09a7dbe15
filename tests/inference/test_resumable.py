from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference import resumable, tiles
from bench.inference.device import Compute
from bench.inference.prediction import SectionPrediction, open_predictor
from bench.inference.resumable import count_steps, open_resumable
from bench.inference.tile_store import finished_tiles
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    load_checkpoint,
    load_info,
    save_checkpoint,
)

CPU = Compute(torch.device("cpu"), "fp32")


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model with a boundary, trained at 5 nm, with tiles of 32 px."""
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 2, "features": 4}
    torch.manual_seed(0)
    network = build_model("unet2d", arguments)
    outputs = ("foreground", "boundary")
    info = ModelInfo("unet2d", arguments, outputs, "vesicles", 5.0, "section", 32, 16)
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_checkpoint(path, network, info)
    return path


def section(shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("pixel_size_nm", [None, 5.0, 9.0, 3.0])
@pytest.mark.parametrize("shape", [(100, 131), (64, 64), (20, 200), (1, 40)])
def test_the_result_is_that_of_the_whole_section(model, tmp_path, shape, pixel_size_nm):
    raw, steps = section(shape), []
    expected = open_predictor(model, CPU, "vesicles")[0](raw, pixel_size_nm)
    found = open_resumable(model, CPU, "vesicles")(raw, pixel_size_nm, tmp_path, steps.append)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)
    assert sum(steps) == count_steps(load_info(model), shape, pixel_size_nm)
    if min(shape) > 20:
        assert np.ptp(found.foreground) > 0


@pytest.mark.parametrize("batches", [0, 1, 4])
@pytest.mark.parametrize("when", ["before a write", "before a flag"])
def test_a_killed_prediction_goes_on(model, tmp_path, monkeypatch, batches, when):
    """Of 30 tiles some are finished; the others are predicted, each once."""
    raw, steps = section((150, 180)), []
    expected = open_predictor(model, CPU, "vesicles")[0](raw, 5.0)
    calls = []

    def count(network, tiles, *others, **named):
        calls.append(tiles)
        return start_tiles(network, tiles, *others, **named)

    def die(store, first, batch, probability):
        if len(calls) > batches:
            if when == "before a flag":
                y, x = batch[0]
                store.probability[:, y : y + 5, x : x + 5] = 77
            raise KilledError
        write(store, first, batch, probability)

    start_tiles, write = tiles.start_tiles, resumable.TileStore.write
    monkeypatch.setattr(tiles, "start_tiles", count)
    monkeypatch.setattr(resumable.TileStore, "write", die)
    with pytest.raises(KilledError):
        open_resumable(model, CPU, "vesicles")(raw, 5.0, tmp_path, steps.append)
    monkeypatch.setattr(resumable.TileStore, "write", write)
    before = len(calls)
    found = open_resumable(model, CPU, "vesicles")(raw, 5.0, tmp_path, steps.append)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)
    assert len(calls) - before == 30 - batches


def test_batches_predicted_apart_are_the_whole(model, tmp_path, monkeypatch):
    """Three processes do some of 30 tiles each, a batch on a CPU; none is left, or done twice."""
    raw, calls, steps = section((150, 180)), [], []
    expected = open_predictor(model, CPU, "vesicles")[0](raw, 5.0)
    start_tiles = tiles.start_tiles

    def count(network, given, *others, **named):
        calls.append(len(given))
        return start_tiles(network, given, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", count)
    for batches, done in ((slice(3, 6), 3), (slice(4, 8), 5), (slice(0, 2), 7)):
        apart = open_resumable(model, CPU, "vesicles")
        apart.predict_tiles(raw, 5.0, tmp_path, lambda more: None, batches)
        assert sum(calls) == len(finished_tiles(tmp_path)) == done
    found = open_resumable(model, CPU, "vesicles")(raw, 5.0, tmp_path, steps.append)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    np.testing.assert_array_equal(found.boundary, expected.boundary)
    assert calls == [1] * 30
    assert steps == [7] + [1] * 23


def test_a_finished_prediction_is_only_read(model, tmp_path, monkeypatch):
    raw, steps = section((70, 70)), []
    first = open_resumable(model, CPU, "vesicles")(raw, None, tmp_path, steps.append)
    monkeypatch.setattr(tiles, "start_tiles", None)
    again = open_resumable(model, CPU, "vesicles")(raw, None, tmp_path, steps.append)
    np.testing.assert_array_equal(first.foreground, again.foreground)
    assert steps[-1] == 9


def test_a_normalisation_that_is_not_known_is_refused(model, monkeypatch):
    """Of a later version, or a laboratory's: what is computed without it would be wrong."""
    network, info = load_checkpoint(model)
    other = model.with_name("other.safetensors")
    save_checkpoint(other, network, replace(info, normalisation="dataset"))
    for opened in (open_resumable, open_predictor):
        with pytest.raises(
            BenchError, match="unknown normalisation 'dataset': choose one of fixed, sect"
        ):
            opened(other, CPU, "vesicles")


def test_instances_of_the_model_itself_are_passed_on(model, tmp_path, monkeypatch):
    """What finds instances is given the whole section and its pixel size, and no tiles of ours."""
    info = replace(load_info(model), architecture="sam")
    given, steps = [], []

    def predict(raw, pixel_size_nm):
        given.append((raw.shape, pixel_size_nm))
        return SectionPrediction(raw, None, (raw > 100).astype(np.int32))

    monkeypatch.setattr(resumable, "load_info", lambda path: info)
    monkeypatch.setattr(resumable, "open_predictor", lambda *_: (predict, info))
    raw = section((90, 80))
    found = open_resumable(model, CPU, "vesicles")(raw, 4.0, tmp_path / "tiles", steps.append)
    assert given == [((90, 80), 4.0)]
    np.testing.assert_array_equal(found.instances, raw > 100)
    assert sum(steps) == count_steps(info, (90, 80), 4.0) == 1
    assert not (tmp_path / "tiles").exists()
