import copy
import math

import numpy as np
import pytest
import torch
from torch_em.model import UNet2d
from torch_em.self_training import (
    DefaultPseudoLabeler,
    DefaultSelfTrainingLoss,
    DefaultSelfTrainingLossAndMetric,
    MeanTeacherTrainer,
)

from bench.inference.device import Compute
from bench.models.checkpoint import build_model
from bench.training.augment import StrongView
from bench.training.loop import LoopSettings, Reports, make_trainee, train
from bench.training.mean_teacher import (
    MeanTeacher,
    describe_batch,
    make_pseudo_labeller,
    make_self_training_loss,
    self_training,
)
from bench.training.thresholds import ThresholdLabeller, choose_thresholds
from bench.training.unlabelled import UnlabelledFeed, UnlabelledSettings

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")
BATCHES, CONFIDENCE, EMA, LR = 7, 0.55, 0.9, 1e-2
SETTINGS = LoopSettings(BATCHES, 3, 1, LR, "plateau", 0.5, 100, "adam")


@pytest.fixture(scope="module")
def feed():
    images = [np.random.default_rng(i).integers(0, 255, (48, 56)).astype(np.uint8) for i in (0, 1)]
    settings = UnlabelledSettings(32, 2, StrongView(0.1, 1.0, 0.3), seed=5)
    return UnlabelledFeed(images, settings, CPU)


def make_network(feed, outputs=1):
    """Random weights, whose scores spread around 0.5."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": outputs, "depth": 2, "features": 4}
    network = build_model("unet2d", arguments)
    with torch.no_grad():
        logits = network(feed.batch(0)[0]).transpose(0, 1).flatten(1)
        network.out_conv.weight.mul_(2)
        network.out_conv.bias.copy_(2 * (network.out_conv.bias - logits.median(1).values))
    return network


class Session:
    """One process that adapts; ``stop`` is the iteration at which it dies."""

    def __init__(self, feed, network, labeller, stop=None):
        teacher = copy.deepcopy(network)
        self.trainee = make_trainee(network, SETTINGS, FP32, teacher=teacher)
        self.pair = MeanTeacher(network, teacher, labeller, EMA)
        self.objective = self_training(self.pair, feed, FP32)
        self.stop, self.numbers = stop, {}

    def on_iteration(self, iteration, numbers):
        self.numbers[iteration] = numbers
        if iteration == self.stop:
            raise InterruptedError

    def run(self, path):
        reports = Reports(
            self.on_iteration, lambda network: 0.0, lambda *args: None, lambda iteration: None
        )
        train(self.trainee, self.objective, SETTINGS, state_file=path, reports=reports)
        return self


def tensors(network):
    return network.state_dict().values()


def adapt_with_torch_em(feed, network, folder):
    """The same network, batches and settings, with torch_em's own trainer."""
    theirs = UNet2d(1, 1, depth=2, initial_features=4, final_activation="Sigmoid")
    theirs.load_state_dict(network.state_dict())
    patches = [pair for i in range(BATCHES) for pair in zip(*feed.batch(i), strict=True)]
    loader = torch.utils.data.DataLoader(patches, batch_size=feed.settings.batch_size)
    loader.shuffle = False
    trainer = MeanTeacherTrainer(
        name="theirs",
        save_root=str(folder),
        model=theirs,
        unsupervised_train_loader=loader,
        unsupervised_val_loader=loader,
        unsupervised_loss=DefaultSelfTrainingLoss(),
        unsupervised_loss_and_metric=DefaultSelfTrainingLossAndMetric(),
        pseudo_labeler=DefaultPseudoLabeler(confidence_threshold=CONFIDENCE),
        momentum=EMA,
        optimizer=torch.optim.Adam(theirs.parameters(), lr=LR),
        device="cpu",
        mixed_precision=False,
        compile_model=False,
        logger=None,
    )
    trainer.fit(iterations=BATCHES)
    return trainer


def test_it_is_torch_em_s_mean_teacher(feed, tmp_path):
    network = make_network(feed)
    start = copy.deepcopy(network)
    theirs = adapt_with_torch_em(feed, network, tmp_path)
    ours = Session(feed, network, make_pseudo_labeller(CONFIDENCE)).run(tmp_path / "state")
    shares = [numbers["accepted"] for numbers in ours.numbers.values()]
    assert all(0.05 < share < 0.95 for share in shares)
    for mine, other in ((ours.pair.student, theirs.model), (ours.pair.teacher, theirs.teacher)):
        for name, tensor in mine.state_dict().items():
            assert (tensor - start.state_dict()[name]).abs().max() > 1e-3
            # They feed another layout, whose kernels add up in another order: by up to 2e-4 on one
            # kind of CPU, of weights that move by 2e-2.
            # An InstanceNorm undoes the samplers' biases: their gradients are mere rounding, which
            # Adam makes steps of.
            if "samplers" not in name or "bias" not in name:
                torch.testing.assert_close(
                    tensor, other.state_dict()[name], rtol=0, atol=5e-4, msg=name
                )


@pytest.mark.parametrize("stops", [[1], [2, 3, 6]])
@pytest.mark.parametrize("auto", [False, True])
def test_stops_leave_no_trace(feed, tmp_path, stops, auto):
    def session(stop=None):
        network = make_network(feed, outputs=2)
        labeller = make_pseudo_labeller(CONFIDENCE)
        if auto:
            labeller = ThresholdLabeller(choose_thresholds(network, feed, FP32), CPU)
        return Session(feed, network, labeller, stop)

    straight = session().run(tmp_path / "straight")
    for stop in stops:
        with pytest.raises(InterruptedError):
            session(stop).run(tmp_path / "pieces")
    pieces = session().run(tmp_path / "pieces")
    for name in ("student", "teacher"):
        for a, b in zip(
            tensors(getattr(straight.pair, name)), tensors(getattr(pieces.pair, name)), strict=True
        ):
            assert torch.equal(a, b)
    for iteration, numbers in pieces.numbers.items():
        timed = ("images_per_second", "data_wait_fraction", "seconds", "elapsed_s")
        assert {k: v for k, v in numbers.items() if k not in timed} == {
            k: v for k, v in straight.numbers[iteration].items() if k not in timed
        }


def test_nothing_accepted_is_a_constant_loss_that_teaches_nothing(feed):
    """What upstream does silently; the numbers are there to be seen."""
    network = make_network(feed, outputs=2)
    session = Session(feed, network, make_pseudo_labeller(1.0))
    value, numbers = session.objective.compute(0)
    value.backward()
    assert value.item() == 2.0
    assert all(not p.grad.any() for p in network.parameters() if p.grad is not None)
    assert numbers["accepted"] == numbers["accepted_foreground"] == 0


def test_auto_learns_where_nothing_is_that_sure(feed, tmp_path):
    network = make_network(feed)
    with torch.no_grad():
        network.out_conv.weight.mul_(0.1)
        network.out_conv.bias.mul_(0.1)
    sure = Session(feed, copy.deepcopy(network), make_pseudo_labeller(0.9)).run(tmp_path / "a")
    assert {numbers["accepted"] for numbers in sure.numbers.values()} == {0}
    for a, b in zip(tensors(sure.pair.student), tensors(network), strict=True):
        assert torch.equal(a, b)
    labeller = ThresholdLabeller(choose_thresholds(network, feed, FP32), CPU)
    auto = Session(feed, copy.deepcopy(network), labeller).run(tmp_path / "b")
    for numbers in auto.numbers.values():
        assert numbers["accepted"] > 0.3
        assert numbers["accepted_foreground"] > 0
    assert any(
        not torch.equal(a, b)
        for a, b in zip(tensors(auto.pair.teacher), tensors(network), strict=True)
    )


def test_the_teacher_follows(feed):
    session = Session(feed, make_network(feed), make_pseudo_labeller(CONFIDENCE))
    before = [p.clone() for p in session.pair.teacher.parameters()]
    with torch.no_grad():
        for parameter in session.pair.student.parameters():
            parameter.add_(1)
    session.objective.after_step()
    for old, new in zip(before, session.pair.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + (1 - EMA))
        assert not new.requires_grad


def test_numbers_of_a_batch():
    labels = torch.tensor([0.95, 0.7, 0.05, 0.3]).reshape(1, 1, 2, 2)
    accepted = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    logits = torch.tensor([2.0, -1.0, 1.0, -1.0]).reshape(1, 1, 2, 2)
    assert describe_batch(labels, accepted, logits, 0) == {
        "accepted": 0.5,
        "accepted_foreground": 0.5,
        "pseudo_foreground": 0.5,
        "agreement": 0.5,
    }
    nothing = describe_batch(labels * 0, accepted * 0, logits - 5, 0)
    assert nothing == {
        "accepted": 0.0,
        "accepted_foreground": 0.0,
        "pseudo_foreground": 0.0,
        "agreement": 1.0,
    }


def test_bf16_labels_are_not_rounded():
    logits = torch.tensor([8.0], dtype=torch.bfloat16).reshape(1, 1, 1, 1)
    labels, accepted = make_pseudo_labeller(0.9)(lambda image: logits, logits)
    assert float(labels) == pytest.approx(1 / (1 + math.exp(-8)), rel=1e-6)
    assert float(accepted) == 1
    value = make_self_training_loss()(lambda image: logits, logits, labels, accepted)
    assert value.dtype == torch.float32
