"""Fine-tuning from weights: of a run, or of a checkpoint file."""

from dataclasses import replace

import numpy as np
import pytest

from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.core.hashing import file_sha256
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.inference.prediction_file import read_prediction
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    load_checkpoint,
    load_info,
    load_weights,
    save_checkpoint,
)
from bench.models.foreign import write_synapsenet_file
from bench.models.synapsenet import SYNAPSENET
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training.source import resolve_source, source_of
from bench.tracking.queries import fetch_artifact, read_settings


@pytest.fixture
def two_channels(tmp_path):
    """A checkpoint of foreground and boundary, as SynapseNet's models have."""
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 4}
    info = ModelInfo(
        "unet2d", arguments, ("foreground", "boundary"), "vesicles", 1.35, "section", 32, 16
    )
    path = tmp_path / "two.safetensors"
    save_checkpoint(path, build_model("unet2d", arguments), info)
    return path


@pytest.fixture
def published(two_channels, tmp_path):
    """The same model in the file format of SynapseNet."""
    path = tmp_path / "published"
    write_synapsenet_file(path, load_weights(two_channels), load_info(two_channels).arguments)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def finetune_from(pipeline, tiny):
    def run(source, **settings):
        short = tiny | {"iterations": 2, "epoch_iterations": 1, "lr": 1e-8} | settings
        config = FinetuneConfig(dataset=str(pipeline.dataset), source=source, **short)
        return pipeline.store.client.get_run(finetune(config, pipeline.store))

    return run


def best_weights(pipeline, run_id):
    return load_weights(fetch_artifact(pipeline.store, run_id, "checkpoint/best.safetensors"))


def test_all_tensors_of_a_run_of_the_same_network_are_kept(pipeline, finetune_from):
    run = finetune_from(f"runs:/{pipeline.trained}", structure="vesicles")
    assert float(run.data.tags["bench.source.tensors_transferred"]) == 46
    assert float(run.data.tags["bench.source.tensors"]) == 46
    assert run.data.tags["bench.reinitialised"] == "none"
    assert run.data.tags["bench.method"] == "finetuned"
    settings = read_settings(pipeline.store, run.info.run_id)
    assert settings["source"] == f"runs:/{pipeline.trained}"
    path = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint/best.safetensors")
    assert settings["source_sha256"] == file_sha256(path)
    # A rate of 1e-8 leaves the weights where they started.
    before, after = (best_weights(pipeline, i) for i in (pipeline.trained, run.info.run_id))
    assert all((after[name] - before[name]).abs().max() < 1e-6 for name in before)


def test_the_last_layer_of_a_model_with_two_outputs_is_replaced(
    pipeline, finetune_from, two_channels
):
    # The network is the source's: features of the settings do not matter.
    run = finetune_from(str(two_channels), method="finetuned_dice", features=8)
    warning = "5 nm and the model was trained at 1.35 nm, a factor over 2: check pixel_size_nm"
    assert warning in run.data.tags["bench.warning"]
    assert float(run.data.tags["bench.source.tensors_transferred"]) == 44
    assert float(run.data.tags["bench.source.tensors"]) == 46
    assert run.data.tags["bench.reinitialised"] == "out_conv.bias, out_conv.weight"
    after, before = best_weights(pipeline, run.info.run_id), load_weights(two_channels)
    assert after["out_conv.weight"].shape[0] == 1
    kept = set(before) - {"out_conv.weight", "out_conv.bias"}
    assert all((after[name] - before[name]).abs().max() < 1e-6 for name in kept)


def test_a_source_is_known_by_its_content_not_its_path(finetune_from, two_channels, tmp_path):
    first = finetune_from(str(two_channels), seed=5)
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"copy{suffix}").write_bytes(two_channels.with_suffix(suffix).read_bytes())
    again = finetune_from(str(tmp_path / "copy.safetensors"), seed=5)
    assert again.info.run_id == first.info.run_id


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("runs:/" + "0" * 32, "no run has the id '0{32}'"),
        ("runs:/{on_val}", "must have trained a model"),
        ("no/such.safetensors", "folder that exists, received 'no/such.safetensors'"),
        ("model.pt", "folder that exists, received 'model.pt'"),
        ("models:/vesicles@champion", "no model is registered as models:/vesicles@champion in"),
        ("synapsenet:vesicle", "'vesicle': choose one of"),
        ("{tmp_path}/text.pt", "text.pt"),
        ("{tmp_path}/alone.safetensors", "alone.json is missing: copy both"),
        ("{tmp_path}/torn.safetensors", "is not the weights file that"),
    ],
)
def test_a_source_that_cannot_be_read(pipeline, two_channels, tmp_path, source, message):
    content = two_channels.read_bytes()
    (tmp_path / "alone.safetensors").write_bytes(content)
    (tmp_path / "torn.safetensors").write_bytes(content[:1000])
    (tmp_path / "torn.json").write_bytes(two_channels.with_suffix(".json").read_bytes())
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(BenchError, match=message):
        resolve_source(pipeline.store, source.format(tmp_path=tmp_path, **vars(pipeline)))


def test_a_source_of_another_network_is_refused(finetune_from, tmp_path):
    """Same names, none of the shapes: nothing but the file's own description could be right."""
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 4}
    info = ModelInfo("unet2d", arguments, ("foreground",), "vesicles", None, "section", 32, 16)
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, build_model("unet2d", arguments | {"features": 2}), info)
    with pytest.raises(BenchError, match=r"source must be the same network, only . of 46 tensors"):
        finetune_from(str(path))


def test_a_file_of_synapsenet_is_converted_once(pipeline, published, two_channels, tmp_path):
    source = resolve_source(pipeline.store, str(published))
    assert source.info.outputs == ("foreground", "boundary")
    assert source.info.input_pixel_size_nm is None
    expected, found = load_weights(two_channels), source.weights()
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
    assert source.path.is_relative_to(tmp_path / "cache" / "synapse-bench" / "converted")
    written = source.path.stat().st_mtime_ns
    assert resolve_source(pipeline.store, str(published)).path == source.path
    assert source.path.stat().st_mtime_ns == written


def test_a_published_model_is_taken_from_the_cache(pipeline, monkeypatch, published, tmp_path):
    """Where the file of a published name lies in synapse_net's cache, no network is needed."""
    row = SYNAPSENET["vesicles_2d"]
    monkeypatch.setitem(SYNAPSENET, row.name, replace(row, sha256=file_sha256(published)))
    cached = tmp_path / "cache" / "synapse-net" / "models" / row.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(published.read_bytes())
    source = resolve_source(pipeline.store, "auto")
    assert source.name == "synapsenet:vesicles_2d"
    assert source.info.input_pixel_size_nm == 1.35
    assert (source.info.tile_px, source.info.halo_px) == (512, 128)


def test_both_channels_are_kept_and_instances_separated_by_the_watershed(
    pipeline, finetune_from, published
):
    run = finetune_from(str(published), method="finetuned_boundary")
    assert float(run.data.tags["bench.source.tensors_transferred"]) == 46
    checkpoint = fetch_artifact(pipeline.store, run.info.run_id, "checkpoint/best.safetensors")
    info = load_info(checkpoint)
    assert info.outputs == ("foreground", "boundary")
    assert set(info.inference) == {"watershed"}
    table = fetch_artifact(pipeline.store, run.info.run_id, "watershed.csv").read_text()
    assert "instance_f1" in table.splitlines()[0]
    evaluated = evaluate(
        EvaluateConfig(dataset=str(pipeline.dataset), run_id=run.info.run_id), pipeline.store
    )
    params = read_settings(pipeline.store, evaluated)
    assert params["watershed"] == info.inference["watershed"]["origin"]
    together = EvaluateConfig(
        dataset=str(pipeline.dataset), run_id=run.info.run_id, separation="components"
    )
    params = read_settings(pipeline.store, evaluate(together, pipeline.store))
    assert params["watershed"] == "none"


@pytest.mark.parametrize("rescale", [True, False])
def test_a_source_is_evaluated_as_it_is(pipeline, two_channels, rescale):
    """The model of 1.35 nm sees the sections of 5 nm enlarged, or as they are."""
    config = EvaluateConfig(
        dataset=str(pipeline.dataset),
        method="unadapted",
        structure="mito",
        source=str(two_channels),
        rescale=rescale,
        device="cpu",
    )
    run = pipeline.store.client.get_run(evaluate(config, pipeline.store))
    assert run.data.tags["bench.method"] == "unadapted"
    assert run.data.tags["bench.trained_run"] == "none"
    remedy = "check pixel_size_nm" if rescale else "use rescale=true"
    warning = "5 nm and the model was trained at 1.35 nm, a factor over 2: " + remedy
    assert warning in run.data.tags["bench.warning"]
    network, _ = load_checkpoint(two_channels)
    parameters = sum(part.numel() for part in network.parameters())
    assert float(run.data.tags["bench.model.parameters"]) == parameters
    path = fetch_artifact(pipeline.store, run.info.run_id, "predictions.h5")
    dataset = PreparedDataset.open(pipeline.dataset)
    name = dataset.sections("val")[0]
    predict, _ = open_predictor(two_channels, choose_compute("cpu", "auto"), "mitochondria")
    expected = predict(dataset.read_raw(name), 5.0 if rescale else None)
    other = predict(dataset.read_raw(name), None if rescale else 5.0)
    found = read_prediction(path, name)
    assert found.boundary.shape == found.foreground.shape == (64, 64)
    np.testing.assert_array_equal(found.foreground, expected.foreground)
    assert np.abs(found.foreground.astype(int) - other.foreground).max() > 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "unadapted"}, "received run_id=auto and structure=auto: give structure"),
        ({"method": "unadapted", "structure": "mito", "run_id": "a"}, "received run_id=a"),
        ({"method": "unadapted", "structure": "mito", "source": "random"}, "a trained model, rec"),
        ({"method": "scratch", "structure": "mito", "source": "x"}, "add method=unadapted"),
    ],
)
def test_an_evaluation_that_contradicts_itself(pipeline, settings, message):
    with pytest.raises(BenchError, match=message):
        evaluate(EvaluateConfig(dataset=str(pipeline.dataset), **settings), pipeline.store)


def test_an_adapted_model_must_be_there(pipeline, store):
    config = FinetuneConfig(dataset=str(pipeline.dataset), method="da_finetuned")
    with pytest.raises(BenchError, match="starts from a domain_adapted model of mitochondria"):
        finetune(config, store)


def test_every_structure_may_have_a_source_of_its_own():
    given = "vesicles=a/b=c.pt, mito=synapsenet:mitochondria"
    assert source_of("vesicles", given) == "a/b=c.pt"
    assert source_of("mitochondria", given) == "synapsenet:mitochondria"
    assert source_of("membrane", given) == "auto"
    assert source_of("membrane", "folder,with=signs") == "folder,with=signs"
    assert source_of("synaptic_cleft", "ribbon=a,Synaptic cleft=b") == "b"
    known = ("ribbon", "vesicles")
    assert source_of("ribbon", "mito=a,ribbon=b", known) == "b"
    with pytest.raises(BenchError, match=r"unknown structure 'ribon': .*did you mean ribbon"):
        source_of("vesicles", "vesicles=a,ribon=b", known)


def test_every_method_may_have_a_source_of_its_own():
    given = "retina=retina:a.pt, unet_resnet50_moco=moco:b.pt, mito=c.pt"
    assert source_of("vesicles", given, method="retina") == "retina:a.pt"
    assert source_of("mitochondria", given, ("vesicles",), "unet_resnet50_moco") == "moco:b.pt"
    assert source_of("mitochondria", given, ("vesicles",), "finetuned") == "c.pt"
    assert source_of("vesicles", given, ("vesicles",), "finetuned") == "auto"
    with pytest.raises(BenchError, match="unknown structure 'retine'"):
        source_of("vesicles", "retine=a", ("vesicles",), "retina")


def test_a_file_with_an_equals_sign_is_no_structure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=3.pt").touch()
    assert source_of("ribbon", "lr=3.pt", ("ribbon",)) == "lr=3.pt"


def test_a_volume_model_is_not_finetuned(finetune_from, tmp_path):
    arguments = {
        "in_channels": 1,
        "out_channels": 1,
        "planes": 8,
        "scale_factors": [[1, 2, 2], [2, 2, 2]],
        "features": 2,
    }
    info = ModelInfo("unet3d_planes", arguments, ("foreground",), "", None, "section", 32, 16)
    path = tmp_path / "volume.safetensors"
    save_checkpoint(path, build_model("unet3d_planes", arguments), info)
    with pytest.raises(
        BenchError, match=r"trains the network unet2d, source .* is a unet3d_planes"
    ):
        finetune_from(str(path))
