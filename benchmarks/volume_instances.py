"""Components of a volume and the matching of its instances, beside scikit-image, scipy and elf.

Balls in a cube, one in each cell of a grid; as predicted, with holes in them and specks between
them, which the filter removes. Labels are 6-connected. Vesicles are matched by their centres, each
held by the other's ball: the peer measures them by scikit-image and solves one assignment of all by
all with scipy. cc3d is LGPL: a peer, not kept.

    PYTHONPATH=src:.peers python benchmarks/volume_instances.py [--side 256] [--number 2000]
"""

import argparse
from collections.abc import Callable

import bioimage_cpp
import numpy as np
import scipy.ndimage
import scipy.optimize
import scipy.spatial
import skimage.measure
import skimage.morphology
from label_images import describe_limit, import_peer, read_seconds
from measuring import Line, report, time_in_turns

from bench.metrics.instances import instance_scores, match_instances
from bench.metrics.vesicles import balls_of_labels, match_balls
from bench.postprocess.instances import clean_mask, label_mask

MIN_VOXELS = 50
GOAL = 4.0
VOXEL_NM = 2.2
NOT_KEPT = "cc3d (LGPL)"
Ways = dict[str, Callable[[], object]]


def draw_balls(side: int, number: int, *, seed: int) -> np.ndarray:
    """Balls of different sizes apart from each other: ids 1 .. number, int32 (z, y, x)."""
    random = np.random.default_rng(seed)
    cells = int(np.ceil(number ** (1 / 3)))
    step = side / cells
    labels = np.zeros((side,) * 3, np.int32)
    for place in range(number):
        radius = random.uniform(0.25, 0.4) * step
        cell = np.unravel_index(place, (cells,) * 3)
        centre = (np.array(cell) + random.uniform(0.42, 0.58, 3)) * step
        box = tuple(slice(max(int(c - radius), 0), int(c + radius) + 2) for c in centre)
        grid = np.ogrid[tuple(slice(each.start, min(each.stop, side)) for each in box)]
        away = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
        labels[box][away <= radius**2] = place + 1
    return labels


def make_prediction(truth: np.ndarray) -> np.ndarray:
    """The balls shifted, one in nine missing, one in seven cut in two."""
    number = int(truth.max())
    prediction = np.roll(truth, (1, 1, 2), (0, 1, 2))
    prediction[prediction % 9 == 0] = 0
    planes = np.arange(len(truth))[:, None, None] // 10 % 2
    cut = (prediction % 7 == 0) & (planes == 1) & (prediction > 0)
    return (prediction + np.where(cut, number, 0)).astype(np.int32)


def drop_small(labels: np.ndarray) -> np.ndarray:
    """The filter as one writes it in numpy, for libraries that have none."""
    kept = np.bincount(labels.reshape(-1)) >= MIN_VOXELS
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


def list_labelling(mask: np.ndarray) -> Ways:
    """Labelling of 6-connected components by each library that is there."""
    ways: Ways = {
        "ours": lambda: label_mask(mask),
        "scikit-image": lambda: skimage.measure.label(mask, connectivity=1),
        "scipy": lambda: scipy.ndimage.label(mask)[0],
        "bioimage_cpp": lambda: bioimage_cpp.segmentation.label(mask, connectivity=1),
    }
    cc3d = import_peer("cc3d")
    if cc3d is not None:
        ways[NOT_KEPT] = lambda: cc3d.connected_components(mask, connectivity=6)
    return ways


def list_filters(mask: np.ndarray) -> Ways:
    """Labelling and removal of what is small, each library with what it has of it."""
    labelling = list_labelling(mask)
    ways: Ways = {
        "ours": lambda: clean_mask(mask, opening_radius_px=0, min_area_px=MIN_VOXELS).labels,
        "scikit-image": lambda: skimage.measure.label(
            skimage.morphology.remove_small_objects(mask, max_size=MIN_VOXELS - 1, connectivity=1),
            connectivity=1,
        ),
        "scipy": lambda: drop_small(labelling["scipy"]()),
        "bioimage_cpp": lambda: drop_small(labelling["bioimage_cpp"]()),
    }
    if NOT_KEPT in labelling:
        cc3d = import_peer("cc3d")
        ways[NOT_KEPT] = lambda: cc3d.connected_components(
            cc3d.dust(mask, threshold=MIN_VOXELS, connectivity=6), connectivity=6
        )
    return ways


def measure_components(path: str, mask: np.ndarray, ways: Ways, repeats: int) -> list[Line]:
    """A line beside scikit-image, one beside the fastest that is kept, and one beside cc3d."""
    seconds, found = time_in_turns(ways, repeats=repeats)
    for name, labels in found.items():
        assert np.array_equal(found["ours"], labels), name
    kept = [name for name in ways if name not in ("ours", NOT_KEPT)]
    fastest = min(kept, key=lambda name: seconds[name])
    size = " x ".join(map(str, mask.shape)) + f", {found['ours'].max():,} components"
    limit = describe_limit(seconds["ours"], read_seconds(mask, found["ours"]))
    shown: dict[str, float | None] = {"scikit-image": GOAL}
    shown |= {name: None for name in (fastest, NOT_KEPT) if name in ways and name not in shown}
    return [
        Line(
            path,
            size,
            seconds["ours"],
            name,
            seconds[name],
            goal,
            "labels the same in every voxel",
            limit.replace("images", "mask and the labels"),
        )
        for name, goal in shown.items()
    ]


def measure_matching(truth: np.ndarray, prediction: np.ndarray, repeats: int) -> Line:
    """Instances by IoU > 0.5; the peer at one threshold, ours at ten."""
    from elf.evaluation import matching

    ways: Ways = {
        "ours": lambda: match_instances(truth=truth, prediction=prediction),
        # The peer counts what reaches the threshold; no other IoU lies in between.
        "elf": lambda: matching(prediction, truth, threshold=0.5 + 1e-7),
    }
    seconds, found = time_in_turns(ways, repeats=repeats)
    scores = instance_scores(found["ours"])
    for name in ("precision", "recall", "f1"):
        assert abs(found["elf"][name] - scores[f"instance_{name}"]) < 1e-9, name
    return Line(
        "instance matching of a volume",
        " x ".join(map(str, truth.shape)) + f", {found['ours'].truth_instances:,} instances",
        seconds["ours"],
        "elf",
        seconds["elf"],
        GOAL,
        "precision, recall and F1 at IoU > 0.5 the same",
        describe_limit(seconds["ours"], read_seconds(truth, prediction)),
    )


def measure_balls(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii in voxels as scikit-image measures them."""
    table = skimage.measure.regionprops_table(
        labels, properties=["centroid", "equivalent_diameter_area"]
    )
    centres = np.stack([table[f"centroid-{axis}"] for axis in range(3)], axis=-1)
    return centres, table["equivalent_diameter_area"] / 2


def match_by_scipy(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, float]:
    """Pairs of vesicles, and the mean distance of their centres in nm."""
    (centres, radii), (others, other_radii) = map(measure_balls, (truth, prediction))
    distances = scipy.spatial.distance.cdist(centres, others)
    costs = np.where(distances <= np.minimum(radii[:, None], other_radii), distances, 1e6)
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    paired = costs[rows, columns] < 1e6
    return int(paired.sum()), VOXEL_NM * float(distances[rows, columns][paired].mean())


def measure_vesicles(truth: np.ndarray, prediction: np.ndarray, repeats: int) -> Line:
    """Vesicles by mutual centres, from labels to pairs."""

    def match() -> tuple[int, float]:
        truth_balls, found_balls = (
            balls_of_labels(labels, (VOXEL_NM,) * 3) for labels in (truth, prediction)
        )
        matching = match_balls(truth=truth_balls, prediction=found_balls)
        return matching.true_positive, float(np.mean(matching.centre_errors_nm))

    peer = "scikit-image and scipy"
    ways: Ways = {"ours": match, peer: lambda: match_by_scipy(truth, prediction)}
    seconds, found = time_in_turns(ways, repeats=repeats)
    pairs, error = found["ours"]
    peer_pairs, peer_error = found[peer]
    assert pairs == peer_pairs
    assert abs(error - peer_error) < 0.02 * peer_error
    return Line(
        "vesicles by mutual centres",
        " x ".join(map(str, truth.shape)) + f", {len(np.unique(truth)) - 1:,} vesicles",
        seconds["ours"],
        peer,
        seconds[peer],
        GOAL,
        f"{pairs:,} pairs in both; centre error {error:.3f} and {peer_error:.3f} nm",
        describe_limit(seconds["ours"], read_seconds(truth, prediction)),
    )


def main() -> None:
    """Measures one volume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=256, help="of the cube, voxels")
    parser.add_argument("--number", type=int, default=2000, help="of balls")
    options = parser.parse_args()
    truth = draw_balls(options.side, options.number, seed=0)
    prediction = make_prediction(truth)
    specks = np.random.default_rng(1).random(truth.shape, dtype=np.float32) < 0.003
    mask = (truth != 0) ^ specks
    annotated = truth != 0
    path = "components of an annotated volume"
    lines = measure_components(path, annotated, list_labelling(annotated), options.repeats)
    path = "components of a predicted volume, its specks as well"
    lines += measure_components(path, mask, list_labelling(mask), options.repeats)
    path = f"components of a predicted volume, of at least {MIN_VOXELS} voxels"
    lines += measure_components(path, mask, list_filters(mask), options.repeats)
    lines.append(measure_matching(truth, prediction, options.repeats))
    lines.append(measure_vesicles(truth, prediction, options.repeats))
    report(__file__, lines)


if __name__ == "__main__":
    main()
