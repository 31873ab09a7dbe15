"""Fine-tuning from weights: of a run, or of a checkpoint file."""

import pytest

from bench.config import FinetuneConfig
from bench.errors import BenchError
from bench.hashing import file_sha256
from bench.models.checkpoint import ModelInfo, build_model, load_weights, save_checkpoint
from bench.steps.finetune import finetune
from bench.steps.source import resolve_source
from bench.tracking.queries import fetch_artifact


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
    assert run.data.metrics["source/tensors_transferred"] == 46
    assert run.data.metrics["source/tensors"] == 46
    assert run.data.tags["bench.reinitialised"] == "none"
    assert run.data.tags["bench.method"] == "finetuned"
    assert run.data.params["cfg.source"] == f"runs:/{pipeline.trained}"
    path = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint/best.safetensors")
    assert run.data.params["cfg.source_sha256"] == file_sha256(path)
    # A rate of 1e-8 leaves the weights where they started.
    before, after = (best_weights(pipeline, i) for i in (pipeline.trained, run.info.run_id))
    assert all((after[name] - before[name]).abs().max() < 1e-6 for name in before)


def test_the_last_layer_of_a_model_with_two_outputs_is_replaced(
    pipeline, finetune_from, two_channels
):
    # The network is the source's: features of the settings do not matter.
    run = finetune_from(str(two_channels), method="finetuned_dice", features=8)
    assert run.data.metrics["source/tensors_transferred"] == 44
    assert run.data.metrics["source/tensors"] == 46
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
        ("no/such.safetensors", "file that exists, received 'no/such.safetensors'"),
        ("{tmp_path}", "file that exists"),
        ("model.pt", "a .safetensors file that exists, received 'model.pt'"),
        ("synapsenet:vesicles_2d", "cannot fetch published or registered models yet"),
        ("models:/vesicles@champion", "cannot fetch published or registered models yet"),
        ("{tmp_path}/alone.safetensors", "alone.json is missing: copy both"),
        ("{tmp_path}/torn.safetensors", "is not the weights file that"),
    ],
)
def test_a_source_that_cannot_be_read(pipeline, two_channels, tmp_path, source, message):
    content = two_channels.read_bytes()
    (tmp_path / "alone.safetensors").write_bytes(content)
    (tmp_path / "torn.safetensors").write_bytes(content[:1000])
    (tmp_path / "torn.json").write_bytes(two_channels.with_suffix(".json").read_bytes())
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
