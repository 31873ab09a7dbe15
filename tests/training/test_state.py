import json

import pytest
import torch
from safetensors import safe_open

from bench.inference.device import Compute
from bench.training.loop import LoopSettings, Progress, load_state, make_trainee, save_state

CPU = Compute(torch.device("cpu"), "fp32")
SETTINGS = LoopSettings(10, 5, 5, 1e-3, "plateau", 0.5, 1, "adam")
PROGRESS = Progress(iteration=7, best_score=0.1 + 0.2, best_iteration=5, elapsed_s=12.5)


def make(seed, settings=SETTINGS):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Conv2d(3, 1, 1))
    return make_trainee(network, settings, CPU)


def step(trainee, times):
    for _ in range(times):
        trainee.optimizer.zero_grad()
        trainee.network(torch.ones(1, 1, 8, 8)).square().mean().backward()
        trainee.optimizer.step()
        trainee.plateau.step(0.1)


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_round_trip(tmp_path, steps):
    """Also before the first step, when the optimiser and the schedule have seen nothing."""
    trainee, path = make(0), tmp_path / "new" / "state.safetensors"
    step(trainee, steps)
    save_state(path, trainee, PROGRESS)
    other = make(1)
    assert load_state(path, other) == PROGRESS
    for name, tensor in trainee.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], tensor)
    assert other.plateau.state_dict() == trainee.plateau.state_dict()
    step(trainee, 4)
    step(other, 4)
    assert torch.equal(other.network[0].weight, trainee.network[0].weight)
    assert other.optimizer.param_groups[0]["lr"] == trainee.optimizer.param_groups[0]["lr"]


def test_state_is_tensors_and_json(tmp_path):
    trainee, path = make(0), tmp_path / "state.safetensors"
    step(trainee, 1)
    save_state(path, trainee, PROGRESS)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        numbers = json.loads(file.metadata()["state"])
    assert {name.split("/")[0] for name in names} == {"network", "optimizer"}
    assert len(names) == 4 + 4 * 3
    assert numbers["progress"]["best_score"] == 0.1 + 0.2


def test_cosine_has_no_schedule_to_keep(tmp_path):
    settings = LoopSettings(10, 5, 5, 1e-3, "cosine", 0.5, 1, "adam")
    trainee, path = make(0, settings), tmp_path / "state.safetensors"
    assert trainee.plateau is None
    save_state(path, trainee, PROGRESS)
    assert load_state(path, make(1, settings)) == PROGRESS
