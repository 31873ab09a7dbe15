import subprocess
import sys
from dataclasses import replace

import pytest

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models import networks
from bench.models.checkpoint import build_model
from bench.models.networks import (
    GEOMETRIES,
    NETWORKS,
    Network,
    find_function,
    find_network,
    find_trainable,
    register_network,
)
from bench.words import OurNetworks

DEPTH_4 = {"depth": 4}
ANY = Network("any", dict, steps=("finetune",))
FIXED = replace(ANY, name="fixed", size_px=224)


def test_rows_hold_together():
    assert (
        list(NETWORKS)
        == list(OurNetworks)
        == [
            *("unet2d", "unet3d_planes", "unet3d", "unet3d_folds", "unet3d_anisotropic"),
            *("unet_residual", "unet_resnet50", "transunet", "nnunet", "sam"),
            *("detector_sam", "fcos_small", "fcos_resnet50"),
            *("yolov8n", "yolov8s", "yolo11n", "yolo11s"),
            *("pixel_classifier", "foundation_features"),
        ]
    )
    for name, row in NETWORKS.items():
        assert name == row.name
        assert callable(find_function(row.build))
        assert callable(find_function(row.opened_by))


def test_the_table_imports_nothing_heavy(python_environment):
    program = "import sys, bench.models.networks; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=python_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_arguments_of_a_config_build_the_network():
    row = NETWORKS["unet2d"]
    arguments = row.arguments(FinetuneConfig(features=2))
    assert arguments == {"in_channels": 1, "depth": 4, "features": 2}
    assert len(build_model(row.name, arguments | {"out_channels": 3}).state_dict()) == 46


def test_unknown_names_are_answered_with_those_known():
    with pytest.raises(
        BenchError, match="unknown network 'unet': choose one of detector_sam, fcos_"
    ):
        find_network("unet")
    with pytest.raises(BenchError, match="unknown network 'unet': choose one of"):
        find_trainable("unet", "finetune")


@pytest.mark.parametrize(
    ("name", "step", "who"),
    [
        ("sam", "finetune", "trained by microsam"),
        ("unet3d_planes", "finetune", "trained by no step"),
        ("unet2d", "microsam", "trained by finetune, domain_adapt, pretrain"),
    ],
)
def test_a_step_says_what_it_cannot_train(name, step, who):
    with pytest.raises(BenchError, match=f"{step} trains the networks .*{name}, which is {who}"):
        find_trainable(name, step)


@pytest.mark.parametrize(
    ("row", "given", "arguments", "patch"),
    [
        (NETWORKS["unet2d"], None, DEPTH_4, 256),
        (NETWORKS["unet2d"], 48, DEPTH_4, 48),
        (NETWORKS["unet2d"], 36, {"depth": 2}, 36),
        (replace(ANY, multiple=14), None, {}, 252),
        (FIXED, None, {}, 224),
        (FIXED, 224, {}, 224),
    ],
)
def test_a_patch_is_the_users_or_what_is_usual(row, given, arguments, patch):
    assert row.fit_patch(given, arguments) == patch


@pytest.mark.parametrize(
    ("row", "given", "arguments", "geometry"),
    [
        (NETWORKS["unet2d"], (None, None), DEPTH_4, (384, 64)),
        (NETWORKS["unet2d"], (32, None), DEPTH_4, (32, 64)),
        (NETWORKS["unet2d"], (None, 16), DEPTH_4, (384, 16)),
        (NETWORKS["unet2d"], (32, 0), DEPTH_4, (32, 0)),
        (replace(ANY, multiple=14), (None, None), {}, (376, 64)),
        (FIXED, (None, None), {}, (168, 28)),
        (FIXED, (200, None), {}, (200, 12)),
        (FIXED, (None, 0), {}, (224, 0)),
        (replace(FIXED, geometries=((192, 16),)), (None, None), {}, (192, 16)),
    ],
)
def test_tile_and_halo_are_the_users_or_what_is_usual(row, given, arguments, geometry):
    assert row.fit_geometry(*given, arguments) == geometry


@pytest.mark.parametrize(
    ("row", "tile", "halo", "message"),
    [
        (
            NETWORKS["unet2d"],
            100,
            0,
            r"tile_px \+ 2 halo_px must be a multiple of 16, received 100",
        ),
        (NETWORKS["unet2d"], None, 60, "must be a multiple of 16, received 504"),
        (FIXED, 256, None, "must be 224, the one size that the network fixed takes, received 256"),
        (FIXED, 101, None, "must be 224, .* received 223: leave it auto"),
        (FIXED, 224, 8, "must be 224, .* received 240"),
    ],
)
def test_a_tile_that_the_network_does_not_take(row, tile, halo, message):
    with pytest.raises(BenchError, match=message):
        row.fit_geometry(tile, halo, DEPTH_4)


def test_a_patch_that_the_network_does_not_take():
    with pytest.raises(BenchError, match="patch_px must be a multiple of 16, received 40"):
        NETWORKS["unet2d"].fit_patch(40, DEPTH_4)
    with pytest.raises(BenchError, match=r"patch_px must be 224, the one size .* received 256"):
        FIXED.fit_patch(256, {})


def test_what_may_be_chosen_fits():
    assert NETWORKS["unet2d"].choices(DEPTH_4) == GEOMETRIES
    for multiple in (1, 14, 32, 224):
        for tile, halo in replace(ANY, multiple=multiple).choices({}):
            assert (tile + 2 * halo) % multiple == 0
            assert tile > 0
    assert FIXED.choices({}) == ((168, 28),)
    planes = {"scale_factors": [[1, 2, 2], [2, 2, 2], [2, 3, 3]]}
    assert all((t + 2 * h) % 12 == 0 for t, h in NETWORKS["unet3d_planes"].choices(planes))


def test_a_network_is_registered_once(monkeypatch):
    monkeypatch.setattr(networks, "NETWORKS", dict(NETWORKS))
    register_network(ANY)
    register_network(replace(ANY))
    assert find_network("any") is ANY
    for other in (replace(ANY, multiple=2), replace(ANY, name="sam")):
        with pytest.raises(BenchError, match=f"a second one named {other.name}: rename it"):
            register_network(other)
    assert find_network("sam") is NETWORKS["sam"]
