"""Networks of sections on isotropic volumes, along z, y and x: against planes one by one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.core.hashing import file_sha256
from bench.core.version import without_prose
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.recipe import orthoplanes
from bench.recipe.orthoplanes import Orthoplanes, check_orthoplanes, join_probabilities
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import (
    Recipe,
    RecipeMember,
    VolumeSettings,
    read_recipe,
    recipe_to_json,
)
from bench.recipe.volume_predictor import VolumePredictor

CPU = Compute(torch.device("cpu"), "fp32")
SHAPE = (18, 21, 26)
CUBES = (5.0, 5.0, 5.0)
PLAIN = ("identity",)


def describe(outputs=("foreground",), architecture="unet2d", pixel_size_nm=5.0):
    arguments = {"in_channels": 1, "out_channels": len(outputs), "depth": 4, "features": 2}
    return ModelInfo(
        *(architecture, arguments, outputs, "mitochondria", pixel_size_nm, "section", 16, 8)
    )


def write_model(path, info, seed=0, bias=None):
    torch.manual_seed(seed)
    network = build_model(info.architecture, info.arguments)
    with torch.no_grad():
        network.out_conv.weight.mul_(0 if bias is not None else 40)
        if bias is not None:
            network.out_conv.bias.fill_(bias)
    save_checkpoint(path, network.eval(), info)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A network with a boundary, and one at half the pixel size."""
    folder = tmp_path_factory.mktemp("models")
    with_boundary = describe(("foreground", "boundary"))
    return (
        write_model(folder / "a.safetensors", with_boundary),
        write_model(folder / "b.safetensors", describe(pixel_size_nm=10.0), seed=1),
    )


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)


def predict(path, raw, folder, rule="mean", size_nm=5.0):
    model, steps = Orthoplanes(path, CPU, "mitochondria", rule), []
    parts = model.predict(
        lambda start, stop: raw[start:stop], raw.shape, size_nm, folder, steps.append
    )
    found = list(parts)
    assert sum(steps) == sum(raw.shape)
    starts = np.cumsum([0, *(len(planes) for _, planes in found)])
    assert [start for start, _ in found] == starts[:-1].tolist()
    planes = [plane for _, some in found for plane in some]
    edges = [plane.boundary for plane in planes if plane.boundary is not None]
    assert len(edges) in (0, len(planes))
    return np.stack([plane.foreground for plane in planes]), np.stack(edges) if edges else None


def test_known_answer_of_three_planes_just_above_one_half():
    planes = [np.full((2, 2), 0.505, np.float32)] * 3
    published, mean = (join_probabilities(planes, rule) for rule in ("published", "mean"))
    assert (published == 126).all()
    assert (mean == 129).all()
    # Foreground is above 127, or from level 128 on.
    ends = [np.array([0.0, 1.0], np.float32)] * 3
    for rule in ("published", "mean"):
        assert join_probabilities(ends, rule).tolist() == [0, 255]


@pytest.mark.parametrize("seed", range(3))
def test_rules_equal_their_definition(seed):
    along = np.random.default_rng(seed).random((3, 50)).astype(np.float32)
    mean, published = (join_probabilities(along, rule) for rule in ("mean", "published"))
    assert np.abs(mean - 255 * along.astype(np.float64).mean(axis=0)).max() <= 0.5 + 1e-4
    by_hand = [sum(int(255 * float(p) / 3) for p in column) for column in along.T]
    assert np.abs(published.astype(int) - by_hand).max() == 0
    assert (published <= mean).all()


def test_the_known_answer_comes_of_a_network(tmp_path, raw):
    bias = float(np.log(0.505 / 0.495))
    path = write_model(tmp_path / "constant.safetensors", describe(), bias=bias)
    assert (predict(path, raw, tmp_path / "a", "published")[0] == 126).all()
    assert (predict(path, raw, tmp_path / "b", "mean")[0] == 129).all()


@pytest.mark.parametrize("number", [0, 1])
def test_maps_are_the_mean_of_planes_one_by_one(models, raw, tmp_path, number):
    one_by_one, _ = open_predictor(models[number], CPU, "mitochondria")
    along = []
    for axis in range(3):
        maps = [one_by_one(plane, 5.0) for plane in np.moveaxis(raw, axis, 0)]
        along.append(np.moveaxis(np.stack([each.foreground for each in maps]), 0, axis))
    foreground, boundary = predict(models[number], raw, tmp_path)
    assert foreground.shape == SHAPE
    # What is stored of a section is rounded to a level.
    assert np.abs(foreground - np.mean(along, axis=0)).max() <= 1.01
    assert np.abs(foreground - along[0].astype(float)).max() > 20
    assert (boundary is not None) == (number == 0)


def test_a_few_planes_at_a_time_give_the_same(models, raw, tmp_path, monkeypatch):
    whole = predict(models[0], raw, tmp_path / "whole")
    monkeypatch.setattr(orthoplanes, "_BAND_BYTES", 3 * raw[0].nbytes)
    parts = predict(models[0], raw, tmp_path / "parts")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    # What was copied of the volume is gone, what was predicted is the caller's to remove.
    assert not (tmp_path / "parts" / "raw").exists()


def test_a_model_of_classes_has_them_all(raw, tmp_path):
    info = describe(("background", "mitochondria", "vesicles"))
    path = write_model(tmp_path / "classes.safetensors", replace(info, structure="mitochondria"))
    one_by_one, _ = open_predictor(path, CPU, "mitochondria")
    along = []
    for axis in range(3):
        maps = [one_by_one(plane, 5.0) for plane in np.moveaxis(raw, axis, 0)]
        stacked = np.stack([each.classes for each in maps])
        along.append(np.moveaxis(np.moveaxis(stacked, 1, 0), 1, 1 + axis))
    model = Orthoplanes(path, CPU, "mitochondria", "mean", keep_classes=True)
    parts = model.predict(
        lambda start, stop: raw[start:stop], SHAPE, 5.0, tmp_path / "along", lambda more: None
    )
    planes = [plane for _, some in parts for plane in some]
    classes = np.stack([plane.classes for plane in planes], axis=1)
    assert np.abs(classes - np.mean(along, axis=0)).max() <= 1.01
    assert (np.stack([plane.foreground for plane in planes]) == classes[1]).all()
    assert np.abs(classes.astype(int).sum(axis=0) - 255).max() <= 2
    # A segmentation keeps what it needs.
    parts = replace(model, keep_classes=False).predict(
        lambda start, stop: raw[start:stop], SHAPE, 5.0, tmp_path / "one", lambda more: None
    )
    assert next(parts)[1][0].classes is None


def make_predictor(path, planes="mean", augmentations=PLAIN):
    member = RecipeMember("m", "scratch", 0, "", "file", "", file_sha256(path))
    recipe = Recipe(
        *("mitochondria", "", 5.0, True, (member,), 128, 0, 0, None),
        augmentations=augmentations,
        volume=VolumeSettings(5.0, None, planes),
    )
    return VolumePredictor(RecipePredictor.open(recipe, [path], CPU), [path], CPU)


def apply(predictor, raw, folder):
    steps = []
    found = predictor.predict(
        lambda start, stop: raw[start:stop], raw.shape, CUBES, folder, steps.append
    )
    assert sum(steps) == predictor.count_steps(raw.shape)
    return np.array(found.foreground), np.array(found.boundary)


@pytest.mark.parametrize("stops", [[5], [20, 3, 30]])
def test_what_was_killed_goes_on_to_the_same_bits(models, raw, tmp_path, monkeypatch, stops):
    straight = apply(make_predictor(models[0]), raw, tmp_path / "straight")
    np.testing.assert_array_equal(straight[0], predict(models[0], raw, tmp_path / "plain")[0])
    predict_plane, done = orthoplanes._predict_plane, []

    def stop_after(left):
        def predict_some(*arguments):
            if left == len(done) - before:
                raise KeyboardInterrupt
            done.append(1)
            return predict_plane(*arguments)

        return predict_some

    for stop in (*stops, None):
        before = len(done)
        monkeypatch.setattr(orthoplanes, "_predict_plane", stop_after(stop))
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                apply(make_predictor(models[0]), raw, tmp_path / "pieces")
    pieces = apply(make_predictor(models[0]), raw, tmp_path / "pieces")
    for one, other in zip(straight, pieces, strict=True):
        np.testing.assert_array_equal(one, other)
    # No plane is predicted twice, however often it was stopped.
    assert len(done) == sum(SHAPE)


def test_what_cannot_be_seen_along_all_axes_is_refused(models):
    with pytest.raises(
        BenchError, match=r"voxels of 40 x 4 x 4 nm \(z, y, x\), 10 to 1: leave planes=xy"
    ):
        check_orthoplanes(describe(), (40.0, 4.0, 4.0), PLAIN)
    with pytest.raises(BenchError, match="unet3d sees volumes: leave planes=xy"):
        check_orthoplanes(describe(architecture="unet3d"), CUBES, PLAIN)
    with pytest.raises(BenchError, match="sam finds instances itself"):
        check_orthoplanes(describe(architecture="sam"), CUBES, PLAIN)
    with pytest.raises(BenchError, match="received augmentations identity, flip"):
        check_orthoplanes(describe(), CUBES, ("identity", "flip"))
    predictor = make_predictor(models[0])
    predictor.check(SHAPE, CUBES)
    with pytest.raises(BenchError, match="3 to 1"):
        predictor.check(SHAPE, (15.0, 5.0, 5.0))


def test_a_recipe_says_nothing_of_planes_along_z(models, tmp_path):
    """Recipes and runs of before there was a choice stay what they are."""
    plain, along = (make_predictor(models[0], rule).sections.recipe for rule in (None, "mean"))
    written = recipe_to_json(plain)
    assert written["volume"] == {"section_nm": 5.0, "spheres": None}
    assert without_prose(plain.volume) == {"section_nm": 5.0, "spheres": None}
    assert without_prose(along.volume)["planes"] == "mean"
    assert plain.hashes() != along.hashes()
    for recipe in (plain, along):
        (tmp_path / "recipe.json").write_text(json.dumps(recipe_to_json(recipe)))
        assert read_recipe(tmp_path / "recipe.json") == recipe
    assert "planes along z, y and x" in along.describe()
    assert "planes" not in plain.describe()
