import pytest
import torch

from bench.errors import BenchError
from bench.inference.device import (
    CHANNELS_LAST,
    CONTIGUOUS,
    Compute,
    choose_compute,
    default_precision,
)
from bench.models.unet2d import build_unet2d

OF_VOLUMES = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.InstanceNorm3d(1))
OF_BATCHES = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
UNET = build_unet2d(in_channels=1, out_channels=1, depth=1, features=2)


def test_auto_is_the_gpu_where_there_is_one():
    compute = choose_compute("auto", "fp32")
    assert compute == Compute(torch.device("cuda" if torch.cuda.is_available() else "cpu"), "fp32")


def test_auto_precision_is_resolved_to_one_that_the_cpu_computes_in():
    compute = choose_compute("cpu", "auto")
    assert compute.precision in ("fp32", "bf16")
    assert compute.precision == default_precision(torch.device("cpu"))


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"sve": True}, "fp32"),
    ],
)
def test_bf16_on_processors_that_have_units_for_it(monkeypatch, abilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert default_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cuda:-1", "tpu:0"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(BenchError, match=f"device must be .*received '{device}'") as caught:
        choose_compute(device, "auto")
    assert "\n" not in str(caught.value)


def test_fp16_needs_a_gpu():
    with pytest.raises(BenchError, match="precision fp16 needs a GPU"):
        choose_compute("cpu", "fp16")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_convolutions_run_in_the_precision(precision, dtype):
    convolution = torch.nn.Conv2d(1, 1, 3)
    with choose_compute("cpu", precision).autocast():
        assert convolution(torch.randn(1, 1, 8, 8)).dtype == dtype


@pytest.mark.parametrize(
    ("device", "layout", "network", "axes", "expected"),
    [
        ("cpu", None, UNET, 4, torch.channels_last),
        ("cpu", None, OF_VOLUMES, 5, torch.channels_last_3d),
        ("cuda", None, UNET, 4, torch.contiguous_format),
        ("cuda:1", None, OF_VOLUMES, 5, torch.contiguous_format),
        ("cuda", None, OF_BATCHES, 4, torch.channels_last),
        ("cuda", CHANNELS_LAST, UNET, 4, torch.channels_last),
        ("cpu", CONTIGUOUS, UNET, 4, torch.contiguous_format),
    ],
)
def test_the_layout_is_that_of_device_and_norms(device, layout, network, axes, expected):
    compute = Compute(torch.device(device), "fp32", layout)
    assert compute.memory_format(network, axes) == expected
