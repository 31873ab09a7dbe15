import json
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.tiles import predict_sections
from bench.methods import OPTIMISERS, SCHEDULES
from bench.models.checkpoint import build_model
from bench.training import loop
from bench.training.augment import Augmentation
from bench.training.loop import (
    LoopSettings,
    Progress,
    Reports,
    cosine_rate,
    load_state,
    make_trainee,
    one_cycle_rate,
    polynomial_rate,
    train,
)
from bench.training.objectives import make_loss, supervised
from bench.training.patches import PatchFeed, PatchSettings

CPU = torch.device("cpu")
ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 2}
SETTINGS = LoopSettings(
    iterations=23,
    epoch_iterations=5,
    checkpoint_iterations=3,
    lr=1e-2,
    schedule="plateau",
    plateau_factor=0.5,
    plateau_patience=0,
    optimiser="adam",
)


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def section():
    rng = np.random.default_rng(0)
    labels = (rng.random((64, 64)) < 0.2).astype(np.uint8)
    return rng.normal(100, 10, labels.shape) + 40 * labels, labels


@pytest.fixture(scope="module")
def feed(section):
    augmentation = Augmentation(rotate=True, flip=True, elastic_px=2, noise=0.1)
    return PatchFeed([section], PatchSettings(32, 2, 0.5, augmentation, seed=3), CPU)


class Session:
    """One process that trains: what it saw, and where to stop it."""

    def __init__(self, feed, section, state_file, settings=SETTINGS, compute=None, stop=None):
        self.feed, self.section, self.state_file = feed, section, state_file
        self.settings, self.compute = settings, compute or Compute(CPU, "fp32")
        self.stop = stop
        self.events, self.numbers, self.scores = [], {}, {}
        torch.manual_seed(0)
        self.trainee = make_trainee(build_model("unet2d", ARGUMENTS), settings, self.compute)

    def on_iteration(self, iteration, numbers):
        assert self.trainee.network.training
        self.numbers[iteration] = (numbers["loss"], numbers["lr"])
        assert 0 < numbers["data_wait_fraction"] < 1
        if self.stop == ("iteration", iteration):
            raise StoppedError

    def validate(self, network):
        raw, labels = self.section
        (probability,) = predict_sections(
            network, [raw], tile_px=32, halo_px=16, compute=self.compute
        )
        # Rounded, so that scores tie and stall.
        return round(1 - float(np.abs(probability[0] / 255 - labels).mean()), 2)

    def on_epoch(self, iteration, score, best):
        self.events.append(("epoch", iteration))
        self.scores[iteration] = (score, best)
        if self.stop == ("epoch", iteration):
            raise StoppedError

    def on_saving(self, iteration):
        self.events.append(("saving", iteration))
        if self.stop == ("saving", iteration):
            raise StoppedError

    def run(self):
        loss = make_loss("focal_dice", gamma=2, foreground_weight=5)
        self.progress = train(
            self.trainee,
            supervised(self.trainee.network, self.feed, loss, self.compute),
            self.settings,
            state_file=self.state_file,
            reports=Reports(self.on_iteration, self.validate, self.on_epoch, self.on_saving),
        )
        return self


def train_in_pieces(feed, section, state_file, settings, stops, compute=None):
    """Trains in one session for each stop, and a last one that ends."""
    for stop in stops:
        with pytest.raises(StoppedError):
            Session(feed, section, state_file, settings, compute, stop).run()
    return Session(feed, section, state_file, settings, compute).run()


def assert_same_end(one, other):
    for name, tensor in one.trainee.network.state_dict().items():
        assert torch.equal(other.trainee.network.state_dict()[name], tensor), name
    states = [s.trainee.optimizer.state_dict() for s in (one, other)]
    groups = [json.loads(json.dumps(s["param_groups"])) for s in states]
    assert groups[0] == groups[1]
    for index, moments in states[0]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(states[1]["state"][index][name], tensor), (index, name)
    if one.trainee.plateau:
        assert one.trainee.plateau.state_dict() == other.trainee.plateau.state_dict()
    assert one.trainee.scaler.state_dict() == other.trainee.scaler.state_dict()
    kept = [(p.iteration, p.best_score, p.best_iteration) for p in (one.progress, other.progress)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("schedule", "optimiser"),
    [
        *((schedule, "adam") for schedule in SCHEDULES),
        *(("plateau", optimiser) for optimiser in OPTIMISERS if optimiser != "adam"),
    ],
)
@pytest.mark.parametrize(
    "stops",
    [
        [("iteration", 1)],
        [("iteration", 4), ("iteration", 5), ("epoch", 5), ("iteration", 11), ("saving", 12)],
        [("saving", 3), ("epoch", 15), ("epoch", 15), ("iteration", 23), ("epoch", 23)],
    ],
)
def test_stops_leave_no_trace(feed, section, tmp_path, schedule, optimiser, stops):
    settings = replace(SETTINGS, schedule=schedule, optimiser=optimiser)
    straight = Session(feed, section, tmp_path / "straight", settings).run()
    pieces = train_in_pieces(feed, section, tmp_path / "pieces", settings, stops)
    assert_same_end(straight, pieces)
    assert pieces.numbers == {i: straight.numbers[i] for i in pieces.numbers}
    assert pieces.scores == {i: straight.scores[i] for i in pieces.scores}
    assert pieces.progress.iteration == 23


def test_the_test_can_fail(feed, section, tmp_path):
    """Another batch at a single iteration, and the weights at the end are others."""
    straight = Session(feed, section, tmp_path / "straight").run()
    with pytest.raises(StoppedError):
        Session(feed, section, tmp_path / "pieces", stop=("iteration", 20)).run()
    other = PatchFeed([section], replace(feed.settings, seed=4), CPU)
    resumed = Session(other, section, tmp_path / "pieces").run()
    with pytest.raises(AssertionError):
        assert_same_end(straight, resumed)


def test_plateau_has_lowered_the_rate(feed, section, tmp_path):
    """Else the rates of the test above would be trivially equal."""
    rates = [lr for _, lr in Session(feed, section, tmp_path / "s").run().numbers.values()]
    assert rates[0] == 1e-2
    assert rates[-1] < 1e-2


def test_cosine_falls_from_lr_to_zero(feed, section, tmp_path):
    settings = replace(SETTINGS, schedule="cosine")
    numbers = Session(feed, section, tmp_path / "s", settings).run().numbers
    rates = [lr for _, lr in numbers.values()]
    assert rates == [cosine_rate(1e-2, i, 23) for i in range(23)]
    assert rates[0] == 1e-2
    assert all(earlier > later > 0 for earlier, later in pairwise(rates))
    assert cosine_rate(1e-2, 23, 23) == pytest.approx(0)


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 10, 23, 1000])
@pytest.mark.parametrize(
    ("rate", "torchs"),
    [
        (cosine_rate, lambda optimizer, n: lr_scheduler.CosineAnnealingLR(optimizer, n)),
        (polynomial_rate, lambda optimizer, n: lr_scheduler.PolynomialLR(optimizer, n, 0.9)),
        (
            one_cycle_rate,
            lambda optimizer, n: lr_scheduler.OneCycleLR(
                optimizer, 0.01, total_steps=n, cycle_momentum=False
            ),
        ),
    ],
)
def test_a_schedule_is_torchs(rate, torchs, iterations):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    schedule = torchs(optimizer, iterations)
    expected = []
    for _ in range(iterations):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < iterations:
            schedule.step()
    found = [rate(0.01, iteration, iterations) for iteration in range(iterations)]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", ["polynomial", "onecycle"])
def test_a_schedule_sets_the_rate_of_every_iteration(feed, section, tmp_path, schedule):
    settings = replace(SETTINGS, schedule=schedule)
    numbers = Session(feed, section, tmp_path / "s", settings).run().numbers
    rate = {"polynomial": polynomial_rate, "onecycle": one_cycle_rate}[schedule]
    assert [lr for _, lr in numbers.values()] == [rate(1e-2, i, 23) for i in range(23)]


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", partial(torch.optim.SGD, momentum=0.9)),
    ],
)
def test_an_optimiser_is_torchs(name, torchs):
    ours, theirs = (torch.nn.Linear(2, 1) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    settings = replace(SETTINGS, optimiser=name)
    optimizers = (
        make_trainee(ours, settings, Compute(CPU, "fp32")).optimizer,
        torchs(theirs.parameters(), lr=1e-2),
    )
    before = ours.weight.detach().clone()
    for step in range(3):
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (network.weight.square().sum() * (step + 1)).backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert not torch.equal(ours.weight, before)


def test_order_of_reports(feed, section, tmp_path):
    """Every report comes before the state that counts it as done."""
    session = Session(feed, section, tmp_path / "s").run()
    epochs = {5, 10, 15, 20, 23}
    expected = []
    for i in range(1, 24):
        expected += [("epoch", i)] if i in epochs else []
        expected += [("saving", i)] if i in epochs or i % 3 == 0 else []
    assert session.events == expected
    assert list(session.numbers) == list(range(1, 24))
    with pytest.raises(StoppedError):
        Session(feed, section, tmp_path / "t", stop=("saving", 3)).run()
    assert not (tmp_path / "t").exists()


def test_best_is_the_first_highest_score(feed, section, tmp_path):
    session = Session(feed, section, tmp_path / "s").run()
    highest = -1.0
    for score, best in session.scores.values():
        assert best == (score > highest)
        highest = max(highest, score)
    assert session.progress.best_score == highest
    assert session.scores[session.progress.best_iteration] == (highest, True)


def test_a_finished_training_is_not_repeated(feed, section, tmp_path):
    first = Session(feed, section, tmp_path / "s").run()
    again = Session(feed, section, tmp_path / "s").run()
    assert again.numbers == {}
    assert again.events == []
    assert_same_end(first, again)


def test_training_learns(feed, section, tmp_path):
    settings = replace(SETTINGS, iterations=150, epoch_iterations=150, schedule="cosine")
    numbers = Session(feed, section, tmp_path / "s", settings).run().numbers
    losses = [loss for loss, _ in numbers.values()]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])


def test_fp16_scaler_goes_on_where_it_was(feed, section, tmp_path, monkeypatch):
    """A scale that overflows at first, and grows again every other iteration."""
    compute = Compute(CPU, "fp16")
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**20, growth_interval=2)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    straight = Session(feed, section, tmp_path / "straight", compute=compute).run()
    scales = straight.trainee.scaler.state_dict()
    assert scales["scale"] < 2.0**20
    skipped = 23 - int(straight.trainee.optimizer.state_dict()["state"][0]["step"])
    assert skipped > 0
    stops = [("iteration", 2), ("iteration", 7), ("epoch", 15)]
    pieces = train_in_pieces(feed, section, tmp_path / "pieces", SETTINGS, stops, compute)
    assert_same_end(straight, pieces)


def test_bf16_leaves_no_trace_either(feed, section, tmp_path):
    compute = Compute(CPU, "bf16")
    straight = Session(feed, section, tmp_path / "straight", compute=compute).run()
    stops = [("iteration", 8), ("epoch", 20)]
    pieces = train_in_pieces(feed, section, tmp_path / "pieces", SETTINGS, stops, compute)
    assert_same_end(straight, pieces)


@pytest.mark.parametrize(("layout", "last"), [(None, True), ("contiguous", False)])
def test_the_layout_is_that_of_training_and_inference(feed, section, tmp_path, layout, last):
    settings = replace(SETTINGS, iterations=1, epoch_iterations=1)
    session = Session(feed, section, tmp_path / "s", settings, Compute(CPU, "fp32", layout))
    seen = {True: set(), False: set()}

    def look(part, given, _):
        seen[part.training].add(given[0].is_contiguous(memory_format=torch.channels_last))

    for part in session.trainee.network.modules():
        # Of one channel both layouts are the same.
        if isinstance(part, torch.nn.InstanceNorm2d) and part.num_features > 1:
            part.register_forward_hook(look)
    session.run()
    assert seen == {True: {last}, False: {last}}


@pytest.mark.parametrize("batch", [1, 2])
def test_torchs_norms_have_right_gradients_in_the_layout_of_training(batch):
    """Of a single image in channels_last torch's own are wrong, see models/test_instance_norm."""
    found = []
    for layout in ("contiguous", "channels_last"):
        torch.manual_seed(0)
        first, second = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 2, 3)
        network = torch.nn.Sequential(first, torch.nn.InstanceNorm2d(8), second)
        compute = Compute(CPU, "fp32", layout)
        make_trainee(network, SETTINGS, compute)
        images = torch.randn(batch, 3, 64, 64).to(memory_format=compute.memory_format(network, 4))
        (network(images) * torch.randn(batch, 2, 60, 60)).sum().backward()
        found.append(first.weight.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(feed, section, tmp_path, bad):
    with pytest.raises(StoppedError):
        Session(feed, section, tmp_path / "s", stop=("iteration", 8)).run()
    saved = (tmp_path / "s").read_bytes()
    session = Session(feed, section, tmp_path / "s")
    load_state(tmp_path / "s", session.trainee)
    reports = Reports(session.on_iteration, session.validate, session.on_epoch, session.on_saving)
    with pytest.raises(BenchError, match=f"is {bad} after 6 iterations: lower lr .now 0.01.") as e:
        train(
            session.trainee,
            supervised(
                session.trainee.network,
                feed,
                lambda logits, target: logits.square().sum() * bad,
                session.compute,
            ),
            SETTINGS,
            state_file=tmp_path / "s",
            reports=reports,
        )
    assert "\n" not in str(e.value)
    assert (tmp_path / "s").read_bytes() == saved
    assert session.numbers == {}


def test_an_interrupted_save_leaves_the_old_state(feed, section, tmp_path, monkeypatch):
    with pytest.raises(StoppedError):
        Session(feed, section, tmp_path / "s", stop=("iteration", 8)).run()
    saved = (tmp_path / "s").read_bytes()

    def fail_half_way(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(loop, "save_file", fail_half_way)
    with pytest.raises(OSError, match="no space"):
        Session(feed, section, tmp_path / "s").run()
    monkeypatch.undo()
    assert (tmp_path / "s").read_bytes() == saved
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    straight = Session(feed, section, tmp_path / "straight").run()
    assert_same_end(straight, Session(feed, section, tmp_path / "s").run())


def test_state_keeps_the_time_of_all_sessions(feed, section, tmp_path):
    session = Session(feed, section, tmp_path / "s").run()
    assert 0 < session.progress.elapsed_s < 60
    loop.save_state(tmp_path / "s", session.trainee, Progress(iteration=20, elapsed_s=1000.0))
    resumed = Session(feed, section, tmp_path / "s").run()
    assert 1000 < resumed.progress.elapsed_s < 1060


@pytest.mark.parametrize(
    ("optimiser", "given", "expected"),
    [("adam", None, 0.0), ("adamw", None, 0.01), ("adamw", 0.1, 0.1), ("sgd", 1e-4, 1e-4)],
)
def test_weights_decay_as_is_said_or_as_torch_does(optimiser, given, expected):
    settings = replace(SETTINGS, optimiser=optimiser, weight_decay=given)
    trainee = make_trainee(torch.nn.Conv2d(1, 1, 1), settings, Compute(CPU, "fp32"))
    assert trainee.optimizer.param_groups[0]["weight_decay"] == expected
