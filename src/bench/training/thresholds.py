"""Which pseudo-labels are accepted where the user leaves the confidence to us."""

from dataclasses import dataclass

import numpy as np
import torch

from bench.inference.device import Compute
from bench.models.self_training import Probability
from bench.training.unlabelled import UnlabelledFeed

# The scores are those of so many batches, which training does not see again.
BATCHES = 8
BINS = 1000
# Share of either side whose scores are accepted, at least.
ACCEPTED_SHARE = 0.5
# Never stricter than the paper: surer pixels are accepted whatever their share.
PAPER_CONFIDENCE = 0.9
# A side is a class if it has this share of the pixels; else Otsu's threshold parts the scores.
SMALLEST_SIDE = 0.005


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
    """Labels pixels 1 above a channel's upper threshold, and 0 below its lower one.

    The labels are hard: where the teacher is unsure on foreground throughout, its own
    probabilities as labels would keep the student as unsure.
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
        """Returns labels and accepted pixels, 0 or 1, (batch, channels, y, x)."""
        scores = self.probability(teacher(image))
        foreground = scores >= self.upper
        return foreground.float(), (foreground | (scores <= self.lower)).float()


def choose_thresholds(
    teacher: torch.nn.Module, feed: UnlabelledFeed, compute: Compute
) -> tuple[Thresholds, ...]:
    """Chooses the thresholds of every channel from the teacher's scores before training.

    The scores are parted at 0.5 into foreground and background. Of either side the surest half
    is accepted, or more where more are surer than 0.9: so there are always labels of both, also
    from a teacher that is never sure. Where hardly any score is on one side of 0.5 the scores
    are parted by Otsu's method instead: the teacher still ranks the pixels.

    Args:
        teacher: From images to logits, on the device.
        feed: What it is asked about.
        compute: Device and precision.
    """
    histograms = count_scores(teacher, feed, compute)
    return tuple(part_scores(histogram) for histogram in histograms)


@torch.inference_mode()
def count_scores(teacher: torch.nn.Module, feed: UnlabelledFeed, compute: Compute) -> np.ndarray:
    """Counts the teacher's probabilities on BATCHES batches; (channels, BINS) of 0 to 1."""
    teacher.eval()
    probability, counts = Probability(), []
    for batch in range(BATCHES):
        # Iterations that no training reaches.
        weak, _ = feed.batch(2**40 + batch)
        with compute.autocast():
            scores = probability(teacher(weak.contiguous(memory_format=torch.channels_last)))
        channels = scores.transpose(0, 1).flatten(1).cpu()
        counts.append([torch.histc(channel, BINS, 0, 1).numpy() for channel in channels])
    return np.asarray(np.sum(counts, axis=0, dtype=np.int64))


def part_scores(histogram: np.ndarray) -> Thresholds:
    """Chooses the thresholds of a channel from the histogram of its scores, 0 to 1.

    Examples:
        >>> scores = np.zeros(1000, dtype=int)
        >>> scores[[20, 120, 640, 700]] = 400, 400, 100, 100  # never surer than 0.7
        >>> part_scores(scores)
        Thresholds(lower=0.1, upper=0.64)
    """
    bins, half = len(histogram), len(histogram) // 2
    shares = np.array([histogram[:half].sum(), histogram[half:].sum()]) / histogram.sum()
    if shares.min() >= SMALLEST_SIDE:
        below, above = histogram[:half], histogram[half:]
        lower = (first_at(below, ACCEPTED_SHARE) + 1) / bins
        upper = (half + first_at(above, 1 - ACCEPTED_SHARE)) / bins
        return Thresholds(max(lower, round(1 - PAPER_CONFIDENCE, 6)), min(upper, PAPER_CONFIDENCE))
    split = otsu_bin(histogram)
    lower = (first_at(histogram[:split], ACCEPTED_SHARE) + 1) / bins
    upper = (split + first_at(histogram[split:], 1 - ACCEPTED_SHARE)) / bins
    return Thresholds(lower, upper)


def first_at(histogram: np.ndarray, share: float) -> int:
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
