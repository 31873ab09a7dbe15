"""Training on volumes: from a tree of tomograms to a checkpoint, killed and resumed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.config.scoring import EvaluateConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes, read_volume, read_volume_labels
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction_file import read_prediction
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.recipe.scores import threshold_level
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training.finetune_task import identify_finetune, resolve_finetune
from bench.steps.training.source import resolve_source
from bench.steps.training.volumes import even_odds
from bench.tracking.queries import read_settings
from bench.tracking.runs import WARNING_TAG
from bench.training import loop

COUNTS = {"train": 2, "val": 1}
SHORT = {
    "structure": "vesicles",
    "method": "unet3d",
    "features": 4,
    # So that a short training is sure of some voxels.
    "foreground_weight": 3.0,
    "patch_px": 16,
    "batch_size": 4,
    "iterations": 60,
    "epoch_iterations": 30,
    "lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def dataset(prepare_volumes, tmp_path_factory):
    return prepare_volumes(tmp_path_factory.mktemp("volumes"), COUNTS)


@pytest.fixture(scope="module")
def trained(dataset, make_store, tmp_path_factory):
    """A store, and the id of a training in it."""
    store = make_store(tmp_path_factory.mktemp("store"))
    return store, finetune(FinetuneConfig(dataset=dataset, **SHORT), store)


def artifacts(store, run_id):
    return Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_a_network_of_volumes_learns(trained):
    store, run_id = trained
    data = store.client.get_run(run_id).data
    assert data.metrics["best/dice"] > 0.6
    history = store.client.get_metric_history(run_id, "val/dice")
    assert sorted(point.step for point in history) == [30, 60]
    settings = read_settings(store, run_id)
    assert [settings[name] for name in ("batch_size", "patch_planes")] == ["4", "16"]
    assert float(settings["validation_threshold"]) == 0.75
    assert (settings["normalisation"], settings["fed_section_nm"]) == ("volume", "2.2")
    assert settings["augmentation"] == data.tags["bench.augmentation"]
    assert settings["augmentation"].startswith("mirrors along z, y and x, noise")


def test_the_checkpoint_says_how_it_is_applied(trained, dataset):
    """Read back and applied, it is as good as it was said to be."""
    store, run_id = trained
    for name in ("best", "last"):
        network, info = load_checkpoint(artifacts(store, run_id) / f"checkpoint/{name}.safetensors")
        assert (info.architecture, info.normalisation) == ("unet3d", "volume")
        assert (info.input_pixel_size_nm, info.input_section_nm) == (2.2, 2.2)
        assert (info.tile_px, info.halo_px) == (info.tile_planes, info.halo_planes) == (64, 20)
        assert info.inference == {}
    network, info = load_checkpoint(artifacts(store, run_id) / "checkpoint/best.safetensors")
    prepared = PreparedDataset.open(dataset)
    (volume,) = find_volumes(prepared, "val")
    raw = read_volume(prepared, volume)
    labels = read_volume_labels(prepared, volume, "vesicles")
    found = np.zeros(raw.shape, np.uint8)

    def write(start, levels):
        found[start : start + len(levels)] = levels

    predict_volume(
        network,
        info,
        Compute(next(network.parameters()).device, "fp32"),
        read_planes=lambda start, stop: raw[start:stop],
        shape=raw.shape,
        voxel_size_nm=(2.2, 2.2, 2.2),
        write_planes=write,
    )
    mask = found >= threshold_level(0.75)
    dice = 2 * (mask & (labels > 0)).sum() / (mask.sum() + (labels > 0).sum())
    assert dice == pytest.approx(info.training["val_dice"], abs=1e-6)


def test_three_planes_are_shown_at_every_epoch(trained):
    store, run_id = trained
    names = [path.name for path in (artifacts(store, run_id) / "images").iterdir()]
    steps = {name.split("%")[-1] for name in names}
    assert len([name for name in names if "val" in name and name.endswith(".png")]) >= 3, steps


def test_fine_tuning_goes_on_as_its_source_was_applied(trained, dataset, tmp_path, store):
    """At the source's voxel size, smoothed as it smooths."""
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}
    info = ModelInfo(
        *("unet3d", arguments, ("foreground",), "vesicles", 2.75, "volume", 64, 20),
        inference={"smoothing_px": 1.0},
        tile_planes=64,
        halo_planes=20,
        input_section_nm=2.75,
    )
    save_checkpoint(tmp_path / "source.safetensors", build_model("unet3d", arguments), info)
    short = SHORT | {"method": "cryovesnet_finetuned", "iterations": 2, "epoch_iterations": 2}
    config = FinetuneConfig(dataset=dataset, source=str(tmp_path / "source.safetensors"), **short)
    run_id = finetune(config, store)
    _, found = load_checkpoint(artifacts(store, run_id) / "checkpoint/best.safetensors")
    assert found.inference == {"smoothing_px": 1.0}
    assert (found.input_pixel_size_nm, found.input_section_nm) == (2.75, 2.75)
    own = finetune(dataclasses.replace(config, rescale=False), store)
    _, found = load_checkpoint(artifacts(store, own) / "checkpoint/best.safetensors")
    assert (found.input_pixel_size_nm, found.input_section_nm) == (2.2, 2.2)
    with pytest.raises(BenchError, match="cryovesnet/weights/weights"):
        finetune(FinetuneConfig(dataset=dataset, **short), store)


def test_serial_sections_are_turned_and_trained_anisotropically(prepare_volumes, tmp_path, store):
    dataset = prepare_volumes(tmp_path, COUNTS, shape=(10, 40, 40), section_nm=20.0)
    short = SHORT | {"method": "unet3d_anisotropic", "iterations": 2, "epoch_iterations": 2}
    short |= {"features": 2, "batch_size": 1, "tile_px": 32, "halo_px": 16}
    run_id = finetune(FinetuneConfig(dataset=dataset, **short), store)
    data = store.client.get_run(run_id).data
    assert "turns by 90 degrees in the plane" in data.tags["bench.augmentation"]
    assert read_settings(store, run_id)["patch_planes"] == "16"
    # Ten planes are not sixteen.
    assert "has 10 x 40 x 40 voxels" in data.tags[WARNING_TAG]
    assert read_settings(store, run_id)["validation_threshold"] == "0.5"
    _, info = load_checkpoint(artifacts(store, run_id) / "checkpoint/last.safetensors")
    assert (info.input_section_nm, info.tile_planes, info.halo_planes) == (20.0, 8, 4)


def test_as_many_volumes_are_used_as_labelled_says(dataset, store):
    short = SHORT | {"iterations": 1, "epoch_iterations": 1, "labelled": 1}
    run_id = finetune(FinetuneConfig(dataset=dataset, **short), store)
    tags = store.client.get_run(run_id).data.tags
    assert tags["bench.labelled_volumes"] in ("train-tomo0", "train-tomo1")
    with pytest.raises(BenchError, match="labelled must be at most the 2 training volumes"):
        finetune(FinetuneConfig(dataset=dataset, **SHORT | {"labelled": 3}), store)


def test_sections_are_refused(prepare_volumes, tmp_path, store):
    dataset = prepare_volumes(tmp_path, COUNTS, volumes="false")
    with pytest.raises(BenchError, match=r"method unet3d .* takes volumes, received the sections"):
        finetune(FinetuneConfig(dataset=dataset, **SHORT), store)


def test_folds_are_one_model_whose_parts_saw_other_volumes(dataset, store):
    short = SHORT | {"method": "unet3d_folds", "iterations": 2, "epoch_iterations": 2, "folds": 2}
    config = FinetuneConfig(dataset=dataset, **short)
    run_id = finetune(config, store)
    network, info = load_checkpoint(artifacts(store, run_id) / "checkpoint/best.safetensors")
    assert info.arguments["folds"] == len(network.members) == 2
    first, second = (member.out.weight for member in network.members)
    assert not torch.equal(first, second)
    again = identify_finetune(resolve_finetune(config, store))
    assert again.settings["folds"] == 2
    other = dataclasses.replace(config, folds=4)
    assert identify_finetune(resolve_finetune(other, store)) != again
    with pytest.raises(BenchError, match="batch_size must be a multiple of the 3 folds"):
        finetune(dataclasses.replace(config, folds=3), store)


def test_domain_adaptation_is_not_offered(trained, dataset):
    store, run_id = trained
    config = DomainAdaptConfig(dataset=dataset, structure="vesicles", source=f"runs:/{run_id}")
    with pytest.raises(BenchError, match="unet3d"):
        domain_adapt(config, store)


def test_what_is_auto_is_the_network_s_own(dataset, store):
    config = FinetuneConfig(dataset=dataset, structure="vesicles", method="unet3d", device="cpu")
    task = resolve_finetune(config, store)
    found = task.config
    assert (found.patch_px, found.batch_size, found.lr, found.features) == (32, 50, 1e-3, 16)
    assert (found.loss, found.optimiser) == ("weighted_bce", "adam")
    assert (found.schedule, task.foreground_weight) == ("cosine", 10.0)
    assert even_odds(found.loss, task.foreground_weight) == pytest.approx(10 / 11)
    sections = dataclasses.replace(config, method="scratch")
    assert resolve_finetune(sections, store).config.batch_size == 8


def test_sections_methods_train_on_planes_of_volumes(dataset, store):
    short = SHORT | {"method": "scratch", "iterations": 2, "epoch_iterations": 2, "patch_px": 16}
    run_id = finetune(FinetuneConfig(dataset=dataset, tile_px=32, halo_px=16, **short), store)
    assert store.client.get_run(run_id).info.status == "FINISHED"


class Killed(BaseException):
    """As a kill is: nothing catches it."""


def test_a_killed_training_goes_on_bit_for_bit(dataset, make_store, tmp_path, monkeypatch):
    short = SHORT | {"iterations": 12, "epoch_iterations": 4, "checkpoint_iterations": 3}
    config = FinetuneConfig(dataset=dataset, **short)
    straight = make_store(tmp_path / "straight")
    first = finetune(config, straight)
    interrupted = make_store(tmp_path / "interrupted")
    steps, take = [], loop.train_batch

    def stop(*arguments):
        steps.append(arguments[-1])
        if len(steps) in (5, 9):
            raise Killed
        return take(*arguments)

    monkeypatch.setattr(loop, "train_batch", stop)
    for _ in range(2):
        with pytest.raises(Killed):
            finetune(config, interrupted)
    second = finetune(config, interrupted)
    assert steps != sorted(set(steps)), "some are done again"
    folders = [
        artifacts(*pair) / "checkpoint" for pair in ((straight, first), (interrupted, second))
    ]
    for name in ("best.safetensors", "last.safetensors", "best.json", "last.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    assert json.loads((folders[0] / "last.json").read_text())["tile_planes"] == 64


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A 3D model of torch_em as SynapseNet publishes it: foreground and boundary, a Sigmoid."""
    from torch_em.model import AnisotropicUNet

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "mitochondria"
    factors = [[1, 2, 2], [2, 2, 2]]
    network = AnisotropicUNet(
        1, 2, scale_factors=factors, initial_features=2, final_activation="Sigmoid"
    )
    torch.save(network, path)
    return path


def test_fine_tuning_starts_from_a_published_3d_model(published, dataset, store, monkeypatch):
    """All but its last layer is kept; the model of one channel sees patches of volumes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(published.parent / "cache"))
    short = SHORT | {"method": "anisotropic_finetuned", "iterations": 2, "epoch_iterations": 2}
    short |= {"batch_size": 1, "tile_px": 16, "halo_px": 8}
    config = FinetuneConfig(dataset=dataset, source=str(published), **short)
    run_id = finetune(config, store)
    run = store.client.get_run(run_id).data
    network, info = load_checkpoint(artifacts(store, run_id) / "checkpoint/best.safetensors")
    total = len(network.state_dict())
    facts = [run.tags[f"bench.source.{name}"] for name in ("tensors", "tensors_transferred")]
    assert [int(float(fact)) for fact in facts] == [total, total - 2]
    assert run.tags["bench.reinitialised"] == "out_conv.bias, out_conv.weight"
    assert (info.architecture, info.outputs) == ("unet3d_anisotropic", ("foreground",))
    assert info.arguments["scale_factors"] == [[1, 2, 2], [2, 2, 2]]
    assert (info.tile_planes, info.halo_planes, info.normalisation) == (8, 4, "volume")
    assert read_settings(store, run_id)["source"] == f"volumes:{published}"
    # The same typed out is the same run.
    named = dataclasses.replace(config, source=f"volumes:{published}")
    assert finetune(named, store) == run_id
    for method, message in (
        ("finetuned", "trains the network unet2d, source .* is a unet3d_planes"),
        ("cryovesnet_finetuned", "trains the network unet3d, source .* is a unet3d_planes"),
    ):
        with pytest.raises(BenchError, match=message):
            finetune(dataclasses.replace(config, method=method), store)
    with pytest.raises(BenchError, match="give source=synapsenet:NAME of a 3D model, source="):
        finetune(dataclasses.replace(config, source="auto"), store)


def test_a_published_3d_model_sees_volumes(published, dataset, store, tmp_path, monkeypatch):
    """As it is, it predicts what torch_em's own does of a window and its surroundings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(published.parent / "cache"))
    source = resolve_source(store, str(published), network="unet3d_anisotropic")
    assert source.name == f"volumes:{published}"
    assert resolve_source(store, source.name).sha256 == source.sha256
    network, info = load_checkpoint(source.path)
    assert (info.tile_planes, info.halo_planes, info.tile_px) == (16, 8, 256)
    # Smaller windows, which take seconds less.
    small = tmp_path / "small.safetensors"
    save_checkpoint(small, network, dataclasses.replace(info, tile_px=32, halo_px=8))
    config = EvaluateConfig(
        dataset=dataset,
        method="anisotropic_unadapted",
        structure="vesicles",
        source=str(small),
        spheres="none",
        opening_radius_px=0,
        min_area_px=0,
        device="cpu",
    )
    run_id = evaluate(config, store)
    prepared = PreparedDataset.open(dataset)
    (volume,) = find_volumes(prepared, "val")
    raw = read_volume(prepared, volume).astype(np.float32)
    scaled = (raw - raw.mean()) / raw.std()
    seen = np.pad(scaled, ((8, 24), (8, 16), (8, 16)), mode="reflect")[:32]
    model = torch.load(published, weights_only=False).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(seen)[None, None])[0, 0, 8:24, 8:32, 8:32].numpy()
    file = artifacts(store, run_id) / "predictions.h5"
    found = [read_prediction(file, name).foreground for name in volume.sections[:16]]
    assert np.abs(np.stack(found) / 255 - expected).max() < 0.01
    assert expected.std() > 0.02
    for kind, message in (
        (f"volumes:{small}", r"is for published 3D models, received .* a unet3d_anisotropic:"),
        ("auto", "give source=synapsenet:NAME of a 3D model, source="),
    ):
        with pytest.raises(BenchError, match=message):
            evaluate(dataclasses.replace(config, source=kind), store)
