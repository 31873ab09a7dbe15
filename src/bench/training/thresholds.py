"""Which pseudo-labels are accepted where the user leaves the confidence to us."""

from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import BenchError
from bench.inference.device import Compute
from bench.training.mean_teacher import Probability
from bench.training.unlabelled import UnlabelledFeed

# The scores are those of so many batches, which training does not see again.
_BATCHES = 8
BINS = 1000
# Share of either side of 0.5 whose labels are accepted, at least.
_ACCEPTED_SHARE = 0.5
# Never stricter than the paper: surer pixels are accepted whatever their share.
_PAPER_CONFIDENCE = 0.9
# With a smaller share of pixels on one side of 0.5 a teacher does not tell two classes apart.
_SMALLEST_SIDE = 0.001


@dataclass(frozen=True)
class Thresholds:
    """Scores at which pixels of a channel are accepted.

    Attributes:
        lower: Pixels of at most this probability are background.
        upper: Pixels of at least this probability are foreground.
    """

    lower: float
    upper: float


class ThresholdLabeller:
    """Accepts pixels above a channel's upper threshold and below its lower one.

    The labels are the teacher's probabilities, as those of torch_em's labeller. With labels of 0
    and 1 validation Dice fell further in the trials that chose between them.
    """

    def __init__(self, thresholds: tuple[Thresholds, ...], device: torch.device) -> None:
        """Takes the thresholds of every channel."""
        shape = (1, len(thresholds), 1, 1)
        self.lower = torch.tensor([t.lower for t in thresholds], device=device).reshape(shape)
        self.upper = torch.tensor([t.upper for t in thresholds], device=device).reshape(shape)
        self.probability = Probability()

    def __call__(
        self, teacher: torch.nn.Module, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns labels and accepted pixels (0 or 1), both (batch, channels, y, x)."""
        scores = self.probability(teacher(image))
        return scores, ((scores >= self.upper) | (scores <= self.lower)).float()


def choose_thresholds(
    teacher: torch.nn.Module, feed: UnlabelledFeed, compute: Compute
) -> tuple[Thresholds, ...]:
    """Chooses the thresholds of every channel from the teacher's scores before training.

    Of the pixels on either side of 0.5 the surest half is accepted, or more where more are surer
    than 0.9. So there are labels of both kinds, also from a teacher that is never sure.

    Args:
        teacher: From images to logits, on the device; centred, see ``find_centres``.
        feed: What it is asked about.
        compute: Device and precision.
    """
    return tuple(part_scores(scores) for scores in count_scores(teacher, feed, compute))


def find_centres(
    teacher: torch.nn.Module, feed: UnlabelledFeed, compute: Compute
) -> tuple[float, ...]:
    """Finds the score of every channel that parts its foreground from its background.

    It is 0.5, unless hardly any pixel is on one of its sides: a model in another tissue may call
    nothing foreground and still rank the pixels well. Then it is Otsu's threshold.
    """
    return tuple(find_centre(scores) for scores in count_scores(teacher, feed, compute))


def shift_outputs(network: torch.nn.Module, centres: tuple[float, ...]) -> None:
    """Shifts a U-Net's logits so that the given probability of each channel becomes 0.5.

    Raises:
        BenchError: If the network does not end in the last convolution of a U-Net.
    """
    try:
        bias = network.get_parameter("out_conv.bias")
    except AttributeError as error:
        raise BenchError(
            "confidence=auto shifts the bias out_conv.bias of a network, this one has none: give "
            "confidence a number"
        ) from error
    with torch.no_grad():
        bias.sub_(torch.logit(torch.tensor(centres, dtype=bias.dtype, device=bias.device)))


@torch.inference_mode()
def count_scores(teacher: torch.nn.Module, feed: UnlabelledFeed, compute: Compute) -> np.ndarray:
    """Counts the teacher's probabilities on _BATCHES batches; (channels, BINS) of 0 to 1."""
    teacher.eval()
    probability, counts = Probability(), []
    layout = compute.memory_format(teacher, 4)
    for batch in range(_BATCHES):
        # Iterations that no training reaches.
        weak, _ = feed.batch(2**40 + batch)
        with compute.autocast():
            scores = probability(teacher(weak.contiguous(memory_format=layout)))
        channels = scores.transpose(0, 1).flatten(1).cpu()
        counts.append([torch.histc(channel, BINS, 0, 1).numpy() for channel in channels])
    return np.asarray(np.sum(counts, axis=0, dtype=np.int64))


def find_centre(histogram: np.ndarray) -> float:
    """Finds the score that parts the two classes in a histogram of scores from 0 to 1."""
    half = len(histogram) // 2
    sides = np.array([histogram[:half].sum(), histogram[half:].sum()])
    if sides.min() >= _SMALLEST_SIDE * histogram.sum() or np.count_nonzero(histogram) < 2:
        return 0.5
    return otsu_bin(histogram) / len(histogram)


def part_scores(histogram: np.ndarray) -> Thresholds:
    """Chooses the thresholds of a channel from the histogram of its scores, 0 to 1.

    Examples:
        >>> scores = np.zeros(1000, dtype=int)
        >>> scores[[20, 120, 640, 700]] = 400, 400, 100, 100  # never surer than 0.7
        >>> part_scores(scores)
        Thresholds(lower=0.1, upper=0.64)
    """
    bins, half = len(histogram), len(histogram) // 2
    lower, upper = round(1 - _PAPER_CONFIDENCE, 6), _PAPER_CONFIDENCE
    if histogram[:half].any():
        lower = max(lower, (_first_at(histogram[:half], _ACCEPTED_SHARE) + 1) / bins)
    if histogram[half:].any():
        upper = min(upper, (half + _first_at(histogram[half:], 1 - _ACCEPTED_SHARE)) / bins)
    return Thresholds(lower, upper)


def _first_at(histogram: np.ndarray, share: float) -> int:
    """The first bin at which a share of the counts is reached."""
    return int(np.searchsorted(np.cumsum(histogram), share * histogram.sum(), side="left"))


def otsu_bin(histogram: np.ndarray) -> int:
    """The first bin of the upper class of Otsu's method; there is a count in both classes."""
    counts = histogram.astype(np.float64)
    centres = np.arange(len(counts))
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.nan_to_num(below * above * gap**2)
    return int(np.argmax(between)) + 1
