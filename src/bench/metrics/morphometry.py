"""Sizes and places of instances, one by one and counted, of sections and of volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cbrt, pi, prod

import numpy as np

# By the name that they have in scikit-image: ours, and the power of length that it is.
_MEASURES = {
    "area": ("area", 2),
    "equivalent_diameter_area": ("equivalent_diameter", 1),
    "centroid-0": ("centroid_y", 1),
    "centroid-1": ("centroid_x", 1),
    "perimeter": ("perimeter", 1),
}
_NM2_PER_UM2 = 1e6
_NM3_PER_UM3 = 1e9
# Beyond it, what is kept of all ids up to the largest would take more memory than the volume.
_LARGEST_ID = 1 << 22


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the instances of a volume are, in voxels from the centre of the first one.

    Attributes:
        ids: (instances,), ascending.
        voxels: (instances,), how many voxels each has.
        centroids: (instances, 3), z, y, x.
        starts: (instances, 3), the first plane, row and column of each.
        stops: (instances, 3), those after the last.
    """

    ids: np.ndarray
    voxels: np.ndarray
    centroids: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def measure_instances(
    labels: np.ndarray, pixel_size_nm: float | Sequence[float] | None
) -> dict[str, np.ndarray]:
    """Measures every instance of a section or a volume.

    The centroid counts from the centre of the first pixel. The perimeter, of sections only, is
    that of a line through the centres of the outermost pixels, so that of a single pixel is 0.
    The equivalent diameter is that of the disk of the same area, in a volume of the ball of the
    same volume.

    Args:
        labels: Instance ids (y, x) or (z, y, x), 0 background.
        pixel_size_nm: Edge of a pixel, of a volume the edges of a voxel (z, y, x); None where it
            is not known.

    Returns:
        Columns of a row per instance: ``id``, then ``area_nm2``, ``equivalent_diameter_nm``,
        ``centroid_y_nm``, ``centroid_x_nm`` and ``perimeter_nm``, or the same in px. Of a volume
        ``id``, ``volume_nm3``, ``equivalent_diameter_nm``, ``centroid_z_nm``, ``centroid_y_nm``
        and ``centroid_x_nm``, or ``volume_voxels`` and the others in px.
    """
    if labels.ndim == 3:
        return _measure_volume(labels, pixel_size_nm)
    # Imported late: scores do not need it.
    from skimage.measure import regionprops_table

    properties = ["label", "area", "equivalent_diameter_area", "centroid", "perimeter"]
    found = regionprops_table(labels, properties=properties)
    unit, scale = ("px", 1.0) if pixel_size_nm is None else ("nm", _edge(pixel_size_nm))
    columns = {"id": found["label"].astype(np.int64)}
    for name, (ours, power) in _MEASURES.items():
        suffix = f"{unit}2" if power == 2 and unit != "px" else unit
        columns[f"{ours}_{suffix}"] = found[name] * scale**power
    return columns


def _measure_volume(
    labels: np.ndarray, voxel_size_nm: float | Sequence[float] | None
) -> dict[str, np.ndarray]:
    """Measures every instance of a volume (z, y, x)."""
    places = find_places(labels)
    edges = _edges(voxel_size_nm)
    unit, cubed = ("px", "voxels") if voxel_size_nm is None else ("nm", "nm3")
    volumes = places.voxels * prod(edges)
    return {
        "id": places.ids,
        f"volume_{cubed}": volumes,
        f"equivalent_diameter_{unit}": 2 * ball_radii(volumes),
        **{
            f"centroid_{axis}_{unit}": places.centroids[:, column] * edge
            for column, (axis, edge) in enumerate(zip("zyx", edges, strict=True))
        },
    }


def _edge(pixel_size_nm: float | Sequence[float]) -> float:
    """The edge of a pixel of a section."""
    return pixel_size_nm if isinstance(pixel_size_nm, int | float) else pixel_size_nm[-1]


def _edges(voxel_size_nm: float | Sequence[float] | None) -> tuple[float, ...]:
    """The edges of a voxel (z, y, x); 1 where they are not known."""
    if voxel_size_nm is None or isinstance(voxel_size_nm, int | float):
        return (voxel_size_nm or 1.0,) * 3
    return tuple(voxel_size_nm)


def ball_radii(volumes: np.ndarray) -> np.ndarray:
    """The radii of balls of the same volumes."""
    return np.asarray(np.cbrt(volumes) * cbrt(3 / (4 * pi)))


def find_places(labels: np.ndarray) -> _Places:
    """Finds every instance of a volume, in one reading of it.

    Args:
        labels: Instance ids (z, y, x), 0 background; ids may have gaps.
    """
    # numba is imported where volumes are measured, and not by all that imports this module.
    from bench.metrics.label_sums import add_plane

    largest = int(labels.max(initial=0))
    known = None
    if largest > _LARGEST_ID:
        known, labels = np.unique(labels, return_inverse=True)
        largest = len(known) - int(known[0] == 0)
        labels = labels + int(known[0] != 0)
        known = known[known != 0]
    voxels, sums = np.zeros(largest + 1, np.int64), np.zeros((largest + 1, 3), np.int64)
    boxes = np.repeat(np.array([[np.iinfo(np.int64).max, -1]]), 3, axis=1).repeat(largest + 1, 0)
    for z, plane in enumerate(labels):
        ids = plane.view(np.uint32) if plane.dtype == np.int32 else plane
        add_plane(np.require(ids, np.uint32, ["C", "A"]), z, voxels, sums, boxes)
    present = np.flatnonzero(voxels)
    return _Places(
        ids=present if known is None else known[present - 1].astype(np.int64),
        voxels=voxels[present],
        centroids=sums[present] / voxels[present][:, None],
        starts=boxes[present, :3],
        stops=boxes[present, 3:] + 1,
    )


def count_instances(
    labels: np.ndarray, pixel_size_nm: float | Sequence[float] | None
) -> dict[str, float | int]:
    """Counts the instances of a section or a volume.

    Args:
        labels: Instance ids (y, x) or (z, y, x), 0 background.
        pixel_size_nm: Edge of a pixel, of a volume the edges of a voxel (z, y, x); None where it
            is not known.

    Returns:
        ``instances``, ``foreground_fraction`` and, where the pixel size is known, ``area_um2``
        of the section and ``density_per_um2``; of a volume ``volume_um3`` and
        ``density_per_um3``.
    """
    if labels.ndim == 3:
        return _count_volume(labels, pixel_size_nm)
    instances = int(np.count_nonzero(np.bincount(labels.reshape(-1))[1:]))
    fraction = np.count_nonzero(labels) / labels.size
    counts: dict[str, float | int] = {"instances": instances, "foreground_fraction": fraction}
    if pixel_size_nm is not None:
        area = labels.size * _edge(pixel_size_nm) ** 2 / _NM2_PER_UM2
        counts |= {"area_um2": area, "density_per_um2": instances / area}
    return counts


def _count_volume(
    labels: np.ndarray, voxel_size_nm: float | Sequence[float] | None
) -> dict[str, float | int]:
    """Counts the instances of a volume (z, y, x)."""
    places = find_places(labels)
    instances, fraction = len(places.ids), int(places.voxels.sum()) / labels.size
    counts: dict[str, float | int] = {"instances": instances, "foreground_fraction": fraction}
    if voxel_size_nm is not None:
        volume = labels.size * prod(_edges(voxel_size_nm)) / _NM3_PER_UM3
        counts |= {"volume_um3": volume, "density_per_um3": instances / volume}
    return counts
