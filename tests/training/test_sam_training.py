import random

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.sam.embedding_store import EmbeddingStore
from bench.models.sam import load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file
from bench.training.sam import prompted
from bench.training.sam.interactive import (
    SamTrainingSettings,
    interactive,
    make_trainer,
    prepare_network,
    seed_everything,
)
from bench.training.sam.patches import InstancePatchFeed, InstancePatchSettings

CPU = Compute(torch.device("cpu"), "fp32")
SMALL = SamTrainingSettings(sub_iterations=2, objects_per_batch=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    for features in (0, 8):
        write_tiny_sam(folder / f"{features}.pt", image_px=64, decoder_features=features)
    return lambda features: read_torch_file(folder / f"{features}.pt", trust=False)


@pytest.fixture
def section():
    raw = np.random.default_rng(0).integers(0, 255, (80, 80)).astype(np.uint8)
    labels = np.zeros(raw.shape, np.uint8)
    labels[20:35, 20:40], labels[50:70, 50:60], labels[50:60, 5:20] = 1, 2, 3
    return raw // (1 + labels), labels


def make(
    files, section, features, *, freeze="image_encoder", lora_rank=0, compute=CPU, size=1, **kept
):
    network, _ = load_sam(files(features))
    torch.manual_seed(0)
    prepare_network(network, freeze=freeze, lora_rank=lora_rank)
    patches = InstancePatchSettings(64, size, features > 0, 0, kept.get("patches"))
    feed = InstancePatchFeed([section], patches)
    return network, interactive(network, feed, SMALL, compute, kept.get("store"))


@pytest.mark.parametrize("features", [0, 8])
def test_the_loss_is_a_function_of_the_iteration(files, section, features):
    _, objective = make(files, section, features)
    first = [objective.compute(i)[0].item() for i in range(3)]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    again = [objective.compute(i)[0].item() for i in (2, 1, 0)]
    assert first == again[::-1]
    assert len(set(first)) == 3


@pytest.mark.parametrize(("features", "names"), [(0, set()), (8, {"decoder_loss"})])
def test_the_decoder_is_trained_where_there_is_one(files, section, features, names):
    network, objective = make(files, section, features)
    loss, numbers = objective.compute(0)
    assert set(numbers) == {"mask_loss", "iou_loss"} | names
    assert loss.item() == pytest.approx(sum(numbers.values()), rel=1e-5)
    loss.backward()
    graded = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert "image_encoder" not in graded
    assert "mask_decoder" in graded
    decoder = [p.grad is not None for n, p in network.named_parameters() if "instance_dec" in n]
    assert any(decoder) == bool(features)


def test_micro_sams_trainers_are_used_with_our_settings(files):
    from micro_sam.training.joint_sam_trainer import JointSamTrainer
    from micro_sam.training.sam_trainer import SamTrainer

    for features, kind in ((0, SamTrainer), (8, JointSamTrainer)):
        trainer = make_trainer(load_sam(files(features))[0], SMALL, CPU)
        assert type(trainer) is kind
        assert (trainer.n_sub_iteration, trainer.n_objects_per_batch) == (2, 2)


def test_training_lowers_the_loss(files, section):
    network, objective = make(files, section, 8, freeze="none")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for iteration in range(10):
        optimizer.zero_grad()
        # One batch, again and again.
        loss, _ = objective.compute(iteration % 2)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-2:]) < 0.97 * sum(losses[:2])


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("image_encoder", {"prompt_encoder", "mask_decoder"}),
        ("image_encoder+mask_decoder", {"prompt_encoder"}),
        ("image_encoder, prompt_encoder", {"mask_decoder"}),
        ("none", {"image_encoder", "prompt_encoder", "mask_decoder"}),
    ],
)
def test_parts_are_frozen(files, section, freeze, trained):
    network, _ = make(files, section, 0, freeze=freeze)
    assert {n.split(".")[1] for n, p in network.named_parameters() if p.requires_grad} == trained


def test_lora_trains_its_updates_in_place_of_the_encoder(files, section):
    network, objective = make(files, section, 0, lora_rank=2)
    encoder = {n for n, p in network.named_parameters() if p.requires_grad and "image_enc" in n}
    assert encoder
    assert all(".w_a_linear_" in name or ".w_b_linear_" in name for name in encoder)
    objective.compute(0)[0].backward()
    updates = [p.grad for n, p in network.named_parameters() if ".w_b_linear_" in n]
    assert all(grad is not None and grad.any() for grad in updates)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("encoder", "freeze must be none or some of image_encoder.*received encoder"),
        ("image_encoder,prompt_encoder,mask_decoder", "something must be trained"),
    ],
)
def test_what_cannot_be_frozen(files, section, freeze, message):
    with pytest.raises(BenchError, match=message):
        make(files, section, 0, freeze=freeze)


def test_bf16_gives_a_finite_loss(files, section):
    _, objective = make(files, section, 8, compute=Compute(torch.device("cpu"), "bf16"))
    loss, _ = objective.compute(0)
    loss.backward()
    assert torch.isfinite(loss)
    assert "objects_per_batch (now 2)" in objective.remedy


def count_calls(network):
    calls = []
    network.sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("features", [0, 8])
@pytest.mark.parametrize("size", [1, 2])
def test_embeddings_are_computed_once(files, section, features, size):
    """micro_sam computes them for its masks and again for its decoder."""
    network, objective = make(files, section, features, size=size)
    calls = count_calls(network)
    losses = [objective.compute(iteration)[0].item() for iteration in range(2)]
    assert len(calls) == 2 * size
    trained, other = make(files, section, features, size=size, freeze="none")
    calls = count_calls(trained)
    expected = [other.compute(iteration)[0].item() for iteration in range(2)]
    assert len(calls) == 2
    # Trained, all patches of a batch are embedded at once, which rounds otherwise.
    assert losses == (expected if size == 1 else pytest.approx(expected, rel=1e-4))


def micro_sams_loss(network, size, section, iteration):
    trainer = make_trainer(network, SMALL, CPU)
    trainer._iteration = iteration
    settings = InstancePatchSettings(64, size, network.unetr is not None, 0)
    images, targets = InstancePatchFeed([section], settings).batch(iteration)
    seed_everything(0, iteration)
    loss, *_ = trainer._interactive_train_iteration(images, targets[:, :1])
    if network.unetr is not None:
        loss = loss + trainer._instance_iteration(images, targets[:, 1:])
    return loss


# A batch of one patch is embedded as micro_sam does; even iterations ask for several masks.
@pytest.mark.parametrize("iteration", [0, 1, 3])
@pytest.mark.parametrize(
    ("features", "freeze", "size"), [(0, "none", 2), (8, "none", 2), (8, "image_encoder", 1)]
)
def test_loss_and_gradients_are_micro_sams(
    files, section, monkeypatch, features, freeze, size, iteration
):
    monkeypatch.setattr(prompted, "_TOGETHER_ON_CPU", 1)
    network, objective = make(files, section, features, freeze=freeze, size=size)
    loss, _ = objective.compute(iteration)
    loss.backward()
    theirs, _ = make(files, section, features, freeze=freeze, size=size)
    expected = micro_sams_loss(theirs, size, section, iteration)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, ours), wanted in zip(network.named_parameters(), theirs.parameters(), strict=True):
        found = torch.zeros_like(ours) if ours.grad is None else ours.grad
        gradient = torch.zeros_like(ours) if wanted.grad is None else wanted.grad
        assert (found - gradient).norm() <= 1e-3 * gradient.norm() + 1e-7, name


def test_gradients_at_once_are_those_prompt_by_prompt(files, section):
    network, _ = make(files, section, 0, freeze="none", size=2)
    feed = InstancePatchFeed([section], InstancePatchSettings(64, 2, False, 0))
    images, labels = feed.batch(1)
    trainer = make_trainer(network, SMALL, CPU)
    trainer._iteration = 1
    found = {}
    for at_once in (False, True):
        seed_everything(0, 1)
        features, _ = trainer.model.image_embeddings_oft([{"image": image} for image in images])
        network.zero_grad()
        loss, _ = prompted.prompted_loss(trainer, features, images, labels, at_once=at_once)
        # As a loop scales it that counts in fp16.
        (8 * loss).backward()
        found[at_once] = [p.grad for p in network.parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in found[True])
    for one, other in zip(found[False], found[True], strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm() + 1e-7


def test_the_decoder_alone_is_trained(files, section):
    network, objective = make(files, section, 8, freeze="image_encoder,prompt_encoder,mask_decoder")
    loss, numbers = objective.compute(0)
    loss.backward()
    assert loss.item() == pytest.approx(sum(numbers.values()), rel=1e-5)
    graded = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert graded == {"instance_decoder"}


def test_without_gradients_the_loss_is_the_same(files, section):
    _, objective = make(files, section, 8)
    with torch.no_grad():
        alone, _ = objective.compute(0)
    assert not alone.requires_grad
    assert alone.item() == pytest.approx(objective.compute(0)[0].item(), rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stored_embeddings_change_no_bit(files, section, tmp_path, precision):
    compute = Compute(torch.device("cpu"), precision)
    store = EmbeddingStore(tmp_path, 10**9)
    losses = {}
    for name, kept in (("plain", None), ("filling", store), ("filled", store)):
        network, objective = make(files, section, 8, compute=compute, size=2, patches=3, store=kept)
        calls = count_calls(network)
        optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
        losses[name] = []
        for iteration in range(4):
            optimizer.zero_grad()
            loss, _ = objective.compute(iteration)
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
        losses[f"{name} calls"] = len(calls)
    assert losses["plain"] == losses["filling"] == losses["filled"]
    assert [losses[f"{n} calls"] for n in ("plain", "filling", "filled")] == [8, 3, 0]


def test_what_is_trained_or_drawn_anew_is_not_stored(files, section, tmp_path):
    store = EmbeddingStore(tmp_path / "kept", 10**9)
    for changes in ({"patches": None}, {"patches": 2, "freeze": "none"}, {"lora_rank": 2}):
        _, objective = make(files, section, 0, store=store, **changes)
        objective.compute(0)
    assert not store.folder.exists()
