"""Separation of touching instances: a watershed on predicted boundaries, grown from seeds.

Arrays are of a section (y, x), or all of a volume (z, y, x): a depth is then measured in voxels, as
if they were cubes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, repeat

import numpy as np

from bench.core.version import PROSE
from bench.errors import BenchError
from bench.metrics.instances import Matching, count_instances_only, instance_scores, match_instances
from bench.postprocess.instances import as_mask, clean_mask, drop_small_instances, label_mask


@dataclass(frozen=True)
class WatershedSettings:
    """How instances that touch are separated.

    Attributes:
        seed_threshold: A pixel is interior where the probability of foreground, less
            ``boundary_weight`` times that of boundary, is at least this.
        boundary_weight: See above.
        seed_depth_px: A seed is where the interior is deeper than this: of instances that a gap
            in the boundary joins, the seeds stay apart if the gap is narrower than twice that.
        min_seed_area_px: Area of the smallest seed.
        origin: Where the numbers come from, one sentence.
    """

    seed_threshold: float
    boundary_weight: float
    seed_depth_px: int
    min_seed_area_px: int
    origin: str = field(metadata=PROSE)


# With these the whole mask is interior and each component its own seed: nothing is separated.
COMPONENTS = WatershedSettings(0.0, 0.0, 0, 0, "Connected components, nothing is separated.")

# The settings tried, the gentler first. Threshold and weight: where foreground is certain, the
# probability of boundary inside of a seed is at most 0.5, 0.3, 0.175 and 0.0875. Depth closes
# gaps that these leave in an outline. The area, a share of the smallest instance's, keeps specks
# from cutting instances up.
_SEED_RULES = ((0.5, 1.0), (0.7, 1.0), (0.65, 2.0), (0.65, 4.0))
_SEED_DEPTHS_PX = (0, 2, 4, 8)
_SEED_AREA_SHARES = (0.75, 0.25)
# Of these, the setting where nothing is annotated.
_DEFAULT_RULE, _DEFAULT_DEPTH_PX, _DEFAULT_AREA_SHARE = (0.65, 2.0), 4, 0.25


def separate_instances(
    foreground: np.ndarray, boundary: np.ndarray, *, mask: np.ndarray, settings: WatershedSettings
) -> np.ndarray:
    """Cuts the components of a mask along predicted boundaries.

    Seeds are the connected parts of the deep interior. A component with several of them is
    flooded from them over the probability of boundary, lowest first; one with a single seed or
    none stays whole. Nothing of the mask is lost: its pixels are those of the instances.

    Args:
        foreground: Probability of foreground (y, x), uint8, round(255 p).
        boundary: Probability of boundary, alike.
        mask: Mask (y, x), boolean or integer, as post-processing left it.
        settings: How to separate.

    Returns:
        Ids 1, 2 .. without gaps, 0 background, int32 (y, x).

    Raises:
        BenchError: If the shapes differ, or an array has another type.
    """
    _check_probabilities(foreground=foreground, boundary=boundary, mask=mask)
    components = label_mask(mask)
    depth = measure_depth(foreground, boundary, components=components, settings=settings)
    return _grow_seeds(components, _find_seeds(depth, settings), boundary)


def measure_depth(
    foreground: np.ndarray,
    boundary: np.ndarray,
    *,
    components: np.ndarray,
    settings: WatershedSettings,
) -> np.ndarray:
    """Distance of interior pixels to what is not interior; the image's border limits nothing.

    Of the settings, the threshold and the weight are read. The pixel that is nearest lies within
    or right beside the pixel's component, so each is measured in a box of its own: a few times
    faster than the whole section.

    Returns:
        Distance in px, 0 outside of the interior, float32 (y, x).
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    score = foreground - np.float32(settings.boundary_weight) * boundary
    interior = score >= np.float32(255 * settings.seed_threshold)
    depth = np.zeros(components.shape, np.float32)
    for number, box in enumerate(find_objects(components), start=1):
        wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = interior[wide] & (components[wide] == number)
        # Where all of the image is interior, the distance to nothing is undefined.
        distance = np.inf if inside.all() else distance_transform_edt(inside)
        np.maximum(depth[wide], distance, out=depth[wide], casting="same_kind")
    return depth


def _find_seeds(depth_px: np.ndarray, settings: WatershedSettings) -> np.ndarray:
    """Labels the seeds in a map of depths: ids 1, 2 .. int32 (y, x)."""
    deep = label_mask(depth_px > settings.seed_depth_px)
    return drop_small_instances(deep, min_area_px=settings.min_seed_area_px)


def _grow_seeds(components: np.ndarray, seeds: np.ndarray, boundary: np.ndarray) -> np.ndarray:
    """Divides the components that hold several seeds among these.

    Args:
        components: Ids 1, 2 .. of the components, int32 (y, x).
        seeds: Ids 1, 2 .. of the seeds, each within one component.
        boundary: Height of the surface that is flooded.
    """
    from scipy.ndimage import find_objects

    component_of_seed = np.zeros(seeds.max(initial=0) + 1, np.intp)
    component_of_seed[seeds] = components
    counts = np.bincount(component_of_seed[1:], minlength=components.max(initial=0) + 1)
    several = counts > 1
    several[0] = False
    if not several.any():
        return components
    from skimage.segmentation import watershed

    divided = several[components]
    # Only the box around what is divided is flooded: the cost is that of its pixels.
    box = find_objects(divided.astype(np.uint8))[0]
    inside = divided[box]
    parts = watershed(boundary[box], markers=np.where(inside, seeds[box], 0), mask=inside)
    labels = components.copy()
    labels[box][inside] = parts[inside] + components.max()
    return drop_small_instances(labels, min_area_px=1)


def choose_watershed(
    sections: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    threshold_level: int,
    opening_radius_px: int,
    min_area_px: int,
    levels: Iterable[np.ndarray | None] | None = None,
) -> tuple[WatershedSettings, list[dict[str, float | int | str]]]:
    """Chooses the settings that separate annotated instances best.

    The best has the highest F1 of instances matched at IoU > 0.5, pooled over the sections; of
    equals the one with the highest mean F1 over IoU 0.5 .. 0.95. Where these are equal too, as
    they often are on few instances, it is the middle one from the gentlest to the boldest: far
    from where touching instances would not come apart, and from where single ones would be cut.
    Connected components are chosen only where they are better than every watershed: a validation
    without touching instances says nothing against separating them.

    Args:
        sections: Instance ids, and probability of foreground and boundary (uint8), of every
            validation section, (y, x) each. Read once.
        threshold_level: Level (0 to 255) from which foreground belongs to the mask.
        opening_radius_px: How the mask is cleaned, see ``clean_mask``.
        min_area_px: See above. Seeds of a share of this area are considered.
        levels: What is not annotated of every section, see ``metrics.overlap``; None of one that
            is annotated whole, or of all.

    Returns:
        The settings, and a row per settings tried with its scores, components first. Where
        nothing is annotated: ``default_settings`` and no rows.

    Raises:
        BenchError: If the shapes of a section's arrays differ, or an array has another type.
    """
    tried = [COMPONENTS, *list_settings(min_area_px)]
    matchings = {settings: Matching() for settings in tried}
    # Sections first: they end the loop.
    for (truth, foreground, boundary), opened in zip(
        sections, repeat(None) if levels is None else levels, strict=False
    ):
        _check_probabilities(foreground=foreground, boundary=boundary, mask=truth)
        components = clean_mask(
            foreground >= threshold_level,
            opening_radius_px=opening_radius_px,
            min_area_px=min_area_px,
        ).labels
        for settings, labels in _separate_by_all(components, foreground, boundary, tried):
            real, found = count_instances_only(truth, labels, opened)
            matchings[settings] += match_instances(truth=real, prediction=found)
    annotated = matchings[COMPONENTS].truth_instances
    if not annotated:
        return default_settings(min_area_px), []
    scores = {settings: instance_scores(matching) for settings, matching in matchings.items()}
    best = find_best(scores)
    rows = [_describe(each, scores[each], chosen=each == best) for each in tried]
    origin = (
        f"The best of {len(tried)} settings on {annotated} instances of validation sections: "
        f"instance F1 {scores[best]['instance_f1']:.3f}, without separation "
        f"{scores[COMPONENTS]['instance_f1']:.3f}."
    )
    return replace(best, origin=origin), rows


def find_best(scores: dict[WatershedSettings, dict[str, float]]) -> WatershedSettings:
    """The settings of the highest scores; the middle one of equals, components last."""
    ranks = {
        settings: (score["instance_f1"], score["instance_f1_mean"])
        for settings, score in scores.items()
    }
    equals = [settings for settings, rank in ranks.items() if rank == max(ranks.values())]
    separating = [settings for settings in equals if settings != COMPONENTS]
    return separating[len(separating) // 2] if separating else COMPONENTS


def _describe(
    settings: WatershedSettings, scores: dict[str, float], *, chosen: bool
) -> dict[str, float | int | str]:
    separation = "components" if settings == COMPONENTS else "watershed"
    numbers = {name: value for name, value in asdict(settings).items() if name != "origin"}
    return {"separation": separation} | numbers | scores | {"chosen": "yes" if chosen else ""}


def list_settings(min_area_px: int) -> list[WatershedSettings]:
    """The settings tried, the gentler first; without the repeats of a small ``min_area_px``."""
    tried = [
        WatershedSettings(*rule, depth, _share_of_area(share, min_area_px), "")
        for rule in _SEED_RULES
        for depth in _SEED_DEPTHS_PX
        for share in _SEED_AREA_SHARES
    ]
    return list(dict.fromkeys(tried))


def default_settings(min_area_px: int) -> WatershedSettings:
    """The settings where there is no annotated instance to choose them on."""
    area = _share_of_area(_DEFAULT_AREA_SHARE, min_area_px)
    origin = "The default, as validation has no annotated instance to choose on."
    return WatershedSettings(*_DEFAULT_RULE, _DEFAULT_DEPTH_PX, area, origin)


def _share_of_area(share: float, min_area_px: int) -> int:
    """The smallest area of a seed (px) that is a share of the smallest instance's."""
    return max(1, int(share * min_area_px))


def _separate_by_all(
    components: np.ndarray,
    foreground: np.ndarray,
    boundary: np.ndarray,
    tried: list[WatershedSettings],
) -> Iterator[tuple[WatershedSettings, np.ndarray]]:
    """Separates components with each of many settings; measures equal depths once."""
    for _, alike in groupby(tried, key=lambda each: (each.seed_threshold, each.boundary_weight)):
        group = list(alike)
        depth = measure_depth(foreground, boundary, components=components, settings=group[0])
        for settings in group:
            yield settings, _grow_seeds(components, _find_seeds(depth, settings), boundary)


def _check_probabilities(*, foreground: np.ndarray, boundary: np.ndarray, mask: np.ndarray) -> None:
    as_mask(mask)
    for name, probability in (("foreground", foreground), ("boundary", boundary)):
        if probability.dtype != np.uint8 or probability.shape != mask.shape:
            raise BenchError(
                f"{name} must be uint8 levels (y, x) of the mask's shape {mask.shape}, received "
                f"{probability.dtype} of shape {probability.shape}: pass one channel of the "
                "prediction of the same section"
            )
