"""What is transferred and frozen: refusals before anything is read, and what freezing does."""

import pytest
import torch

from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.methods import METHODS
from bench.models.checkpoint import transfer_weights
from bench.models.networks import NETWORKS
from bench.steps.finetune import finetune
from bench.steps.training.data import with_defaults
from bench.steps.training.transfer import _freeze, check_transfer, transfer_identity


def settings(method="finetuned", **typed):
    return with_defaults(FinetuneConfig(**typed), METHODS[method])


@pytest.mark.parametrize(
    ("method", "source", "typed"),
    [
        ("finetuned", "auto", {}),
        ("finetuned", "auto", {"freeze": "encoder"}),
        ("finetuned", "runs:/a", {"transfer": "encoder", "freeze": "encoder"}),
        ("scratch", "random", {}),
        ("transunet", "random", {}),
        ("retina", "retina:a", {}),
        # As the paper's text says it, and as its code does.
        ("retina", "retina:a", {"transfer": "transformer", "freeze": "transformer"}),
        ("retina", "retina:a", {"transfer": "encoder", "freeze": "transformer"}),
        ("retina", "retina:a", {"freeze": "none"}),
        ("unet_resnet50_moco", "moco:a", {}),
        ("unet_resnet50_moco", "moco:a", {"freeze": "none"}),
    ],
)
def test_what_fits_together(method, source, typed):
    row = METHODS[method]
    check_transfer(settings(method, **typed), NETWORKS[row.network], source)


@pytest.mark.parametrize(
    ("method", "source", "typed", "message"),
    [
        ("scratch", "random", {"freeze": "encoder"}, "are of a source's weights, .*source=random"),
        ("scratch", "random", {"transfer": "encoder"}, "are of a source's weights"),
        ("transunet", "random", {"freeze": "transformer"}, "give source=runs:/ID"),
        ("finetuned", "auto", {"freeze": "transformer"}, r"freeze .* unet2d \(encoder\), .*=none"),
        ("finetuned", "auto", {"transfer": "transformer"}, r"transfer .*\(encoder\), .*=all"),
        (
            *("retina", "retina:a", {"transfer": "transformer", "freeze": "encoder"}),
            "freeze=encoder with transfer=transformer: random weights would never be trained",
        ),
        (
            *("unet3d", "runs:/a", {"freeze": "encoder"}),
            r"part of the network unet3d \(it has none\), received encoder",
        ),
    ],
)
def test_what_does_not(method, source, typed, message):
    row = METHODS[method]
    with pytest.raises(BenchError, match=message):
        check_transfer(settings(method, **typed), NETWORKS[row.network], source)


def test_it_is_told_before_anything_is_read(tmp_path, store):
    config = FinetuneConfig(dataset=str(tmp_path / "no"), method="scratch", freeze="encoder")
    with pytest.raises(BenchError, match="freeze are of a source's weights"):
        finetune(config, store)
    with pytest.raises(BenchError, match="width must be a multiple of 12"):
        finetune(FinetuneConfig(dataset=str(tmp_path), method="transunet", width=50), store)
    assert store.client.search_runs([store.experiment_id]) == []


def test_runs_of_before_are_what_they_were():
    for name in ("finetuned", "scratch_dice", "unet3d"):
        left = transfer_identity(settings(name).identity())
        added = ("transfer", "freeze", "batch_norm", "weight_decay", "width")
        assert not left.keys() & set(added)
    left = transfer_identity(settings("unet_resnet50_moco").identity())
    chosen = {name: left[name] for name in ("transfer", "freeze", "batch_norm", "weight_decay")}
    assert chosen == {
        "transfer": "encoder",
        "freeze": "encoder",
        "batch_norm": "moving",
        "weight_decay": 0.1,
    }


def make_network():
    network = torch.nn.Sequential()
    encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    network.add_module("encoder", encoder)
    network.add_module("decoder", torch.nn.Sequential(torch.nn.Conv2d(4, 1, 3)))
    return network


@pytest.mark.parametrize("still", [True, False])
def test_frozen_batch_norms_are_still_or_moving(still):
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    facts = _freeze(network, ("encoder.",), still=still)
    assert facts == {
        "source/tensors_frozen": 7 if still else 4,
        "model/parameters_frozen": 4 * 9 + 4 + 8,
    }
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    image = 5 + torch.randn(2, 1, 16, 16)
    for _ in range(2):
        network.train()
        trained = network(image)
        trained.square().mean().backward()
        optimizer.step()
    changed = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
    moved = {f"encoder.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {"decoder.0.weight", "decoder.0.bias"} | (set() if still else moved)
    # What is still normalises in training as it will in use.
    with torch.no_grad():
        in_training = network.train()(image)
        assert torch.equal(in_training, network.eval()(image)) == still


def test_a_part_is_transferred_whole_or_not_at_all():
    source = {name: 2 + tensor for name, tensor in make_network().state_dict().items()}
    network = make_network()
    result = transfer_weights(network, source, ("encoder.",))
    assert (result.transferred, result.total) == (7, 9)
    assert result.reinitialised == ("decoder.0.bias", "decoder.0.weight")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, source[name]) == name.startswith("encoder."), name
    del source["encoder.1.bias"]
    with pytest.raises(BenchError, match=r"6 of 7 tensors \(encoder.\) fit: choose another"):
        transfer_weights(network, source, ("encoder.",))
