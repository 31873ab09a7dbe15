"""Finds the arrays of a Zarr folder, and chooses a level of a multiscale image."""

import math
from pathlib import Path

from bench.errors import BenchError
from bench.ingest.images.axes import may_be_sections
from bench.ingest.images.keys import LARGEST_DEPTH, choose_key, no_array
from bench.ingest.images.limits import check_inside
from bench.ingest.images.ome_levels import Level
from bench.ingest.images.zarr_metadata import StoredArray, read_array, read_levels

MOST_FOLDERS = 2500


def choose(root: Path, pixel_size_nm: float | None, key: str) -> str:
    """Chooses an array as `choose_level` does."""
    key = key.strip("/")
    if read_array(root, key) is not None:
        return key
    levels = read_levels(root, key)
    if not levels:
        arrays = list_zarr_arrays(root)
        inside = {name: arrays[name] for name in arrays if not key or name.startswith(f"{key}/")}
        if not inside:
            raise no_array(root, key, list(arrays))
        images = [name for name, array in inside.items() if array.level.names]
        images = [name for name in images if "labels" not in name.split("/")] or images
        groups = {name.rpartition("/")[0] for name in images}
        if len(groups) != 1:
            return choose_key(root, inside, key)
        levels = {name: inside[name].level for name in images}
    present = {name: level for name, level in levels.items() if read_array(root, name) is not None}
    if not present:
        raise no_array(root, key, [])
    return min(present, key=lambda name: distance(present[name], pixel_size_nm))


def distance(level: Level, pixel_size_nm: float | None) -> tuple[float, float]:
    """How far a level is from a pixel size, then how coarse it is."""
    scale = level.scale[-1] if level.scale else 0.0
    side = level.sides_nm[-1] if level.sides_nm else 0.0
    if pixel_size_nm is None or side <= 0:
        return 0.0, scale
    return round(abs(math.log(side / pixel_size_nm)), 6), scale


def find_array(root: Path, key: str) -> StoredArray:
    """Returns the array of a key, or the finest level of the image that it names."""
    array = read_array(root, choose(root, None, key))
    if array is None:
        raise no_array(root, key, list(list_zarr_arrays(root)))
    return array


def list_zarr_arrays(root: Path) -> dict[str, StoredArray]:
    """Returns the arrays that can be sections, in the order of their keys."""
    found: dict[str, StoredArray] = {}
    waiting: list[tuple[str, dict[str, Level]]] = [("", {})]
    seen, nodes = set(), 0
    while waiting:
        key, levels = waiting.pop()
        nodes += 1
        if nodes > MOST_FOLDERS or key.count("/") > LARGEST_DEPTH:
            raise BenchError(
                f"{root} must hold no more than {MOST_FOLDERS} folders beside chunks in "
                f"{LARGEST_DEPTH} levels, received more: name the folder of the image itself"
            )
        folder = check_inside(root / key, (root,), str(root))
        if folder in seen:
            continue
        seen.add(folder)
        array = read_array(root, key, levels)
        if array is None:
            levels = {**levels, **read_levels(root, key)}
            inner = [f"{key}/{path.name}" if key else path.name for path in visible_folders(folder)]
            waiting += [(name, levels) for name in inner]
        elif may_be_sections(array.shape, array.dtype):
            found[key] = array
    return dict(sorted(found.items()))


def visible_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder but for hidden ones."""
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
