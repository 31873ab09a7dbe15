"""Sections beside each other: the same image twice, or shifted neighbours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from bench.core.pixels import shrink_factor, shrink_image
from bench.dataset.prepared import UNLABELLED
from bench.ingest.inspection.findings import Finding
from bench.ingest.splits import may_share

_WINDOWS_PER_SIDE = 4
_WINDOW_PX = 32
# With fewer windows of any contrast two images cannot be told apart.
_FEWEST_WINDOWS = 4
# A copy has the noise of its original, a neighbour has its own. Mean correlation of the windows,
# at full resolution: neighbours of EPFL6, 5 nm apart, at most 0.83, of VNC and ISBI 2012, 50 nm
# apart, 0.29; JPEG copies of the same 0.936 (quality 50) to 0.999, and 0.98 or more with changed
# gamma, bit depth or a little noise.
_SURE_COPY = 0.999
_LIKELY_COPY = 0.95
# Images with less noise have neighbours that are more alike: a copy must differ less than they.
_COPY_DIFFERENCE = 1 / 3
# Between the splits of EPFL6, 130 nm apart or more, at most 0.18.
_NEIGHBOURS = 0.6
_SMALL_SIDE_PX = 512
# Neighbours of VNC correlate with 0.32 or more in every second pixel too, which takes a fraction
# of the time of a mean of four.
_SAMPLED_SIDE_PX = 512
# Of the longer side. Between aligned sections of VNC, 50 nm apart, tissue moves by 0.4 % at most.
_LEAST_SHIFT = 0.01
# A shift is believed if the sections then correlate, and clearly better than without it. True
# neighbours correlate with 0.35 (VNC) to 0.96 (EPFL6), others with less than 0.2.
_LEAST_CORRELATION = 0.2
_LEAST_GAIN = 0.15
# Of either side; with less in common, correlation says little.
_LEAST_OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Look:
    """How a section looks, in little memory.

    Attributes:
        name: Its name.
        split: Its split.
        file: Its file.
        shape: Height and width in px.
        content: Hash of its pixels.
        windows: Pixels of windows on a regular grid, each of mean 0 and length 1, or all 0 where
            it has no contrast (windows, px), float32.
    """

    name: str
    split: str
    file: str
    shape: tuple[int, int]
    content: str
    windows: np.ndarray


def take_windows(raw: np.ndarray) -> np.ndarray:
    """Takes the windows of a look from a section (y, x) of finite numbers."""
    side = max(1, min(_WINDOW_PX, *(length // _WINDOWS_PER_SIDE for length in raw.shape)))
    tops, lefts = (
        (np.arange(_WINDOWS_PER_SIDE) * 2 + 1) * length // (2 * _WINDOWS_PER_SIDE) - side // 2
        for length in raw.shape
    )
    corners = product(tops.clip(0), lefts.clip(0))
    taken = [raw[top : top + side, left : left + side] for top, left in corners]
    windows = np.array(taken, np.float64).reshape(_WINDOWS_PER_SIDE**2, -1)
    windows -= windows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(windows, axis=1, keepdims=True)
    return np.asarray(windows / np.where(lengths > 0, lengths, 1), np.float32)


def compare_looks(looks: Sequence[Look]) -> np.ndarray:
    """Correlates looks of one shape with each other (n, n); 0 where there is too little to see.

    The mean over the windows of the correlation; an inverted copy has -1.
    """
    windows = np.stack([look.windows for look in looks], axis=1)
    visible = np.asarray(windows.any(axis=2))
    total = np.zeros((len(looks), len(looks)), np.float32)
    counted = np.zeros_like(total)
    for window, seen in zip(windows, visible, strict=True):
        total += window @ window.T
        counted += seen[:, None] | seen[None, :]
    return np.where(counted >= _FEWEST_WINDOWS, total / np.maximum(counted, 1), 0)


def judge_looks(looks: Sequence[Look], rule: str) -> list[Finding]:
    """Finds copies, within a split and across splits, and splits that share neighbours.

    Args:
        looks: All sections that can be used, in their order.
        rule: By which they were split; some let an image be in two splits.
    """
    findings = []
    for shape in dict.fromkeys(look.shape for look in looks):
        alike = [look for look in looks if look.shape == shape]
        likeness = np.abs(compare_looks(alike))
        least = _least_likeness(alike, likeness)
        copied: set[int] = set()
        nearest: dict[tuple[str, str], tuple[float, Look, Look]] = {}
        for first, second in _close_pairs(likeness, alike):
            one, other, found = alike[first], alike[second], float(likeness[first, second])
            if one.split != other.split and may_share(rule, {one.split, other.split}):
                continue
            same = one.content == other.content
            if same or found >= least:
                # The third of three copies is a copy of the first; once is enough.
                if second not in copied:
                    findings.append(_report_copy(one, other, 1.0 if same else found))
                copied.add(second)
            elif one.split != other.split and UNLABELLED not in (one.split, other.split):
                key = (one.split, other.split)
                if key not in nearest or found > nearest[key][0]:
                    nearest[key] = (found, one, other)
        findings += [_report_neighbours(*nearest[key]) for key in nearest]
    return findings


def _close_pairs(likeness: np.ndarray, looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs of sections, the earlier first, that look alike or have the same pixels."""
    number = {look.content: place for place, look in enumerate(looks)}
    contents = np.array([number[look.content] for look in looks])
    close = (likeness >= _NEIGHBOURS) | (contents[:, None] == contents[None, :])
    for first, second in zip(*np.nonzero(np.triu(close, 1)), strict=True):
        yield int(first), int(second)


def _least_likeness(looks: Sequence[Look], likeness: np.ndarray) -> float:
    """The correlation from which sections are copies, by how alike neighbours are."""
    alike = np.diagonal(likeness, 1).tolist()
    pairs = zip(alike, pairwise(looks), strict=True)
    following = [found for found, (one, other) in pairs if one.split == other.split]
    usual = float(np.median(following)) if following else 0.0
    return min(_SURE_COPY, max(_LIKELY_COPY, 1 - _COPY_DIFFERENCE * (1 - usual)))


def _report_copy(first: Look, second: Look, likeness: float) -> Finding:
    across = first.split != second.split
    how = "the same pixels as" if likeness == 1 else f"a correlation of {likeness:.3f} with"
    return Finding(
        kind="leak" if across else "copy",
        fact=f"it has {how} {first.name}",
        remedy="remove one" + (", or scores mean nothing" if across else ""),
        split=second.split,
        section=second.name,
        file=second.file,
    )


def _report_neighbours(likeness: float, first: Look, second: Look) -> Finding:
    return Finding(
        kind="neighbours",
        fact=f"{first.name} and {second.name} correlate with {likeness:.2f}",
        remedy="keep whole runs of neighbours in one split, or scores are too good",
        split=f"{first.split} and {second.split}",
    )


@dataclass(frozen=True)
class Shift:
    """How a section lies to the one before.

    Attributes:
        y: Rows in px by which its content lies further down.
        x: Columns in px by which it lies further to the right.
        correlation: Of both as they are.
        after: Of what both show when the shift is undone.
        side: Longer side of the sections in px.
    """

    y: int
    x: int
    correlation: float
    after: float
    side: int

    @property
    def is_real(self) -> bool:
        """Whether the sections correlate so much better that they must be shifted."""
        moved = max(abs(self.y), abs(self.x)) >= _LEAST_SHIFT * self.side
        better = self.after >= max(_LEAST_CORRELATION, self.correlation + _LEAST_GAIN)
        return moved and better

    def undoes(self, other: "Shift") -> bool:
        """Whether it leads back from another shift."""
        away = max(abs(self.y + other.y), abs(self.x + other.x))
        return away < _LEAST_SHIFT * self.side


class Series:
    """Compares every section with the one before of the same series, which it keeps small."""

    def __init__(self) -> None:
        self.name: tuple[str, ...] = ()
        self.shape: tuple[int, ...] = ()
        self.small: np.ndarray | None = None

    def follow(self, name: tuple[str, ...], raw: np.ndarray | None) -> Shift | None:
        """Takes the next section; returns its shift, or None where there is nothing to compare.

        Args:
            name: What sections of a series have in common: split and region.
            raw: Its raw image (y, x); None if it cannot be used.
        """
        before, known = self.small, (self.name, self.shape)
        self.name, self.shape, self.small = name, (), None
        if raw is None:
            return None
        factor = shrink_factor(raw.shape, _SMALL_SIDE_PX)
        self.shape, self.small = raw.shape, np.asarray(shrink_image(raw, factor), np.float32)
        if before is None or known != (name, raw.shape):
            return None
        return estimate_shift(before, self.small, factor)


def estimate_shift(first: np.ndarray, second: np.ndarray, factor: int) -> Shift:
    """Estimates the shift from a section to the next.

    Args:
        first: Small copy (y, x) of a section.
        second: That of the next, of the same shape.
        factor: Pixels of the section in one of a copy.
    """
    height, width = first.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    spectra = [np.fft.rfft2((image - image.mean()) * window) for image in (first, second)]
    cross = spectra[1] * spectra[0].conj()
    magnitude = np.abs(cross)
    # A floor keeps frequencies without content from adding mere rounding errors.
    peaks = np.fft.irfft2(
        cross / np.maximum(magnitude, 1e-9 * magnitude.max() + 1e-30), (height, width)
    )
    y, x = (int(place) for place in np.unravel_index(int(peaks.argmax()), peaks.shape))
    y, x = y - height * (y > height // 2), x - width * (x > width // 2)
    return Shift(
        y=y * factor,
        x=x * factor,
        correlation=correlate_images(first, second),
        after=_correlate_shifted(first, second, y, x),
        side=max(height, width) * factor,
    )


def _correlate_shifted(first: np.ndarray, second: np.ndarray, y: int, x: int) -> float:
    """Correlates what two images show in common after a shift in px; 0 if that is little."""
    height, width = first.shape
    if abs(y) > (1 - _LEAST_OVERLAP) * height or abs(x) > (1 - _LEAST_OVERLAP) * width:
        return 0.0
    of_first = first[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    of_second = second[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
    return correlate_images(of_first, of_second)


def sample_pixels(raw: np.ndarray) -> np.ndarray:
    """Every few pixels (y, x) of a section, a view: enough to correlate it with a neighbour."""
    step = shrink_factor(raw.shape, _SAMPLED_SIDE_PX)
    return raw[::step, ::step]


def correlate_images(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two images; 0 where one has no contrast."""
    first, second = first - first.mean(dtype=float), second - second.mean(dtype=float)
    # Products of whole images take BLAS longer: its threads wait for each other.
    lengths = math.sqrt(float(np.square(first).sum()) * float(np.square(second).sum()))
    return float((first * second).sum()) / lengths if lengths > 0 else 0.0


def describe_shift(shift: Shift | None, before: Shift | None) -> str:
    """Says how a section is shifted against the one before; empty where it is not.

    The way back from a single section that is shifted says nothing new.

    Args:
        shift: Of the section to the one before; None where they cannot be compared.
        before: Of that one to the one before it.
    """
    if shift is None or not shift.is_real:
        return ""
    if before is not None and before.is_real and shift.undoes(before):
        return ""
    return (
        f"about {shift.y:+d} px in y and {shift.x:+d} px in x (correlation "
        f"{shift.correlation:.2f}, {shift.after:.2f} without the shift) against"
    )
