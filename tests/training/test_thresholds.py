import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.checkpoint import build_model
from bench.training.augment import StrongView
from bench.training.thresholds import (
    BINS,
    ThresholdLabeller,
    Thresholds,
    choose_thresholds,
    count_scores,
    find_centre,
    find_centres,
    otsu_bin,
    part_scores,
    shift_outputs,
)
from bench.training.unlabelled import UnlabelledFeed, UnlabelledSettings

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")


def histogram(**counts):
    """Counts by score in thousandths: ``s20=400``."""
    scores = np.zeros(BINS, dtype=int)
    for name, count in counts.items():
        scores[int(name[1:])] = count
    return scores


@pytest.mark.parametrize(
    ("counts", "lower", "upper"),
    [
        # A sure teacher: the paper's thresholds, which accept nearly all.
        ({"s10": 900, "s990": 100}, 0.1, 0.9),
        # Never sure: the surer half of either side.
        ({"s300": 400, "s400": 400, "s600": 100, "s700": 100}, 0.301, 0.6),
        ({"s300": 400, "s400": 500, "s600": 90, "s700": 110}, 0.401, 0.7),
        # Sure of background only.
        ({"s10": 900, "s600": 50, "s800": 50}, 0.1, 0.6),
        # One side is empty.
        ({"s300": 10}, 0.301, 0.9),
        ({"s700": 10}, 0.1, 0.7),
    ],
)
def test_thresholds(counts, lower, upper):
    assert part_scores(histogram(**counts)) == Thresholds(lower, upper)


def test_the_centre_is_a_half_where_there_is_anything_on_both_sides():
    assert find_centre(histogram(s10=997, s600=3)) == 0.5
    assert find_centre(histogram(s900=997, s400=3)) == 0.5


def test_the_centre_parts_the_scores_where_all_are_on_one_side():
    assert 0.02 < find_centre(histogram(s10=700, s20=200, s300=80, s310=20)) <= 0.3
    assert 0.62 < find_centre(histogram(s600=100, s620=100, s900=800)) <= 0.9
    assert find_centre(histogram(s10=1000)) == 0.5


def test_otsu_against_scikit_image():
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0.05, 0.02, 9000), rng.normal(0.3, 0.05, 1000)]).clip(0, 1)
    counts, _ = np.histogram(scores, BINS, (0, 1))
    expected = threshold_otsu(hist=(counts, np.arange(BINS)))
    assert otsu_bin(counts) == expected + 1


@pytest.fixture(scope="module")
def feed():
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    return UnlabelledFeed([image], UnlabelledSettings(32, 2, StrongView(0, 0, 0), 0), CPU)


@pytest.fixture
def network():
    """Two channels that call nothing foreground and everything foreground."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 2, "features": 4}
    network = build_model("unet2d", arguments)
    with torch.no_grad():
        network.out_conv.bias.copy_(torch.tensor([-6.0, 6.0]))
    return network


def test_a_network_that_calls_nothing_foreground_is_shifted(network, feed):
    before = count_scores(network, feed, FP32)
    assert before[0, 500:].sum() == before[1, :500].sum() == 0
    centres = find_centres(network, feed, FP32)
    assert 0 < centres[0] < 0.1 < 0.9 < centres[1] < 1
    shift_outputs(network, centres)
    after = count_scores(network, feed, FP32)
    assert after.sum() == before.sum()
    for channel in after:
        assert 0.05 < channel[500:].sum() / channel.sum() < 0.95
    for thresholds in choose_thresholds(network, feed, FP32):
        assert 0 < thresholds.lower < 0.5 <= thresholds.upper < 1


def test_a_shift_by_a_half_changes_nothing(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shift_outputs(network, (0.5, 0.5))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_labels_are_the_teachers_probabilities():
    probabilities = torch.tensor([[0.1, 0.3, 0.6, 0.8], [0.1, 0.3, 0.6, 0.8]]).reshape(1, 2, 2, 2)
    labeller = ThresholdLabeller((Thresholds(0.2, 0.7), Thresholds(0.4, 0.9)), CPU)
    labels, accepted = labeller(lambda image: torch.logit(image), probabilities)
    torch.testing.assert_close(labels, probabilities)
    assert accepted.flatten().tolist() == [1, 0, 0, 1, 1, 1, 0, 0]


def test_another_network_cannot_be_shifted():
    with pytest.raises(BenchError, match=r"this one has none: give confidence a number"):
        shift_outputs(torch.nn.Conv2d(1, 1, 3), (0.5,))
