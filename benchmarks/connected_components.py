"""Connected components, and the filter of small ones, beside four libraries.

The mask holds disks and specks, which the filter removes. cc3d is LGPL: a peer, not kept.

    PYTHONPATH=src:.peers python benchmarks/connected_components.py [--input MASK] [--min-area 50]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import bioimage_cpp
import numpy as np
import scipy.ndimage
import skimage.measure
import skimage.morphology
from label_images import describe_limit, draw_disks, import_peer, read_image, read_seconds
from measuring import Line, report, time_in_turns

from bench.postprocess.instances import clean_mask, label_mask

SIDES_PX = (3500, 7000)
NOT_KEPT = "cc3d (LGPL)"
Label = Callable[[np.ndarray], np.ndarray]


def make_mask(side: int) -> np.ndarray:
    """Disks, one in 50 x 50 px, holes in them and specks between them."""
    specks = np.random.default_rng(1).random((side, side), dtype=np.float32) < 0.003
    return (draw_disks(side, (side // 50) ** 2, seed=0) != 0) ^ specks


def drop_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    """The filter as one writes it in numpy, for libraries that have none."""
    kept = np.bincount(labels.reshape(-1)) >= min_area
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


def list_labelling() -> dict[str, Label]:
    """Labelling of 4-connected components by each library that is there."""
    ways: dict[str, Label] = {
        "scipy": lambda mask: scipy.ndimage.label(mask)[0],
        "scikit-image": lambda mask: skimage.measure.label(mask, connectivity=1),
        "bioimage_cpp": lambda mask: bioimage_cpp.segmentation.label(mask, connectivity=1),
    }
    cc3d = import_peer("cc3d")
    if cc3d is not None:
        ways[NOT_KEPT] = lambda mask: cc3d.connected_components(mask, connectivity=4)
    return ways


def list_filters(min_area: int) -> dict[str, Label]:
    """Labelling and removal of what is small, each library with what it has of it."""
    labelling = list_labelling()
    ways: dict[str, Label] = {
        name: lambda mask, label=labelling[name]: drop_small(label(mask), min_area)
        for name in ("scipy", "bioimage_cpp")
    }
    ways["scikit-image"] = lambda mask: skimage.measure.label(
        skimage.morphology.remove_small_objects(mask, max_size=min_area - 1, connectivity=1),
        connectivity=1,
    )
    cc3d = import_peer("cc3d") if NOT_KEPT in labelling else None
    if cc3d is not None:
        ways[NOT_KEPT] = lambda mask: cc3d.connected_components(
            cc3d.dust(mask, threshold=min_area, connectivity=4), connectivity=4
        )
    return ways


def measure(
    path: str, mask: np.ndarray, ours: Label, peers: dict[str, Label], repeats: int
) -> list[Line]:
    """A line beside the fastest library that is kept, and one beside cc3d."""
    ways = {"ours": lambda: ours(mask)}
    ways |= {name: lambda way=way: way(mask) for name, way in peers.items()}
    seconds, found = time_in_turns(ways, repeats=repeats)
    expected = found["ours"]
    for name, labels in found.items():
        assert np.array_equal(expected, labels), name
    kept = sorted((name for name in peers if name != NOT_KEPT), key=lambda name: seconds[name])
    others = ", ".join(f"{name} {seconds[name]:.3g} s" for name in kept[1:])
    size = " x ".join(map(str, mask.shape)) + f", {expected.max():,} components"
    limit = describe_limit(seconds["ours"], read_seconds(mask, expected))
    limit = limit.replace("images", "mask and the labels")
    shown = {kept[0]: 1.0} | ({NOT_KEPT: None} if NOT_KEPT in peers else {})
    compared = f"labels the same in every pixel; slower: {others}"
    return [
        Line(path, size, seconds["ours"], name, seconds[name], goal, compared, limit)
        for name, goal in shown.items()
    ]


def main() -> None:
    """Measures a quarter of the pixels and all of them, or a mask of the user's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--min-area", type=int, default=50, help="of what is kept, px")
    parser.add_argument("--input", type=Path, help="mask or labels: .npy or TIFF of one section")
    options = parser.parse_args()
    lines = []

    def clean(mask: np.ndarray) -> np.ndarray:
        return clean_mask(mask, opening_radius_px=0, min_area_px=options.min_area).labels

    for side in SIDES_PX if options.input is None else (0,):
        mask = make_mask(side) if options.input is None else read_image(options.input) != 0
        labelling, filters = list_labelling(), list_filters(options.min_area)
        lines += measure("connected components", mask, label_mask, labelling, options.repeats)
        path = f"components of at least {options.min_area} px"
        lines += measure(path, mask, clean, filters, options.repeats)
    report(__file__, lines)


if __name__ == "__main__":
    main()
