import sys

import pytest
import torch

from bench.training.optimisers import EAGER_OPTIMISERS

THEIRS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def run(make):
    """Parameters and state after some steps, the last from a state that was kept."""
    network = torch.nn.Linear(7, 3)
    with torch.no_grad():
        for part in network.parameters():
            part.copy_(torch.linspace(-1, 2, part.numel()).view_as(part))
    settings = {"lr": 0.1, "weight_decay": 0.01}
    optimiser = make(network.parameters(), **settings)
    for step in range(4):
        if step == 3:
            kept = optimiser.state_dict()
            optimiser = make(network.parameters(), **settings)
            optimiser.load_state_dict(kept)
        optimiser.zero_grad()
        network(torch.ones(2, 7)).square().sum().backward()
        optimiser.step()
    return [*network.parameters()], optimiser.state_dict()


@pytest.mark.parametrize("name", EAGER_OPTIMISERS)
def test_they_step_as_those_of_torch_and_load_no_compiler(name, monkeypatch):
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    expected, state = run(lambda *args, **given: THEIRS[name](*args, **given, **momentum))
    # To import it is an error now.
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    found, found_state = run(EAGER_OPTIMISERS[name])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad
    assert found_state["param_groups"] == state["param_groups"]
    for number, values in state["state"].items():
        for key, value in values.items():
            ours = found_state["state"][number][key]
            assert torch.equal(torch.as_tensor(ours), torch.as_tensor(value))
