"""Numbers, paths and affine transforms as TrakEM2 writes them."""

import math

import numpy as np

from bench.ingest.annotations.drawing import Disc, Outline

# No layer set is a thousandth of this wide. Beyond, sums of squares would leave their type.
_LARGEST_PX = 1e9
# An image shrunk to a millionth of its sides shows nothing.
_SMALLEST_DETERMINANT = 1e-12
_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
# A flattened curve keeps within this of the curve.
_FLATNESS_PX = 0.02
# Reached by an arc whose ends and handles are thousands of px apart.
_MOST_STEPS = 400
_MOST_CORNERS = 200_000


def parse_number(text: str) -> float:
    """Reads a number.

    Raises:
        ValueError: If it is none, not finite, or beyond what a project holds.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST_PX:
        raise ValueError(f"finite numbers up to {_LARGEST_PX:g}, received {_shorten([text])!r}")
    return number


def _parse_numbers(words: list[str]) -> np.ndarray:
    try:
        numbers = np.array(words, dtype=np.float64)
    except ValueError:
        numbers = np.full(1, np.nan)
    if not (np.abs(numbers) <= _LARGEST_PX).all():
        raise ValueError(f"finite numbers up to {_LARGEST_PX:g}, received {_shorten(words)!r}")
    return numbers


def parse_matrix(text: str | None) -> np.ndarray:
    """Reads ``matrix(a,b,c,d,e,f)`` as [[a, c, e], [b, d, f]]; nothing is the identity.

    Raises:
        ValueError: If it is no such matrix.
    """
    if text is None:
        return _IDENTITY
    inner = text.strip().removeprefix("matrix(").removesuffix(")")
    words = inner.replace(",", " ").split()
    if len(words) != 6:
        raise ValueError(f"a transform matrix(a,b,c,d,e,f), received {_shorten([text])!r}")
    return _parse_numbers(words).reshape(3, 2).T.copy()


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies an affine transform (2, 3) to points (n, 2) as x, y."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine transform (2, 3) that applies inner, then outer."""
    offset = transform_points(outer, inner[:, 2][None])[0]
    return np.column_stack([outer[:, :2] @ inner[:, :2], offset])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine transform (2, 3).

    Raises:
        ValueError: If it has none.
    """
    (a, c, x), (b, d, y) = matrix.tolist()
    determinant = a * d - b * c
    if abs(determinant) < _SMALLEST_DETERMINANT:
        raise ValueError(f"a transform that can be undone, received {matrix.tolist()}")
    linear = np.array([[d, -c], [-b, a]]) / determinant
    return np.asarray(np.column_stack([linear, -linear @ (x, y)]))


def parse_polygons(text: str) -> tuple[list[np.ndarray], int]:
    """Reads ``M x y L x y ... z``, once or several times.

    Returns:
        Corners (n, 2) of each closed polygon as x, y, and how many polygons are not closed.

    Raises:
        ValueError: If it is no such path.
    """
    before, *pieces = text.split("M")
    if before.strip():
        raise ValueError(f"a path that begins with M, received {_shorten([text])!r}")
    closed, dropped = [], 0
    for piece in pieces:
        stripped = piece.rstrip()
        if not stripped.endswith(("z", "Z")):
            dropped += 1
            continue
        words = stripped[:-1].replace("L", " ").replace(",", " ").split()
        if len(words) % 2:
            raise ValueError(f"a path M x y L x y ... z, received {_shorten([text])!r}")
        closed.append(_parse_numbers(words).reshape(-1, 2))
    return closed, dropped


def parse_curve(text: str) -> np.ndarray | None:
    """Reads ``M x,y C x,y x,y x,y ... z``, cubic Bezier segments one after the other.

    Returns:
        Points (n, 4, 2) of each segment: start, two handles, end. None if it is not closed.

    Raises:
        ValueError: If it is no such path.
    """
    stripped = text.strip()
    if not stripped.endswith(("z", "Z")):
        return None
    words = stripped[:-1].replace("M", " ").replace("C", " ").replace(",", " ").split()
    if len(words) < 8 or len(words) % 6 != 2:
        raise ValueError(f"a path M x,y C x,y x,y x,y ... z, received {_shorten([text])!r}")
    points = _parse_numbers(words).reshape(-1, 2)
    segments = points[1:].reshape(-1, 3, 2)
    starts = np.concatenate([points[:1], segments[:-1, 2]])
    return np.concatenate([starts[:, None], segments], axis=1)


def flatten_curve(segments: np.ndarray) -> np.ndarray:
    """Flattens closed Bezier segments (n, 4, 2) into the corners (m, 2) of a polygon.

    All segments get the same number of steps. The chord of one step is at most an eighth of the
    second derivative, times the step squared, from the curve.
    """
    bends = segments[:, :-2] - 2 * segments[:, 1:-1] + segments[:, 2:]
    largest = 6 * float(np.hypot(bends[..., 0], bends[..., 1]).max())
    most = max(1, min(_MOST_STEPS, _MOST_CORNERS // len(segments)))
    steps = min(most, math.ceil(math.sqrt(largest / (8 * _FLATNESS_PX))) + 1)
    t = np.arange(steps)[:, None] / steps
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return np.asarray(weights @ segments).reshape(-1, 2)


def transform_disc(matrix: np.ndarray, x: float, y: float, radius: float) -> Disc | Outline:
    """A circle after an affine transform (2, 3): a circle again, or the outline of an ellipse."""
    (a, c, e), (b, d, f) = matrix.tolist()
    centre = a * x + c * y + e, b * x + d * y + f
    square = (a * a + b * b + c * c + d * d) / 2
    # A similarity keeps circles: its columns are as long as each other, and at right angles.
    if max(abs(a * a + b * b - square), abs(a * c + b * d)) <= 1e-9 * square:
        return Disc(*centre, radius * math.sqrt(square))
    longest = radius * math.sqrt(2 * square)
    steps = min(_MOST_STEPS, math.ceil(math.pi * math.sqrt(longest / (2 * _FLATNESS_PX))) + 8)
    angles = 2 * np.pi * np.arange(steps) / steps
    circle = radius * np.column_stack([np.cos(angles), np.sin(angles)])
    return Outline((circle @ matrix[:, :2].T + centre,))


def _shorten(words: list[str]) -> str:
    return " ".join(words[:8])[:60]
