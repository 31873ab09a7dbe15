"""A prediction of a volume that was killed goes on where it stopped, to the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.inference import volumes
from bench.inference.device import Compute
from bench.inference.kept_levels import KeptLevels
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo, build_model

CPU = Compute(torch.device("cpu"), "fp32")
STREAMED = ModelInfo(
    *("unet3d", {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}),
    *(("foreground",), "vesicles", 2.2, "volume", 16, 4),
    **{"tile_planes": 16, "halo_planes": 4, "input_section_nm": 2.2},
)
WINDOWED = replace(
    STREAMED,
    architecture="unet3d_anisotropic",
    arguments={
        **{"in_channels": 1, "out_channels": 1, "features": 2},
        "scale_factors": [[1, 2, 2], [2, 2, 2]],
    },
    **{"tile_planes": 8, "halo_planes": 2},
)


class Killed(BaseException):
    """What no part of the prediction catches."""


def make_network(info):
    torch.manual_seed(1)
    network = build_model(info.architecture, info.arguments)
    with torch.no_grad():
        for _ in range(2):
            network.train()(2 * torch.randn(2, 1, 16, 16, 16) + 1)
        network.eval()
        (network.out if info is STREAMED else network.out_conv).weight.mul_(90)
    return network


def predict(info, raw, keep, voxel_nm=2.2):
    found = np.zeros(raw.shape, np.uint8)

    def write(start, levels):
        found[start : start + len(levels)] = levels

    predict_volume(
        *(make_network(info), info, CPU),
        read_planes=lambda start, stop: raw[start:stop],
        shape=raw.shape,
        voxel_size_nm=(voxel_nm,) * 3,
        write_planes=write,
        keep=keep,
    )
    return found


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(volumes, "_SLAB_VOXELS", {"cpu": 4 * 24 * 24})


@pytest.fixture
def kill_after(monkeypatch):
    """Lets a process end after it has kept so many parts; the next one is half written."""
    append = KeptLevels.append

    def arrange(number):
        done = []

        def dying(kept, block, levels):
            if len(done) == number:
                kept.folder.mkdir(exist_ok=True)
                with kept._file(block).open("ab") as file:
                    file.write(b"torn")
                raise Killed
            done.append(len(levels))
            append(kept, block, levels)

        monkeypatch.setattr(KeptLevels, "append", dying)
        return done

    return arrange


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("case", ["streamed", "blocks", "windows", "resampled"])
@pytest.mark.parametrize("killed_after", [1, 7])
def test_it_goes_on_to_the_same_bits(case, killed_after, tmp_path, monkeypatch, kill_after):
    if case == "blocks":
        monkeypatch.setattr(volumes, "_WAITING_BYTES", {"cpu": 16 * 24 * 4 * 32 * 4})
    info = WINDOWED if case == "windows" else STREAMED
    depth = 100 if case != "blocks" else 44
    raw = np.random.default_rng(0).normal(10, 3, (depth, 24, 24)).astype(np.float32)
    voxel_nm = 2.0 if case == "resampled" else 2.2
    whole = predict(info, raw, None, voxel_nm)
    assert whole.std() > 10
    done = kill_after(killed_after)
    with pytest.raises(Killed):
        predict(info, raw, tmp_path / "kept", voxel_nm)
    assert len(done) == killed_after
    rest = kill_after(10**6)
    np.testing.assert_array_equal(predict(info, raw, tmp_path / "kept", voxel_nm), whole)
    blocks = 4 if case == "blocks" else 1
    # Each plane of a block is kept once.
    fed = round(depth / 1.1) if case == "resampled" else depth
    assert sum(done) + sum(rest) == blocks * fed


def test_a_finished_prediction_is_not_repeated(tmp_path, monkeypatch):
    raw = np.random.default_rng(0).normal(10, 3, (12, 24, 24)).astype(np.float32)
    whole = predict(STREAMED, raw, tmp_path / "kept")
    monkeypatch.setattr(volumes, "_predict_block", None)
    np.testing.assert_array_equal(predict(STREAMED, raw, tmp_path / "kept"), whole)
