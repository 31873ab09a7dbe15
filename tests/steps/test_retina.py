"""Training from published weights, made here by their names: what is kept, frozen and resumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import feed_section, open_predictor
from bench.inference.resumable import open_resumable
from bench.models.checkpoint import build_model, load_info, load_weights
from bench.models.networks import NETWORKS
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.tracking.queries import read_settings

CPU = choose_compute("cpu", "fp32")
NORMS = (0.57287007, 0.12740536)
SHORT = {
    **{"patch_px": 32, "tile_px": 32, "halo_px": 16, "batch_size": 2, "iterations": 3},
    **{"epoch_iterations": 3, "checkpoint_iterations": 1, "device": "cpu", "precision": "fp32"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files as RETINA and the authors of CEM500K publish them, the former narrow and shallow."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    state = build_model("transunet", {"out_channels": 1, "width": 48, "blocks": 2}).state_dict()
    state = {name: tensor for name, tensor in state.items() if "segmentation" not in name}
    state |= {
        "FinalDecoder.conv1.weight": torch.randn(1, 16, 3, 3),
        "FinalDecoder.conv1.bias": torch.randn(1),
    }
    torch.save(state, folder / "retina.pt")
    encoder = resnet50()
    encoder.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    state = {f"module.encoder_q.{name}": t for name, t in encoder.state_dict().items()}
    torch.save({"state_dict": state, "norms": list(NORMS)}, folder / "moco.pth.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture
def base(pipeline):
    return FinetuneConfig(dataset=str(pipeline.dataset), **SHORT)


def last(store, run_id):
    folder = Path(store.client.get_run(run_id).info.artifact_uri) / "checkpoint"
    return folder / "last.safetensors"


def test_retina_is_transferred_frozen_and_resumed_bit_for_bit(
    base, files, store, make_store, tmp_path, stop_after
):
    config = replace(base, method="retina", source=f"retina:{files / 'retina.pt'}")
    straight = make_store(tmp_path / "other")
    expected = load_weights(last(straight, finetune(config, straight)))
    stop_after(2, lambda: finetune(config, store))
    run_id = finetune(config, store)
    assert len(store.client.search_runs([store.experiment_id])) == 1
    found = load_weights(last(store, run_id))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    source = torch.load(files / "retina.pt", weights_only=True)
    same = {name for name, tensor in found.items() if torch.equal(tensor, source.get(name, tensor))}
    layers = {name for name in found if name.startswith("transformer.encoder.")}
    assert layers <= same
    assert "transformer.embeddings.hybrid_model.root.conv.weight" not in same
    tags = store.client.get_run(run_id).data.tags
    assert float(tags["bench.source.tensors_frozen"]) == len(layers)
    transferred = sum(name.startswith("transformer.") for name in found)
    assert float(tags["bench.source.tensors_transferred"]) == transferred
    assert float(tags["bench.source.tensors"]) == len(found)
    described = read_settings(store, run_id)
    assert (described["transfer"], described["freeze"]) == ("encoder", "transformer")
    assert (described["width"], described["normalisation"]) == ("48", "fixed")
    assert float(described["weight_decay"]) == 1e-4


def test_the_paper_s_text_transfers_only_the_layers(base, files, store):
    config = replace(
        *(base,), method="retina", source=f"retina:{files / 'retina.pt'}", transfer="transformer"
    )
    tags = store.client.get_run(finetune(config, store)).data.tags
    # Two blocks of 16 tensors, and the norm after them.
    assert float(tags["bench.source.tensors_transferred"]) == 2 * 16 + 2
    assert tags["bench.reinitialised"].endswith(" tensors")


def test_moco_freezes_the_encoder_and_moves_its_statistics(base, files, store):
    config = replace(
        *(base,), method="unet_resnet50_moco", source=f"moco:{files / 'moco.pth.tar'}", iterations=1
    )
    path = last(store, run_id := finetune(config, store))
    info, weights = load_info(path), load_weights(path)
    assert (info.normalisation, info.grey_scale) == ("fixed", NORMS)
    state = torch.load(files / "moco.pth.tar", weights_only=True)["state_dict"]
    source = {name.replace("module.encoder_q.", "encoder."): t for name, t in state.items()}
    moved = {n for n, t in source.items() if n in weights and not torch.equal(t, weights[n])}
    assert moved
    assert all("running_" in name or "num_batches" in name for name in moved)
    tags = store.client.get_run(run_id).data.tags
    assert float(tags["bench.source.tensors_transferred"]) == 318
    assert float(tags["bench.source.tensors_frozen"]) == 159
    # It is fed by the source's own mean and deviation, whichever way it is applied.
    raw = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    brighter = (raw // 2 + 100).astype(np.uint8)
    predict, _ = open_predictor(path, CPU, "mitochondria")
    resumable = open_resumable(path, CPU, "mitochondria")
    found = predict(raw, 5.0).foreground
    again = resumable(raw, 5.0, path.parent / "tiles", lambda _: None).foreground
    assert np.array_equal(found, again)
    assert not np.array_equal(found, predict(brighter, 5.0).foreground)
    with pytest.raises(BenchError, match=r"is of grey values of 8 bits, .*uint16"):
        feed_section(raw.astype(np.uint16), info, 5.0)
    scored = evaluate(EvaluateConfig(dataset=base.dataset, run_id=run_id, device="cpu"), store)
    assert "val/dice" in store.client.get_run(scored).data.metrics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 96}, "width must be that of the source, 48 of retina:.*, received 96"),
        ({"method": "unet_resnet50_moco"}, "trains the network unet_resnet50, .* is a transunet"),
        ({"method": "finetuned"}, "trains the network unet2d, source retina:"),
        ({"patch_px": 40}, "patch_px must be a multiple of 16, received 40"),
        ({"source": "auto"}, "give source=retina:FILE, pretrain_200.pt of BaderLab/RETINA"),
        ({"source": "random"}, "retina starts from a trained model"),
        ({"source": "retina:no.pt"}, "pretrain_200.pt .* licence is not stated"),
    ],
)
def test_what_does_not_fit_is_one_line(base, files, store, changes, message):
    config = replace(base, method="retina", source=f"retina:{files / 'retina.pt'}")
    with pytest.raises(BenchError, match=message):
        finetune(replace(config, **changes), store)
    assert store.client.search_runs([store.experiment_id]) == []


def test_a_fixed_normalisation_needs_a_source_that_has_it(base, pipeline, store):
    config = replace(base, source=f"runs:/{pipeline.trained}", normalisation="fixed")
    with pytest.raises(BenchError, match="normalisation=fixed is that of a source that was publ"):
        finetune(config, pipeline.store)


def test_the_rows_name_parts_that_their_networks_have():
    for name, row in NETWORKS.items():
        for part, prefixes in row.parts.items():
            arguments = {"out_channels": 1}
            if name == "unet2d":
                arguments |= {"in_channels": 1, "depth": 4, "features": 2}
            if name == "unet_residual":
                arguments |= {"in_channels": 1, "features": (2, 4), "stride": 4, "detail": 2}
            if name == "transunet":
                arguments |= {"width": 12, "blocks": 1}
            with torch.device("meta"):
                names = build_model(name, arguments).state_dict()
            for prefix in prefixes:
                assert any(each.startswith(prefix) for each in names), (name, part, prefix)


@pytest.mark.parametrize("source", ["retina:{}/retina.pt", "moco:{}/moco.pth.tar"])
def test_what_was_pretrained_is_not_applied_as_it_is(pipeline, files, store, source):
    config = EvaluateConfig(
        dataset=str(pipeline.dataset),
        **{"method": "unadapted", "structure": "mito", "source": source.format(files)},
        device="cpu",
    )
    with pytest.raises(BenchError, match=r"must .*(segment|have a channel)"):
        evaluate(config, store)


def test_retina_learns_several_structures_as_classes(base, files, store):
    config = replace(
        base, method="retina_classes", structures="all", source=f"retina:{files / 'retina.pt'}"
    )
    run_id = finetune(config, store)
    info = load_info(last(store, run_id))
    assert info.outputs == ("background", "mitochondria", "vesicles")
    found = load_weights(last(store, run_id))
    assert found["segmentation_head.0.weight"].shape[0] == 3
    source = torch.load(files / "retina.pt", weights_only=True)
    frozen = [name for name in found if name.startswith("transformer.encoder")]
    assert frozen
    assert all(torch.equal(found[name], source[name]) for name in frozen)
    evaluated = evaluate(EvaluateConfig(dataset=base.dataset, run_id=run_id, device="cpu"), store)
    tags = store.client.get_run(evaluated).data.tags
    assert tags["bench.structure"] == "vesicles"
