"""Distances of objects: to the nearest one, and to another structure, and where both touch."""

from collections.abc import Sequence

import numpy as np


def neighbour_distances(centroids: np.ndarray) -> np.ndarray:
    """The distance of every object to the nearest other one, centroid to centroid.

    Args:
        centroids: (objects, axes), nm.

    Returns:
        (objects,) nm; NaN where there is no other.

    Examples:
        >>> neighbour_distances(np.array([[0.0, 0], [3, 4], [100, 4]])).tolist()
        [5.0, 5.0, 97.0]
    """
    if len(centroids) < 2:
        return np.full(len(centroids), np.nan)
    from scipy.spatial import KDTree

    distances, _ = KDTree(centroids).query(centroids, k=2)
    return np.asarray(distances[:, 1])


def distance_map(other: np.ndarray, edges_nm: Sequence[float]) -> np.ndarray | None:
    """The distance of every pixel to a structure, centre of a pixel to centre, 0 inside it.

    Args:
        other: Ids of the structure, 0 background, of a section or a volume.
        edges_nm: Edges of a pixel along each axis.

    Returns:
        nm, of the same shape; None where there is no such structure, from which nothing is far.
    """
    if not other.any():
        return None
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(other == 0, sampling=edges_nm), np.float32)


def measure_contacts(
    labels: np.ndarray, distances: np.ndarray, edges_nm: Sequence[float], within_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far every object is from a structure, and how much of its outline touches it.

    The outline is made of the faces between a pixel of the object and one beside it that is not.
    A face touches where the structure holds the pixel on either side of it, or is no farther from
    either than ``within_nm``. At the border of the image there are no faces.

    Args:
        labels: Ids (y, x) or (z, y, x), 0 background.
        distances: Distance of every pixel to the structure, as `distance_map` gives it.
        edges_nm: Edges of a pixel along each axis.
        within_nm: What counts as touching; 0 asks for pixels side by side.

    Returns:
        By id, in its order: the distance of the object's nearest pixel to the structure (nm), and
        the length (of a volume the area) of what touches, nm or nm².

    Examples:
        >>> cell, wall = np.array([[0, 5, 5, 0]]), np.array([[0, 0, 0, 1]])
        >>> near = distance_map(wall, (4.0, 4.0))
        >>> [found.tolist() for found in measure_contacts(cell, near, (4.0, 4.0), 0.0)]
        [[4.0], [4.0]]
    """
    ids, places = np.unique(labels, return_inverse=True)
    places = places.reshape(labels.shape)
    nearest = np.full(len(ids), np.inf)
    np.minimum.at(nearest, places.reshape(-1), distances.reshape(-1))
    touching = np.zeros(len(ids))
    for axis in range(labels.ndim):
        before = (*[slice(None)] * axis, slice(None, -1))
        after = (*[slice(None)] * axis, slice(1, None))
        face = float(np.prod([edge for place, edge in enumerate(edges_nm) if place != axis]))
        meets = labels[before] != labels[after]
        meets &= np.minimum(distances[before], distances[after]) <= within_nm
        for side in (before, after):
            touching += face * np.bincount(places[side][meets], minlength=len(ids))
    objects = slice(int(ids[0] == 0) if ids.size else 0, None)
    return nearest[objects], touching[objects]
