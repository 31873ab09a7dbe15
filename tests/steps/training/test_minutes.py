"""Trainings of so many minutes: what is planned, what the run says of it, and what is refused."""

import json
from types import SimpleNamespace

import pytest
import torch

from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.steps.finetune import finetune
from bench.steps.grid.cells import model_config
from bench.steps.grid.grid import make_grid
from bench.steps.training import minutes
from bench.steps.training.minutes import OF_MINUTES, check_minutes, choose_rate
from bench.tracking.queries import fetch_artifact
from bench.training.loop import train_batch

COUNTED = ("iterations", "epoch_iterations", "lr")
MINUTES = 0.06


@pytest.fixture(scope="module")
def settings(pipeline, tiny):
    return {name: value for name, value in tiny.items() if name not in COUNTED} | {
        "dataset": str(pipeline.dataset),
        "source": "random",
        "minutes": MINUTES,
    }


@pytest.fixture(scope="module", autouse=True)
def prepared_at_once():
    """What comes before a training takes no time, however much else the machine has to do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("bench.steps.finetune", "bench.steps.training.minutes"):
            patch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: 100.0))
        yield


@pytest.fixture(scope="module")
def trained(pipeline, settings):
    return finetune(FinetuneConfig(**settings), pipeline.store)


def test_a_training_of_minutes_follows_its_plan(pipeline, trained):
    plan = json.loads(fetch_artifact(pipeline.store, trained, "minutes.json").read_text())
    assert plan["lr"] == 1e-3
    assert plan["seconds"] == 60 * MINUTES
    assert plan["iterations"] == int(0.85 * plan["seconds"] / plan["iteration_s"])
    rates = pipeline.store.client.get_metric_history(trained, "train/lr")
    values = [point.value for point in sorted(rates, key=lambda point: point.step)]
    assert values[0] == plan["lr"]
    assert values == sorted(values, reverse=True)
    # The rate is near zero at the end, however many iterations there were.
    assert len(values) < 4 or values[-1] < 0.3 * plan["lr"]


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [
        ({4: 1.0, 2: 2.0}, 4),
        ({4: 1.0, 2: 0.6, 1: 0.8}, 2),
        ({4: 1.0, 2: 0.6, 1: 0.5}, 1),
        ({1: 1.0}, 1),
    ],
)
def test_as_many_threads_compute_as_are_quickest(seconds, threads):
    before = torch.get_num_threads()
    found = minutes._time_threads(lambda: seconds[torch.get_num_threads()], max(seconds))
    assert found == (threads, seconds[threads])
    assert torch.get_num_threads() == before


def test_its_threads_compute_the_training_and_nothing_after_it(pipeline, settings, monkeypatch):
    before, during = torch.get_num_threads(), []
    monkeypatch.setattr(minutes, "_time_threads", lambda timed, threads: (1, timed()))
    monkeypatch.setattr(
        "bench.training.loop.train_batch",
        lambda *arguments: during.append(torch.get_num_threads()) or train_batch(*arguments),
    )
    torch.set_num_threads(3)
    try:
        finetune(FinetuneConfig(**settings | {"seed": 3}), pipeline.store)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(during) == {1}


def test_its_run_says_the_minutes_and_no_number_that_nobody_chose(pipeline, trained, settings):
    said = json.loads(fetch_artifact(pipeline.store, trained, "config.json").read_text())
    assert {name: said[name] for name in ("minutes", "schedule", *COUNTED)} == {
        "minutes": MINUTES,
        "schedule": "cosine",
        **dict.fromkeys(COUNTED, OF_MINUTES),
    }
    # The same minutes are the same run.
    assert finetune(FinetuneConfig(**settings), pipeline.store) == trained
    assert trained != pipeline.trained


def test_a_resumed_training_keeps_its_plan(pipeline, settings, monkeypatch):
    config = FinetuneConfig(**settings | {"seed": 1, "lr": 0.005})

    def kill(*arguments, **others):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.steps.finetune.train", kill)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, pipeline.store)
    monkeypatch.undo()
    monkeypatch.setattr(minutes, "time_steps", kill)
    run_id = finetune(config, pipeline.store)
    plan = json.loads(fetch_artifact(pipeline.store, run_id, "minutes.json").read_text())
    assert plan["lr"] == 0.005


def test_the_rate_follows_the_number_of_iterations():
    for optimiser, rows in minutes._RATES.items():
        for most, high in rows:
            assert choose_rate(optimiser, most, 1e-4) == high
            assert choose_rate(optimiser, most + 1, 1e-4) == 1e-4
    # A SAM keeps its own, however short its training is.
    assert choose_rate("adamw", 100, 1e-5) == 1e-5


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (FinetuneConfig(minutes=3, iterations=100), "minutes=3 and iterations=100"),
        (FinetuneConfig(minutes=3, snapshots="10"), "minutes=3 and snapshots=10"),
        (PretrainConfig(minutes=3, epoch_iterations=7), "epoch_iterations=7: leave out one"),
        (DomainAdaptConfig(minutes=0.5, schedule="plateau"), "received schedule=plateau: choose"),
        (BenchmarkConfig(minutes=3, iterations=50), "minutes=3 and iterations=50"),
    ],
)
def test_what_minutes_take_the_place_of_is_refused(config, named):
    with pytest.raises(BenchError) as error:
        check_minutes(config)
    assert named in str(error.value)


def test_minutes_without_time_for_an_iteration(pipeline, settings, monkeypatch):
    monkeypatch.setattr(minutes, "time_steps", lambda *arguments: 100.0)
    with pytest.raises(BenchError, match=r"suffice for an iteration, received 0.06: one takes 1e"):
        finetune(FinetuneConfig(**settings | {"seed": 2}), pipeline.store)


def test_each_training_of_a_grid_has_its_minutes(pipeline):
    config = BenchmarkConfig(
        dataset=str(pipeline.dataset),
        methods="scratch,da_finetuned,microsam_zero_shot,microsam_finetuned,detector_sam",
        structures="mito",
        seeds="0",
        minutes=3,
        microsam="iterations=7",
    )
    cells = make_grid(config, PreparedDataset.open(config.dataset))
    made = {cell.method.name: model_config(cell, config) for cell in cells}
    assert made["scratch"].minutes == made["da_finetuned"].minutes == 3
    adaptation, detector = (
        model_config(cell.adaptation, config) for cell in cells if cell.adaptation
    )
    assert adaptation.minutes == detector.minutes == 3
    assert detector.precision == "fp32"
    assert made["detector_sam"].minutes is None
    assert made["microsam_finetuned"].minutes is None
    assert made["microsam_finetuned"].iterations == 7


def test_nnunet_counts_its_iterations(pipeline):
    config = BenchmarkConfig(
        dataset=str(pipeline.dataset), methods="nnunet", structures="mito", seeds="0", minutes=3
    )
    (cell,) = make_grid(config, PreparedDataset.open(config.dataset))
    with pytest.raises(BenchError, match="nnunet counts its iterations, received minutes=3"):
        model_config(cell, config)
