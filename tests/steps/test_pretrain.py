"""Pretraining through its step: what it leaves, goes on after a kill, and may be used for."""

import csv
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.models.checkpoint import head_tensors, load_info, load_weights
from bench.models.networks import NETWORKS
from bench.steps import pretrain as pretraining
from bench.steps.benchmark import benchmark
from bench.steps.compare import compare
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.pretrain import pretrain
from bench.steps.segment import segment
from bench.steps.training.source import resolve_source
from bench.tracking.queries import fetch_artifact, read_settings
from bench.training import loop
from bench.words import CEM500K_MOMENTS

SHORT = {
    "iterations": 24,
    "epoch_iterations": 8,
    "batch_size": 4,
    "patch_px": 32,
    "features": 4,
    "optimiser": "adam",
    "lr": 0.02,
    "device": "cpu",
    "precision": "fp32",
}
TRAINED = {"iterations": 2, "epoch_iterations": 2, "tile_px": 32, "halo_px": 16, "patch_px": 32}
TRAINED |= {"batch_size": 2, "features": 4, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def own(make_store, tmp_path_factory):
    """A store for all of this file."""
    store = make_store(tmp_path_factory.mktemp("pretrained") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        yield store


@pytest.fixture(scope="module")
def made(own, dataset):
    """Id of a pretraining on the dataset's training sections."""
    return pretrain(PretrainConfig(dataset=dataset, **SHORT), own)


def curve(store, run_id, name):
    history = store.client.get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(history, key=lambda p: p.step)]


def weights_of(store, run_id, name="best"):
    return load_weights(fetch_artifact(store, run_id, f"checkpoint/{name}.safetensors"))


def test_a_run_shows_what_it_did_and_ends_with_its_models(own, made, dataset):
    run = own.client.get_run(made)
    tags, settings = run.data.tags, read_settings(own, made)
    assert run.info.status == "FINISHED"
    assert (tags["bench.step"], tags["bench.method"]) == ("pretrain", "pretrained_unet2d")
    assert "bench.structure" not in tags
    assert tags["bench.dataset"] == PreparedDataset.open(dataset).content_hash
    # Three training sections, of which one is held out; no others.
    assert (settings["images"], settings["images_held_out"]) == ("3", "1")
    assert settings["normalisation"] == "section"
    losses = [value for _, value in curve(own, made, "train/loss")]
    assert len(losses) == 24
    # How long it took is no curve of what it learned.
    assert {name for name in run.data.metrics if name.startswith("train/")} == {
        *("train/loss", "train/lr"),
    }
    errors = dict(curve(own, made, "val/mse"))
    assert list(errors) == [8, 16, 24]
    assert errors[24] < errors[8]
    assert run.data.metrics["best/mse"] == pytest.approx(min(errors.values()))
    assert float(tags["bench.val.mean_mse"]) > 0
    assert float(tags["bench.val.view_mse"]) > 0
    rates = [rate for _, rate in curve(own, made, "train/lr")]
    assert rates[0] == pytest.approx(0.02)
    assert 0 < rates[-1] < 0.003
    folder = fetch_artifact(own, made, "checkpoint")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{suffix}" for name in ("best", "last") for suffix in ("json", "safetensors")
    }
    info = load_info(folder / "best.safetensors")
    assert (info.outputs, info.structure) == (("reconstruction",), "")
    assert info.arguments == {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 4}
    pictures = sorted(path.name for path in (folder.parent / "images").glob("*.png"))
    assert [
        f"step+{step}+" in name.replace("%", "+")
        for step, name in zip((16, 24, 8), pictures, strict=True)
    ]


def test_a_killed_run_goes_on_bit_for_bit(own, made, dataset, make_store, tmp_path, monkeypatch):
    store = make_store(tmp_path / "store")
    config, real, saved = (
        PretrainConfig(dataset=dataset, checkpoint_iterations=6, **SHORT),
        loop.save_state,
        [],
    )

    def save_and_die(path, trainee, progress):
        real(path, trainee, progress)
        saved.append(progress.iteration)
        if progress.iteration in (6, 16):
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", save_and_die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, store)
    run_id = pretrain(config, store)
    assert saved == [6, 8, 12, 16, 18, 24]
    assert len(store.client.search_runs([store.experiment_id])) == 1
    for name in ("train/loss", "train/lr", "val/mse"):
        assert curve(store, run_id, name) == curve(own, made, name)
    for name in ("best", "last"):
        one, other = weights_of(store, run_id, name), weights_of(own, made, name)
        assert all((one[key] == other[key]).all() for key in other)
    assert pretrain(config, store) == run_id
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_other_images_are_another_run_and_other_places_of_them_the_same(own, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        image = rng.integers(0, 255, (32, 32)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"i{number}.tif", image)
    short = SHORT | {"iterations": 1, "input": str(tmp_path / "images")}
    first = pretrain(PretrainConfig(**short), own)
    # Images of the size of a patch were cut out of larger ones.
    assert read_settings(own, first)["normalisation"] == "data"
    shutil.copytree(tmp_path / "images", tmp_path / "copied")
    assert pretrain(PretrainConfig(**short | {"input": str(tmp_path / "copied")}), own) == first
    tifffile.imwrite(tmp_path / "copied" / "i0.tif", image)
    other = pretrain(PretrainConfig(**short | {"input": str(tmp_path / "copied")}), own)
    assert other != first
    assert "bench.dataset" not in own.client.get_run(other).data.tags


def test_a_training_starts_from_all_but_the_head(own, made, dataset):
    source = f"runs:/{made}"
    resolved = resolve_source(own, source)
    pretrained = weights_of(own, made)
    head = {"out_conv.weight", "out_conv.bias"}
    assert head_tensors(resolved.info) == head
    assert set(pretrained) - set(resolved.weights()) == head
    still = TRAINED | {"lr": 1e-8, "iterations": 1}
    config = FinetuneConfig(dataset=dataset, method="montage_pretrained", **still)
    # The store's is found: of the dataset and the seed.
    tuned = finetune(config, own)
    tags = own.client.get_run(tuned).data.tags
    assert tags["bench.source"] == source
    assert (tags["bench.source.tensors_transferred"], tags["bench.source.tensors"]) == ("44", "46")
    assert tags["bench.reinitialised"] == "out_conv.bias, out_conv.weight"
    found = weights_of(own, tuned)
    for name in set(pretrained) - head:
        np.testing.assert_allclose(found[name], pretrained[name], atol=1e-6)
    assert not np.allclose(found["out_conv.weight"], pretrained["out_conv.weight"])
    with pytest.raises(
        BenchError,
        match=r"starts from a unet2d that was pretrained on the dataset \(seed 7\), the store has "
        "none: run pretrain with network=unet2d",
    ):
        finetune(FinetuneConfig(dataset=dataset, method="montage_pretrained", seed=7), own)


def test_a_transunet_is_pretrained_for_both_of_its_methods(own, dataset, monkeypatch):
    small = replace(NETWORKS["transunet"], arguments=lambda config: {"width": 48, "blocks": 2})
    monkeypatch.setitem(NETWORKS, "transunet", small)
    one = {"iterations": 1, "epoch_iterations": 1, "batch_size": 2, "lr": 1e-6}
    settings = SHORT | one | {"network": "transunet", "normalisation": "cem500k"}
    made = pretrain(PretrainConfig(dataset=dataset, **settings), own)
    info = load_info(fetch_artifact(own, made, "checkpoint/best.safetensors"))
    assert (info.normalisation, info.grey_scale) == ("fixed", CEM500K_MOMENTS)
    assert info.arguments == {"width": 48, "blocks": 2, "out_channels": 1}
    pretrained = weights_of(own, made)
    head = {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    assert head_tensors(info) == head
    encoder = {name for name in pretrained if name.startswith("transformer.")}
    for method, taken, normalisation in (
        ("montage_pretrained_transunet", set(pretrained) - head, "section"),
        ("retina", encoder, "fixed"),
    ):
        config = FinetuneConfig(dataset=dataset, method=method, source=f"runs:/{made}", **TRAINED)
        tuned = finetune(replace(config, iterations=1, lr=1e-8), own)
        tags = own.client.get_run(tuned).data.tags
        assert tags["bench.source.tensors_transferred"] == str(len(taken))
        assert read_settings(own, tuned)["normalisation"] == normalisation


def test_it_segments_nothing_in_one_line(own, use_store, made, dataset, tmp_path):
    use_store(own)
    before = len(own.client.search_runs([own.experiment_id]))
    refused = f"{made} pretrained one that gives images back: run finetune with source=runs:/{made}"
    with pytest.raises(BenchError, match=refused):
        evaluate(EvaluateConfig(dataset=dataset, run_id=made), own)
    with pytest.raises(BenchError, match=refused):
        segment(SegmentConfig(run_id=made, input=dataset, output=str(tmp_path / "out")))
    checkpoint = fetch_artifact(own, made, "checkpoint/best.safetensors")
    for source in (f"runs:/{made}", str(checkpoint)):
        message = f"a model must segment, source {source} was pretrained"
        with pytest.raises(BenchError, match=message):
            evaluate(
                EvaluateConfig(
                    dataset=dataset, method="unadapted", structure="mito", source=source
                ),
                own,
            )
        with pytest.raises(BenchError, match=message):
            domain_adapt(DomainAdaptConfig(dataset=dataset, source=source), own)
    assert len(own.client.search_runs([own.experiment_id])) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "sam"}, "network must be one that pretrain can train .*unet2d.* received sam"),
        ({"network": "unet3d"}, "one that pretrain can train .* received unet3d"),
        ({"network": "unet"}, "unknown network 'unet'"),
        ({"patch_px": 40}, "patch_px must be a multiple of 16, received 40"),
        ({"patch_px": 128}, r"as large as a patch \(patch_px=128\), received .*: lower patch_px"),
        ({"splits": "trian"}, r"unknown split 'trian'"),
        ({"dataset": "none"}, "needs images, received input=none and dataset=none: give input="),
        ({"dataset": "nowhere"}, "nowhere must be a prepared dataset"),
        ({"input": "nowhere"}, "input must be an image"),
    ],
)
def test_what_does_not_fit_is_one_line_before_a_run_is_opened(own, dataset, settings, message):
    before = len(own.client.search_runs([own.experiment_id]))
    with pytest.raises(BenchError, match=message):
        pretrain(PretrainConfig(**{"dataset": dataset, **SHORT} | settings), own)
    assert len(own.client.search_runs([own.experiment_id])) == before


def test_a_network_that_learns_nothing_says_so(own, dataset):
    run_id = pretrain(PretrainConfig(dataset=dataset, **SHORT | {"lr": 1e-8}), own)
    warning = own.client.get_run(run_id).data.tags["bench.warning"]
    assert "nothing was learned: the error on held-out images" in warning


def test_in_a_benchmark_it_is_made_once_for_all_structures(
    make_store, use_store, dataset, tmp_path, caplog
):
    store = use_store(make_store(tmp_path / "store"))
    config = BenchmarkConfig(
        **TRAINED,
        dataset=dataset,
        methods="montage_pretrained",
        structures="mito,vesicles",
        seeds="0",
        split="val",
        optimize=False,
        pretrain="iterations=2,epoch_iterations=2,batch_size=2,patch_px=32",
        output=str(tmp_path / "out"),
    )
    with caplog.at_level(logging.INFO):
        benchmark(config)
    assert "plan: 2 cells (2 structures): 3 trainings" in caplog.text
    runs = store.client.search_runs([store.experiment_id])
    steps = [run.data.tags["bench.step"] for run in runs]
    assert steps.count("pretrain") == 1
    assert steps.count("finetune") == 2
    (made,) = [run for run in runs if run.data.tags["bench.step"] == "pretrain"]
    assert made.data.tags["mlflow.parentRunId"]
    sources = [run.data.tags.get("bench.source") for run in runs]
    assert sources.count(f"runs:/{made.info.run_id}") == 2
    with (tmp_path / "out" / "benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"montage_pretrained"}
    assert all(float(row["dice"]) >= 0 for row in rows)
    # Its time is part of what the row cost.
    tuned = {row["structure"]: row for row in rows if row["method"] == "montage_pretrained"}
    took = float(made.data.tags["bench.train_seconds"])
    assert all(float(row["train_seconds"]) >= took for row in tuned.values())
    with pytest.raises(BenchError, match="pretrained one that gives images back"):
        optimize(
            OptimizeConfig(
                dataset=dataset,
                structure="mito",
                runs=made.info.run_id,
                output=str(tmp_path / "best"),
            )
        )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        benchmark(config)
    assert "3 trainings, 3 of them finished before" in caplog.text
    again = store.client.search_runs([store.experiment_id])
    assert len(again) == len(runs) + 2
    compare(CompareConfig(dataset=dataset, split="val", output=str(tmp_path / "table")))
    assert "pretrained_unet2d" not in (tmp_path / "table" / "benchmark.csv").read_text()


def test_a_benchmark_checks_settings_of_its_pretraining_first(own, use_store, dataset):
    use_store(own)
    before = len(own.client.search_runs([own.experiment_id]))
    config = {"dataset": dataset, "methods": "montage_pretrained", "seeds": "0"}
    for text, message in (
        ("patch_px=40", "patch_px must be a multiple of 16"),
        ("iteration=4", "unknown setting of PretrainConfig 'iteration'"),
    ):
        with pytest.raises(BenchError, match=message):
            benchmark(BenchmarkConfig(**config, pretrain=text))
    assert len(own.client.search_runs([own.experiment_id])) == before


def test_splits_are_those_that_somebody_names():
    task = PretrainConfig()
    assert pretraining._choose_splits(task) == ("train", "unlabelled")
    named = PretrainConfig(splits="train, test")
    assert pretraining._choose_splits(named) == ("train", "test")
