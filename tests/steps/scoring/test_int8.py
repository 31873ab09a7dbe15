"""Convolutions in eight bits: what is said of them, and what they compute."""

import importlib.metadata
import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.inference import converted, engines
from bench.inference.converted import _quantise, _with_exact_zero, read_limits, write_limits
from bench.inference.device import Compute
from bench.inference.engines import in_eight_bits, with_recorded
from bench.inference.prediction import open_predictor
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.steps.scoring.int8 import measure_limits
from bench.words import INT8, OPENVINO

CPU = Compute(torch.device("cpu"), "fp32")
LIMIT = st.floats(-1e4, 1e4, allow_nan=False)


@given(st.lists(st.tuples(LIMIT, LIMIT).map(sorted), min_size=1, max_size=5))
def test_a_record_says_limits_rounded_outwards(limits):
    version, found = read_limits(write_limits(limits, "2026.4.1"))
    assert version == "2026.4.1"
    for (low, high), (read_low, read_high) in zip(limits, found, strict=True):
        # Six digits are written.
        assert read_low == pytest.approx(low, abs=0.011, rel=1e-5)
        assert read_high == pytest.approx(high, abs=0.011, rel=1e-5)
        assert low - read_low > -0.1
        assert read_high - high > -0.1


def test_other_engines_have_no_record():
    assert read_limits("torch") is read_limits(OPENVINO) is read_limits(INT8) is None


@given(st.tuples(LIMIT, LIMIT).map(sorted))
@example([-5e-324, 0.0])
def test_zero_is_one_of_the_levels(limits):
    low, high = _with_exact_zero(*limits)
    levels = np.linspace(low, high, 256)
    step = (high - low) / 255
    assert step > 0
    assert np.abs(levels).min() < 1e-6 * step + 1e-9
    # What the range loses at an end is half of a level.
    for end in limits:
        assert low - 0.51 * step <= end or end >= 0
        assert end <= high + 0.51 * step


@pytest.fixture
def install(monkeypatch):
    """Pretends that a version of OpenVINO is installed."""

    def pretend(version):
        monkeypatch.setattr(engines, "_is_installed", lambda: True)
        monkeypatch.setattr(importlib.metadata, "version", lambda package: version)

    return pretend


def test_limits_of_another_version_are_not_taken(install, caplog):
    install("2027.1")
    record = write_limits([(0, 1)], "2026.4.1")
    with caplog.at_level(logging.WARNING):
        assert with_recorded(CPU, record) == CPU
    assert "evaluated with openvino_int8, applied with torch" in caplog.text
    assert "2026.4.1, installed is 2027.1: evaluate the model again" in caplog.text
    install("2026.4.1")
    assert with_recorded(CPU, record).engine == record


def test_a_network_without_finite_values_is_refused():
    broken = SimpleNamespace(limits=[(0.0, 1.0), (math.nan, math.inf)])
    with pytest.raises(BenchError, match="must have finite values in the network"):
        in_eight_bits(CPU, broken)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network wide enough for eight bits, and sections of smooth noise."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 16}
    info = ModelInfo("unet2d", arguments, ("foreground",), "vesicles", None, "section", 64, 16)
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_checkpoint(path, build_model("unet2d", arguments), info)
    random = np.random.default_rng(0)
    return path, [random.integers(0, 256, (70, 91)).astype(np.uint8) for _ in range(2)]


@pytest.mark.usefixtures("needs_openvino")
def test_inner_convolutions_compute_in_eight_bits(model):
    path, sections = model
    chosen = measure_limits(CPU, path, sections, None)
    network, info = load_checkpoint(path)
    openvino_model = converted._to_openvino(network.eval(), info, chosen)
    count = sum(node.get_type_name() == "Convolution" for node in openvino_model.get_ordered_ops())
    _, limits = read_limits(chosen.engine)
    assert len(limits) == count
    _quantise(openvino_model, limits)
    compiled = converted._compile(openvino_model, chosen)
    precisions = [
        node.get_rt_info()["runtimePrecision"]
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"] == "Convolution"
    ]
    assert sum(each in ("u8", "i8") for each in precisions) == count - 2
    assert sum(each == "f32" for each in precisions) == 2


@pytest.mark.usefixtures("needs_openvino")
def test_maps_are_nearly_those_of_single_precision(model):
    path, sections = model
    chosen = measure_limits(CPU, path, sections, None)
    ways = (replace(CPU, engine=OPENVINO), chosen)
    before, after = (
        open_predictor(path, way, "vesicles")[0](sections[0], None).foreground.astype(int)
        for way in ways
    )
    assert np.ptp(before) > 20
    assert 0 < np.abs(before - after).mean() < 2


@pytest.mark.usefixtures("needs_openvino")
def test_limits_are_what_enters_the_convolutions(model):
    """Beside torch's own hooks."""
    path, _ = model
    network, info = load_checkpoint(path)
    network = network.eval()
    watched = converted.convert_watched(network, info, CPU)
    tile = torch.randn(1, 1, 96, 96)
    found = []
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(
                lambda _, entering, __: found.append((entering[0].min(), entering[0].max()))
            )
    with torch.no_grad():
        expected = network(tile)
    assert torch.allclose(watched(tile), expected, atol=1e-3)
    ours, theirs = sorted(watched.limits), sorted((float(a), float(b)) for a, b in found)
    assert np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.usefixtures("needs_openvino")
def test_limits_of_another_network_are_refused(model):
    path, _ = model
    network, info = load_checkpoint(path)
    openvino_model = converted._to_openvino(network.eval(), info, CPU)
    with pytest.raises(BenchError, match=r"received 3 of \d+: evaluate the model again"):
        _quantise(openvino_model, [(0, 1)] * 3)
