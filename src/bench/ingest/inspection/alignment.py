"""The shift between neighbouring sections, by phase correlation of small copies."""

from dataclasses import dataclass

import numpy as np

from bench.core.pixels import shrink_factor, shrink_image

SMALL_SIDE_PX = 512
# Of the longer side. Between aligned sections of VNC, 50 nm apart, tissue moves by 0.4 % at most.
LEAST_SHIFT = 0.01
# A shift is believed if the sections then correlate, and clearly better than without it. True
# neighbours correlate with 0.35 (VNC) to 0.96 (EPFL6), others with less than 0.2.
LEAST_CORRELATION = 0.2
LEAST_GAIN = 0.15
# Of either side; with less in common, correlation says little.
LEAST_OVERLAP = 0.5


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
        moved = max(abs(self.y), abs(self.x)) >= LEAST_SHIFT * self.side
        better = self.after >= max(LEAST_CORRELATION, self.correlation + LEAST_GAIN)
        return moved and better

    def undoes(self, other: "Shift") -> bool:
        """Whether it leads back from another shift."""
        away = max(abs(self.y + other.y), abs(self.x + other.x))
        return away < LEAST_SHIFT * self.side


def shrink_section(raw: np.ndarray) -> np.ndarray:
    """A small copy (y, x) of a section of finite numbers, float32."""
    small = shrink_image(raw, shrink_factor(raw.shape, SMALL_SIDE_PX))
    return np.asarray(small, np.float32)


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
        before = (
            self.small if raw is not None and (name, raw.shape) == (self.name, self.shape) else None
        )
        self.name, self.shape = name, () if raw is None else raw.shape
        self.small = None if raw is None else shrink_section(raw)
        if raw is None or self.small is None or before is None:
            return None
        return estimate_shift(before, self.small, shrink_factor(raw.shape, SMALL_SIDE_PX))


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
        correlation=correlate(first, second),
        after=correlate_shifted(first, second, y, x),
        side=max(height, width) * factor,
    )


def correlate_shifted(first: np.ndarray, second: np.ndarray, y: int, x: int) -> float:
    """Correlates what two images show in common after a shift in px; 0 if that is little."""
    height, width = first.shape
    if abs(y) > (1 - LEAST_OVERLAP) * height or abs(x) > (1 - LEAST_OVERLAP) * width:
        return 0.0
    rows, columns = height - abs(y), width - abs(x)
    top, left = max(-y, 0), max(-x, 0)
    of_first = first[top : top + rows, left : left + columns]
    top, left = max(y, 0), max(x, 0)
    return correlate(of_first, second[top : top + rows, left : left + columns])


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two images; 0 where one has no contrast."""
    first, second = first - first.mean(dtype=float), second - second.mean(dtype=float)
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(np.vdot(first, second)) / lengths if lengths > 0 else 0.0


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
