"""nnU-Net's trainer on a budget: what it draws hangs on the seed and the epoch alone."""

import os

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bench.models.networks import NETWORKS
from bench.models.outside.packages import has_packages
from bench.training.loop import Reports

if not has_packages(NETWORKS["nnunet"]):
    pytest.skip(
        "nnunetv2 is not installed, as in CI: pip install --no-deps -r requirements-nnunet.txt",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    from bench.training.nnunet.planning import plan_sections

    random = np.random.default_rng(0)
    fields = [gaussian_filter(random.normal(size=(64, 64)), 3) for _ in range(4)]
    sections = [((60 * field / field.std()).astype(np.int16), field > 0) for field in fields]
    folder = tmp_path_factory.mktemp("planned") / "nnunet"
    # What a killed process left.
    (folder / "nnUNet_raw" / "Dataset001_sections").mkdir(parents=True)
    planned = plan_sections(folder, sections[:3], sections[3:], "mitochondria")
    assert not any(name.startswith("nnUNet") for name in os.environ)
    return planned


def train(planned, state_file, *, die_at=0, snapshots=()):
    """Trains 5 iterations in epochs of 2; returns weights, and what was reported."""
    from bench.training.nnunet.trainer import Budget, train_planned

    told = []

    def on_iteration(iteration, numbers):
        told.append((iteration, numbers["loss"], numbers["lr"]))
        if iteration == die_at:
            raise KeyboardInterrupt

    reports = Reports(
        on_iteration=on_iteration,
        validate=lambda network: float(network(torch.zeros(1, 1, 64, 64)).shape[1]),
        on_epoch=lambda iteration, score, best: told.append((iteration, score, best)),
        on_saving=lambda iteration: None,
        on_snapshot=lambda iteration, score: told.append((iteration, "kept")),
    )
    progress, network = train_planned(
        planned,
        Budget(5, 2, 4, snapshots),
        torch.device("cpu"),
        state_file=state_file,
        make_reports=lambda network, own_scores: reports,
    )
    assert (progress.iteration, progress.best_score, progress.best_iteration) == (5, 2.0, 2)
    return network.state_dict(), told


def test_neither_a_kill_nor_snapshots_change_a_bit(planned, tmp_path):
    straight, told = train(planned, tmp_path / "straight.safetensors", snapshots=(3, 4))
    assert [each[0] for each in told] == [1, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert [each[0] for each in told if each[-1] == "kept"] == [3, 4]
    with pytest.raises(KeyboardInterrupt):
        train(planned, tmp_path / "killed.safetensors", die_at=4)
    resumed, again = train(planned, tmp_path / "killed.safetensors")
    assert again == [each for each in told[3:] if each[-1] != "kept"]
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_it_plans_for_the_memory_that_it_is_given(tmp_path):
    from bench.training.nnunet.planning import plan_sections

    raw = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)
    planned = [
        plan_sections(tmp_path / str(gb), [(raw, raw > 128)], [(raw, raw > 128)], "mito", gpu_gb=gb)
        for gb in (None, 0.1)
    ]
    patches = [np.prod(each.configuration["patch_size"]) for each in planned]
    assert patches[0] == 256 * 256
    assert patches[1] < patches[0] / 2


def test_its_network_has_one_name_for_each_tensor(planned):
    from bench.models.checkpoint import build_model

    arguments = {"plans": planned.plans, "dataset_json": planned.dataset_json}
    first, second = (build_model("nnunet", {**arguments, "mirror_axes": [0, 1]}) for _ in range(2))
    state = first.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    second.load_state_dict(state)
    section = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(first(section), second(section))
    del state["planned.encoder.stages.0.0.convs.0.conv.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict(state)
