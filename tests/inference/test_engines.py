"""OpenVINO beside torch: the same scores by other bytes, never mixed, and doing without it."""

import importlib.util
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference import engines
from bench.inference.device import Compute
from bench.inference.engines import check_engine, choose_engine, open_network, with_recorded
from bench.inference.prediction import open_predictor
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    load_checkpoint,
    load_info,
    save_checkpoint,
)
from bench.words import OPENVINO, TORCH

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def without_openvino(monkeypatch):
    """A machine without the package, whatever is installed here."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda name: None if name == OPENVINO else find(name)
    )


@pytest.fixture
def pretend(monkeypatch):
    """A machine with the package whose engine is torch's network, and takes so many seconds."""

    def make(seconds, network=None):
        monkeypatch.setattr(engines, "_is_installed", lambda: True)
        clock = iter(np.cumsum([0, *[0, 1, 0, seconds] * engines._ROUNDS])[1:])
        monkeypatch.setattr(engines.time, "process_time", lambda: next(clock))
        monkeypatch.setattr(engines, "convert", lambda own, info, compute: network or own)

    return make


def test_without_the_package_openvino_is_refused_and_auto_is_torch(
    two_models, without_openvino, caplog
):
    caplog.set_level(logging.INFO)
    assert choose_engine("auto", CPU, two_models[0]) == CPU
    assert caplog.text == ""
    with pytest.raises(BenchError, match=r"is not installed: install it .*openvino.txt") as caught:
        choose_engine(OPENVINO, CPU, two_models[0])
    assert "\n" not in str(caught.value)
    caplog.clear()
    assert with_recorded(CPU, OPENVINO) == CPU
    assert "warning: evaluated with openvino, applied with torch" in caplog.text
    assert with_recorded(CPU, None) == CPU


def test_a_gpu_is_no_place_for_it(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: "found")
    with pytest.raises(BenchError, match="computes on a CPU, the device is meta: add device=cpu"):
        check_engine(Compute(torch.device("meta"), "fp32"))


@pytest.mark.parametrize(("seconds", "expected"), [(0.8, OPENVINO), (0.95, TORCH), (3, TORCH)])
def test_auto_is_the_faster_one(two_models, pretend, seconds, expected):
    pretend(seconds)
    assert choose_engine("auto", CPU, two_models[0]).engine == expected


def test_what_says_something_else_is_not_taken(two_models, pretend):
    """A network whose computation leaves torch becomes a constant when it is converted."""
    pretend(0.1, network=lambda tile: torch.full((1, 2, 64, 64), 9.0))
    assert choose_engine("auto", CPU, two_models[0]).engine == TORCH
    pretend(0.1, network=lambda tile: torch.full((1, 2, 64, 64), 9.0))
    with pytest.raises(BenchError, match=r"unet2d differs by 0.* on a tile of noise: use engine="):
        choose_engine(OPENVINO, CPU, two_models[0])


def test_a_network_that_is_not_applied_tile_by_tile(tmp_path, pretend):
    pretend(0.1)
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 2}
    info = ModelInfo("unet3d", arguments, ("foreground",), "vesicles", 5.0, "section", 16, 4)
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, build_model("unet3d", arguments), info)
    with pytest.raises(BenchError, match=r"is for networks of sections that .* unet3d is none"):
        choose_engine(OPENVINO, CPU, path)


@pytest.mark.usefixtures("needs_openvino")
def test_maps_and_scores_are_torchs_within_a_level(two_models, tmp_path):
    """Of a network whose foreground is where sections are dark, so that there is something."""
    network, info = load_checkpoint(two_models[0])
    with torch.no_grad():
        network.out_conv.weight.mul_(-10)
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, network, info)
    raw = np.random.default_rng(0).integers(0, 256, (70, 91)).astype(np.uint8)
    ours = replace(CPU, engine=OPENVINO)
    found = [open_predictor(path, each, "vesicles")[0](raw, None) for each in (CPU, ours)]
    for name in ("foreground", "boundary"):
        by_torch, other = (getattr(each, name).astype(int) for each in found)
        assert np.ptp(by_torch) > 100
        assert np.abs(by_torch - other).max() <= 1
    masks = [each.foreground >= 128 for each in found]
    dice = 2 * np.count_nonzero(masks[0] & masks[1]) / sum(map(np.count_nonzero, masks))
    assert dice > 0.999


@pytest.mark.usefixtures("needs_openvino")
def test_the_network_is_in_the_engine(two_models):
    network = open_network(two_models[0], replace(CPU, engine=OPENVINO))
    assert not list(network.parameters())
    assert open_network(two_models[0], CPU).out_conv.weight is not None


class Unknown(torch.nn.Module):
    """Does what OpenVINO does not know."""

    def forward(self, image):
        return image * torch.linalg.eigvalsh(image[0, 0] @ image[0, 0].T).sum()


@pytest.mark.usefixtures("needs_openvino")
def test_what_openvino_does_not_know_is_one_line_and_auto_is_torch(two_models, monkeypatch):
    info = load_info(two_models[0])
    monkeypatch.setattr(engines, "load_checkpoint", lambda path: (Unknown(), info))
    with pytest.raises(BenchError, match=r"unet2d cannot be converted \(.+\): use eng") as caught:
        choose_engine(OPENVINO, CPU, two_models[0])
    assert "\n" not in str(caught.value)
    assert choose_engine("auto", CPU, two_models[0]) == CPU
