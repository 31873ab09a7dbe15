import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute
from bench.inference.tiles import predict_sections
from bench.models.checkpoint import load_checkpoint, load_info
from bench.models.networks import GEOMETRIES, NETWORKS
from bench.steps.finetune import finetune
from bench.steps.training import choices
from bench.steps.training.choices import (
    TOLERANCE,
    Validation,
    cheapest_first,
    choose_inference,
    pick_geometry,
)
from bench.steps.training.data import TrainingData
from bench.tracking.queries import fetch_artifact

CPU = Compute(torch.device("cpu"), "fp32")
SMALL = ((16, 0), (32, 16), (64, 32))


@pytest.mark.parametrize(
    ("scores", "picked"),
    [
        ([0.5, 0.5, 0.5], 0),
        ([0.5, 0.6, 0.7], 2),
        ([0.7 - 0.9 * TOLERANCE, 0.6, 0.7], 0),
        ([0.7 - 1.1 * TOLERANCE, 0.7 - 0.9 * TOLERANCE, 0.7], 1),
        ([0.0, 0.0, 0.0], 0),
    ],
)
def test_the_cheapest_that_is_as_good_is_picked(scores, picked):
    assert pick_geometry(SMALL, scores) == SMALL[picked]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        # One tile of 512 px with a halo of 64 px is 640^2 px, four of 384 px 4 x 512^2 px.
        ([(512, 512)], ((512, 64), (512, 128), (384, 64))),
        # What is more than twice as dear is left out, but for the tile of the training.
        ([(64, 64)], ((384, 64), (512, 64))),
        ([(768, 1024), (768, 1024)], ((1024, 64), (384, 64), (512, 64), (512, 128))),
        ([(2048, 2048)], ((1024, 64), (512, 64), (384, 64), (512, 128))),
    ],
)
def test_tiles_are_tried_by_the_pixels_that_they_compute(shapes, expected):
    assert cheapest_first(GEOMETRIES, shapes) == expected
    assert cheapest_first(((224, 0),), shapes) == ((224, 0),)


@pytest.fixture
def data(pipeline):
    dataset = PreparedDataset.open(str(pipeline.dataset))
    return TrainingData.choose(dataset, "mitochondria", labelled=None, seed=0, fed_nm=None)


def fetch_checkpoint(store, run_id, name, folder):
    for suffix in (".safetensors", ".json"):
        file = fetch_artifact(store, run_id, f"checkpoint/{name}{suffix}")
        (folder / name).with_suffix(suffix).write_bytes(file.read_bytes())
    return folder / f"{name}.safetensors"


def test_every_geometry_is_scored_on_validation_alone(pipeline, data, tmp_path):
    best = fetch_checkpoint(pipeline.store, pipeline.trained, "best", tmp_path)
    stored = load_info(best)
    told = {}
    run = SimpleNamespace(
        log_text=lambda text, name: told.update({name: text}), set_tags=told.update
    )
    validation = Validation(data, data.validation(), CPU, run)
    chosen = choose_inference(best, validation, SMALL, separation=False)
    network, info = load_checkpoint(best)
    assert (info.tile_px, info.halo_px) == chosen
    before = replace(stored, tile_px=chosen[0], halo_px=chosen[1])
    assert info == before
    rows = list(csv.DictReader(told["geometry.csv"].splitlines()))
    scores = []
    for (tile, halo), row in zip(SMALL, rows, strict=True):
        both = sizes = 0
        for name in data.dataset.sections("val"):
            raw, truth = data.dataset.read_raw(name), data.dataset.read_labels(name, "mitochondria")
            (found,) = predict_sections(network, [raw], tile_px=tile, halo_px=halo, compute=CPU)
            levels = found[0]
            found = levels >= 128
            both += np.count_nonzero(found & (truth > 0))
            sizes += np.count_nonzero(found) + np.count_nonzero(truth)
        scores.append(2 * both / sizes)
        assert (int(row["tile_px"]), int(row["halo_px"])) == (tile, halo)
        assert float(row["validation_dice"]) == pytest.approx(scores[-1], abs=1e-3)
    assert len(set(scores)) > 1
    assert chosen == pick_geometry(SMALL, scores)
    assert told["bench.geometry"] == f"{chosen[0]} + {chosen[1]}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tile_px": None, "halo_px": None}, (64, 32)),
        ({"tile_px": 32, "halo_px": None}, (32, 16)),
        ({"tile_px": 32, "halo_px": 16}, (32, 16)),
    ],
)
def test_what_the_user_gives_is_not_chosen(
    pipeline, store, tiny, tmp_path, monkeypatch, given, expected
):
    row = replace(NETWORKS["unet2d"], geometries=((32, 16), (64, 32)))
    monkeypatch.setitem(NETWORKS, row.name, row)
    # A tie would go to the cheapest.
    monkeypatch.setattr(choices, "pick_geometry", lambda geometries, scores: geometries[-1])
    settings = tiny | {"iterations": 2, "epoch_iterations": 2} | given
    trained = finetune(FinetuneConfig(dataset=str(pipeline.dataset), source="random", **settings))
    for name in ("best", "last"):
        info = load_info(fetch_checkpoint(store, trained, name, tmp_path))
        assert (info.tile_px, info.halo_px) == expected


def test_the_watershed_is_chosen_on_the_very_predictions(pipeline, data, two_models, tmp_path):
    """With the chosen tile, though several were tried, and the checkpoint says both at once."""
    best = tmp_path / "best.safetensors"
    for suffix in (".safetensors", ".json"):
        best.with_suffix(suffix).write_bytes(two_models[0].with_suffix(suffix).read_bytes())
    told = {}
    run = SimpleNamespace(
        log_text=lambda text, name: told.update({name: text}), set_tags=told.update
    )
    validation = Validation(data, data.validation(), CPU, run)
    chosen = choose_inference(best, validation, SMALL, separation=True)
    both, tables = load_info(best), dict(told)
    assert (both.tile_px, both.halo_px) == chosen
    assert both.inference["watershed"]
    assert len(tables["watershed.csv"].splitlines()) > 2
    # Once more with that tile alone, which is not chosen any more.
    told.clear()
    assert choose_inference(best, validation, (chosen,), separation=True) == chosen
    assert load_info(best) == both
    assert told == {"watershed.csv": tables["watershed.csv"]}


def test_a_single_tile_needs_no_prediction(tmp_path):
    assert choose_inference(tmp_path / "none", None, ((32, 8),), separation=False) == (32, 8)
