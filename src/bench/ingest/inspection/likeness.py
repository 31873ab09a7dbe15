"""Sections that are the same image: a look at sixteen small windows of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.dataset.splits import UNLABELLED
from bench.ingest.inspection.findings import Finding
from bench.ingest.writing import may_share

WINDOWS_PER_SIDE = 4
WINDOW_PX = 32
# With fewer windows of any contrast two images cannot be told apart.
FEWEST_WINDOWS = 4
# A copy has the noise of its original, a neighbour has its own. Mean correlation of the windows,
# at full resolution: neighbours of EPFL6, 5 nm apart, at most 0.83, of VNC and ISBI 2012, 50 nm
# apart, 0.29; JPEG copies of the same 0.936 (quality 50) to 0.999, and 0.98 or more with changed
# gamma, bit depth or a little noise.
SURE_COPY = 0.999
LIKELY_COPY = 0.95
# Images with less noise have neighbours that are more alike: a copy must differ less than they.
COPY_DIFFERENCE = 1 / 3
# Between the splits of EPFL6, 130 nm apart or more, at most 0.18.
NEIGHBOURS = 0.6


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
    side = max(1, min(WINDOW_PX, *(length // WINDOWS_PER_SIDE for length in raw.shape)))
    tops, lefts = (
        (np.arange(WINDOWS_PER_SIDE) * 2 + 1) * length // (2 * WINDOWS_PER_SIDE) - side // 2
        for length in raw.shape
    )
    windows = np.array(
        [
            raw[top : top + side, left : left + side]
            for top in tops.clip(0)
            for left in lefts.clip(0)
        ],
        np.float64,
    ).reshape(WINDOWS_PER_SIDE**2, -1)
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
    return np.where(counted >= FEWEST_WINDOWS, total / np.maximum(counted, 1), 0)


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
        least = least_likeness(alike, likeness)
        copied: set[int] = set()
        nearest: dict[tuple[str, str], tuple[float, Look, Look]] = {}
        for first, second in close_pairs(likeness, alike):
            one, other, found = alike[first], alike[second], float(likeness[first, second])
            if one.split != other.split and may_share(rule, {one.split, other.split}):
                continue
            same = one.content == other.content
            if same or found >= least:
                # The third of three copies is a copy of the first; once is enough.
                if second not in copied:
                    findings.append(report_copy(one, other, 1.0 if same else found))
                copied.add(second)
            elif one.split != other.split and UNLABELLED not in (one.split, other.split):
                key = (one.split, other.split)
                nearest[key] = max(nearest.get(key, (0.0, one, other)), (found, one, other), key=by)
        findings += [report_neighbours(*nearest[key]) for key in nearest]
    return findings


def by(candidate: tuple[float, Look, Look]) -> float:
    """Orders pairs by their correlation."""
    return candidate[0]


def close_pairs(likeness: np.ndarray, looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs of sections, the earlier first, that look alike or have the same pixels."""
    number = {look.content: place for place, look in enumerate(looks)}
    contents = np.array([number[look.content] for look in looks])
    close = (likeness >= NEIGHBOURS) | (contents[:, None] == contents[None, :])
    for first, second in zip(*np.nonzero(np.triu(close, 1)), strict=True):
        yield int(first), int(second)


def least_likeness(looks: Sequence[Look], likeness: np.ndarray) -> float:
    """The correlation from which sections are copies, by how alike neighbours are."""
    following = [
        float(likeness[place, place + 1])
        for place in range(len(looks) - 1)
        if looks[place].split == looks[place + 1].split
    ]
    usual = float(np.median(following)) if following else 0.0
    return min(SURE_COPY, max(LIKELY_COPY, 1 - COPY_DIFFERENCE * (1 - usual)))


def report_copy(first: Look, second: Look, likeness: float) -> Finding:
    """Builds the finding of two sections that are the same image."""
    across = first.split != second.split
    how = "the same pixels" if likeness == 1 else f"a correlation of {likeness:.3f}"
    return Finding(
        kind="leak" if across else "copy",
        fact=f"it has {how} as {first.name}"
        if likeness == 1
        else f"it has {how} with {first.name}",
        remedy="remove one" + (", or scores mean nothing" if across else ""),
        split=second.split,
        section=second.name,
        file=second.file,
    )


def report_neighbours(likeness: float, first: Look, second: Look) -> Finding:
    """Builds the finding of two splits that share neighbouring sections."""
    return Finding(
        kind="neighbours",
        fact=f"{first.name} and {second.name} correlate with {likeness:.2f}",
        remedy="keep whole runs of neighbours in one split, or scores are too good",
        split=f"{first.split} and {second.split}",
    )
