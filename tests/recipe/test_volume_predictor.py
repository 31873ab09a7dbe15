"""Recipes of models of sections and of volumes, applied to a volume, against their maps by hand."""

import numpy as np
import pytest
import torch

from bench.core.hashing import file_sha256
from bench.inference.blends import Blend
from bench.inference.device import Compute
from bench.inference.kept_levels import KeptLevels
from bench.inference.prediction import SectionPrediction, open_predictor
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import Recipe, RecipeMember, VolumeSettings
from bench.recipe.volume_predictor import VolumePredictor

CPU = Compute(torch.device("cpu"), "fp32")
VOXELS = (2.2, 2.2, 2.2)
SHAPE = (12, 24, 28)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two networks of volumes and one of sections, with random weights."""
    folder, found = tmp_path_factory.mktemp("weights"), []
    for seed in range(3):
        torch.manual_seed(seed)
        of_volumes = seed < 2
        arguments = {"in_channels": 1, "out_channels": 1, "features": 2}
        arguments["depth"] = 2 if of_volumes else 4
        architecture = "unet3d" if of_volumes else "unet2d"
        network = build_model(architecture, arguments)
        planes = {"tile_planes": 16, "halo_planes": 4, "input_section_nm": 2.2}
        info = ModelInfo(
            *(architecture, arguments, ("foreground",), "vesicles", 2.2),
            *("volume" if of_volumes else "section", 16, 8),
            **(planes if of_volumes else {}),
        )
        with torch.no_grad():
            (network.out if of_volumes else network.out_conv).weight.mul_(40)
        found.append(folder / f"{seed}.safetensors")
        save_checkpoint(found[-1], network.eval(), info)
    return found


def make_predictor(weights, numbers, ensemble="mean", shares=None, augmentations=("identity",)):
    chosen = [weights[number] for number in numbers]
    members = tuple(
        RecipeMember(f"m{number}", "unet3d", 0, "", "file", "", file_sha256(weights[number]))
        for number in numbers
    )
    recipe = Recipe(
        structure="vesicles",
        dataset="",
        pixel_size_nm=2.2,
        rescale=True,
        members=members,
        level=128,
        opening_radius_px=0,
        min_area_px=0,
        watershed=None,
        ensemble=ensemble,
        weights=shares or (1,) * len(numbers),
        augmentations=augmentations,
        volume=VolumeSettings(2.2),
    )
    return VolumePredictor(RecipePredictor.open(recipe, chosen, CPU), chosen, CPU)


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.int16)


def predict_by_hand(path, raw):
    network, info = load_checkpoint(path)
    if info.architecture == "unet2d":
        predict, _ = open_predictor(path, CPU, "vesicles")
        return np.stack([predict(plane, 2.2).foreground for plane in raw])
    found = np.zeros(raw.shape, np.uint8)

    def write(start, levels):
        found[start : start + len(levels)] = levels

    predict_volume(
        *(network, info, CPU),
        read_planes=lambda start, stop: raw[start:stop],
        shape=raw.shape,
        voxel_size_nm=VOXELS,
        write_planes=write,
    )
    return found


def predict(predictor, raw, folder):
    steps = []
    found = predictor.predict(
        lambda start, stop: raw[start:stop], raw.shape, VOXELS, folder, steps.append
    )
    assert sum(steps) == predictor.count_steps(raw.shape)
    return np.array(found.foreground)


@pytest.mark.parametrize(
    ("numbers", "ensemble", "shares"),
    [
        ((0,), "mean", (1,)),
        ((2,), "mean", (1,)),
        ((0, 1), "maximum", (1, 1)),
        ((0, 2), "mean", (2, 1)),
        ((0, 1, 2), "vote", (1, 1, 1)),
    ],
)
def test_maps_are_made_one_as_by_hand(weights, raw, tmp_path, numbers, ensemble, shares):
    predictor = make_predictor(weights, numbers, ensemble, shares)
    found = predict(predictor, raw, tmp_path)
    maps = [[SectionPrediction(predict_by_hand(weights[number], raw))] for number in numbers]
    blend = Blend(tuple(map(str, numbers)), ensemble=ensemble, weights=shares)
    np.testing.assert_array_equal(found, blend.apply(maps).foreground)
    assert found.std() > 3


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("killed_after", [1, 2, 3, 9])
def test_an_ensemble_that_was_killed_goes_on(weights, raw, tmp_path, monkeypatch, killed_after):
    predictor = make_predictor(weights, (0, 2))
    whole = predict(predictor, raw, tmp_path / "whole")
    append, done = KeptLevels.append, []

    def dying(kept, number, levels):
        append(kept, number, levels)
        done.append(len(levels))
        if len(done) == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(KeptLevels, "append", dying)
        with pytest.raises(Killed):
            predict(predictor, raw, tmp_path / "killed")

    def counting(kept, number, levels):
        append(kept, number, levels)
        done.append(len(levels))

    monkeypatch.setattr(KeptLevels, "append", counting)
    again = make_predictor(weights, (0, 2))
    np.testing.assert_array_equal(predict(again, raw, tmp_path / "killed"), whole)
    # What the network of volumes is fed, its map, and the blend: each plane once.
    assert sum(done) == 3 * SHAPE[0]


@pytest.mark.parametrize("numbers", [(0,), (0, 2)])
def test_symmetries_are_of_the_planes(weights, raw, tmp_path, numbers):
    """Each model's map of the mirrored or turned volume, mirrored or turned back, in the mean."""
    names = ("identity", "flip_y", "rot90")
    predictor = make_predictor(weights, numbers, augmentations=names)
    predictor.check(SHAPE, VOXELS)
    by_hand = {
        "identity": (lambda image: image, lambda image: image),
        "flip_y": (lambda image: image[:, ::-1], lambda image: image[:, ::-1]),
        "rot90": (
            lambda image: image.transpose(0, 2, 1)[:, ::-1],
            lambda image: image[:, ::-1].transpose(0, 2, 1),
        ),
    }
    maps = []
    for number in numbers:
        for there, back in by_hand.values():
            seen = np.ascontiguousarray(there(raw))
            maps.append(back(predict_by_hand(weights[number], seen)).astype(np.float64))
    assert any(np.abs(each - maps[0]).max() > 1 for each in maps[1:3])
    found = predict(predictor, raw, tmp_path)
    np.testing.assert_array_equal(found, np.floor(np.mean(maps, axis=0) + 0.5))
    # Begun with another symmetry finished, it goes on from there.
    np.testing.assert_array_equal(predict(predictor, raw, tmp_path), found)
