"""Whether masks lie on their images as they are, or would fit clearly better mirrored or turned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.core.names import first_names
from bench.core.pixels import shrink_factor
from bench.ingest.inspection.findings import Finding

AS_IT_IS = "as it is"
REVERSED_ROWS = "mirrored in y"
_Turn = Callable[[np.ndarray], np.ndarray]
_MIRRORED: dict[str, _Turn] = {
    REVERSED_ROWS: lambda mask: mask[::-1],
    "mirrored in x": lambda mask: mask[:, ::-1],
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
}
# Only a square can be turned so.
_TRANSPOSED: dict[str, _Turn] = {
    "transposed": lambda mask: mask.T,
    "turned by 90 degrees to the left": lambda mask: mask.T[::-1],
    "turned by 90 degrees to the right": lambda mask: mask.T[:, ::-1],
    "transposed and turned by 180 degrees": lambda mask: mask.T[::-1, ::-1],
}
# Parts of height and width by which a mask is moved round the edges to see what chance explains.
_MOVES = ((2, 0), (0, 2), (2, 2), (1, 1), (3, 1), (1, 3), (3, 3))

# Sections are compared at this size, which takes some hundredths of a second.
_COMPARED_SIDE_PX = 400
# Edges in px of the windows that the image is averaged in, so that dark, bright, and dark within
# bright are all seen.
_WINDOWS_PX = (3, 7, 15)
# In EPFL6, VNC and ISBI 2012 the image explains at least 0.034 of the right mask, which is at
# least 4.6 times what it explains of any other orientation, and 4.1 times what chance does.
_LEAST_SHARE = 0.02
_CLEARLY = 3.0
# Where one of two is right for sure, less is enough.
_CLEARLY_OF_TWO = 2.0
# Where an image says nothing, one mask of 150 seems turned: where not even all sections together
# say that masks lie right, so large a part of them must be turned alike.
_TURNED_ALIKE = 0.25
# Fewer pixels of foreground or background say nothing.
_FEWEST_PX = 50
_REMEDY = (
    "export them as they lie on the image; rows alone are taken the other way round with "
    "-P rows=reversed, or rows=stored where reversed is given"
)


@dataclass(frozen=True)
class Fit:
    """How well a mask lies on its image.

    Attributes:
        shares: By orientation, the share of the mask's variance that grey values explain.
        chance: The largest share of the mask moved elsewhere.
    """

    shares: Mapping[str, float]
    chance: float


def measure_fits(
    raw: np.ndarray,
    masks: Mapping[str, np.ndarray],
    foreground: Mapping[str, int] | None = None,
) -> dict[str, Fit]:
    """Measures how well masks lie on their image, in every orientation that the shape allows.

    The share is that of a linear regression of the mask on grey values, their means in windows,
    and edges, which asks for no threshold and not whether a structure is dark or bright.

    Args:
        raw: The image (y, x).
        masks: Masks (y, x) by structure, 0 background.
        foreground: Their pixels that are not, where they are counted already.

    Returns:
        The fit of every mask that has foreground and background enough; none of an image
        without contrast.
    """
    counts = foreground or {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    masks = {
        name: mask
        for name, mask in masks.items()
        if raw.shape == mask.shape and _FEWEST_PX <= counts[name] <= mask.size - _FEWEST_PX
    }
    if not masks or not raw.min() < raw.max():
        return {}
    step = shrink_factor(raw.shape, _COMPARED_SIDE_PX)
    features = _describe_pixels(_sample(raw, step))
    covariance = (features @ features.T).astype(np.float64)
    fits = {}
    for name, mask in masks.items():
        small = _sample(mask, step, of_mask=True)
        turns = _MIRRORED | (_TRANSPOSED if small.shape[0] == small.shape[1] else {})
        turned = [small, *(turn(small) for turn in turns.values())]
        height, width = small.shape
        moved = [np.roll(small, (height * y // 4, width * x // 4), (0, 1)) for y, x in _MOVES]
        shares = _explain(features, covariance, small, [*turned, *moved])
        names = [AS_IT_IS, *turns]
        fits[name] = Fit(
            dict(zip(names, shares[: len(names)], strict=True)), max(shares[len(names) :])
        )
    return fits


def _sample(image: np.ndarray, step: int, *, of_mask: bool = False) -> np.ndarray:
    """Means of four pixels from every square of step x step, which is faster than means of all.

    Of a mask they are the share that is foreground.
    """
    height, width = (side // step * step for side in image.shape)
    places = sorted({(y, x) for y in (0, step // 2) for x in (0, step // 2)})
    parts = [image[y:height:step, x:width:step] for y, x in places]
    values = [(part != 0 if of_mask else part).astype(np.float32) for part in parts]
    return np.asarray(sum(values) / np.float32(len(values)))


def _describe_pixels(image: np.ndarray) -> np.ndarray:
    """Grey values, their means in windows, and edges of every pixel (features, pixels), mean 0."""
    from scipy import ndimage

    image = (image - image.mean(dtype=np.float64)) / max(float(image.std(dtype=np.float64)), 1e-30)
    means = [ndimage.uniform_filter(image, window) for window in _WINDOWS_PX]
    edges = sum(np.abs(ndimage.sobel(means[0], axis)) for axis in (0, 1))
    described = [image, *means, edges, ndimage.uniform_filter(edges, 5)]
    features = np.stack([feature.ravel() for feature in described])
    features -= features.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return features


def _explain(
    features: np.ndarray, covariance: np.ndarray, mask: np.ndarray, placed: Sequence[np.ndarray]
) -> list[float]:
    """The share of a mask's variance that features explain, of every way to place it.

    Features have mean 0, so that the mask's mean changes nothing.
    """
    targets = np.stack([each.ravel() for each in placed])
    common = (targets @ features.T).astype(np.float64)
    explained = (common @ np.linalg.pinv(covariance) * common).sum(axis=1)
    variance = float(mask.var(dtype=np.float64)) * mask.size
    return [float(share) for share in explained / max(variance, 1e-30)]


def pool_fits(fits: Sequence[Fit]) -> Fit:
    """The mean of fits, one at least, over the orientations that all of them have."""
    names = [name for name in fits[0].shares if all(name in fit.shares for fit in fits)]
    shares = {name: float(np.mean([fit.shares[name] for fit in fits])) for name in names}
    return Fit(shares, float(np.mean([fit.chance for fit in fits])))


def choose_orientation(fit: Fit, among: Sequence[str] = ()) -> str | None:
    """The orientation in which a mask fits clearly best; None where that is not clear.

    Args:
        fit: Its fit.
        among: The orientations one of which it must be; all, if none is given.
    """
    shares = {name: fit.shares[name] for name in among} if among else dict(fit.shares)
    best = max(shares, key=lambda name: shares[name])
    rivals = [fit.chance, *(share for name, share in shares.items() if name != best)]
    times = _CLEARLY_OF_TWO if len(shares) == 2 else _CLEARLY
    clear = shares[best] >= max(_LEAST_SHARE, times * max(rivals))
    return best if clear else None


def judge_orientation(fits: Mapping[str, Mapping[str, Fit]]) -> list[Finding]:
    """Finds masks that fit clearly better mirrored or turned, one finding a structure and way.

    Args:
        fits: By structure, the fits by section.
    """
    findings = []
    for structure, by_section in fits.items():
        turned: dict[str, list[str]] = {}
        for section, fit in by_section.items():
            chosen = choose_orientation(fit)
            if chosen not in (None, AS_IT_IS):
                turned.setdefault(str(chosen), []).append(section)
        pooled = choose_orientation(pool_fits(list(by_section.values()))) if by_section else None
        if not turned and pooled not in (None, AS_IT_IS):
            turned[str(pooled)] = list(by_section)
        for orientation, sections in turned.items():
            if pooled != AS_IT_IS and len(sections) < _TURNED_ALIKE * len(by_section):
                continue
            mean = pool_fits([by_section[section] for section in sections]).shares
            fact = (
                f"{len(sections)} of {len(by_section)} masks ({first_names(sections)}) fit their "
            )
            fact += (
                f"images {orientation}: grey values explain {mean[orientation]:.1%} of them so, "
            )
            fact += f"{mean[AS_IT_IS]:.1%} as they are"
            findings.append(Finding("orientation", fact, _REMEDY, structure=structure))
    return findings
