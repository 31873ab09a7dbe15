"""Components of a map of levels at all 256 thresholds at once.

The 4-connected components at a threshold lie within those at every lower one, so all of them form
a tree. Its nodes are far fewer than 256 label images, and each is scored once for all thresholds
at which it exists. Minimum areas come along: a component is kept where its area is enough.

Reference: Berger et al., "Effective component tree computation with application to pattern
recognition in astronomical imaging", ICIP 2007.
"""

import numba
import numpy as np

from bench.metrics.curves import LEVELS


@numba.njit(cache=True, nogil=True)
def build_tree(levels: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Builds the tree of components of an image.

    A node is named by one of its pixels; a pixel that names none points to the node of its
    level that it belongs to, a node to the next lower one that holds it.

    Args:
        levels: Image, flat, uint8.
        width: Its width.

    Returns:
        Order of the pixels from the highest level to the lowest, and the parent of each pixel,
        both int32. The root, which is the last in order, is its own parent.
    """
    pixels = levels.size
    order = sort_descending(levels)
    parent = np.empty(pixels, np.int32)
    root = np.full(pixels, -1, np.int32)
    flooded = pixels - np.count_nonzero(levels == 0)
    for place in range(flooded):
        pixel = order[place]
        parent[pixel] = pixel
        root[pixel] = pixel
        column = pixel % width
        for side in range(4):
            if side == 0:
                if pixel < width:
                    continue
                neighbour = pixel - width
            elif side == 1:
                if pixel + width >= pixels:
                    continue
                neighbour = pixel + width
            elif side == 2:
                if column == 0:
                    continue
                neighbour = pixel - 1
            else:
                if column == width - 1:
                    continue
                neighbour = pixel + 1
            if root[neighbour] < 0:
                continue
            top = neighbour
            while root[top] != top:
                top = root[top]
            while root[neighbour] != top:
                root[neighbour], neighbour = top, root[neighbour]
            if top != pixel:
                root[top] = pixel
                parent[top] = pixel
    # At level 0 everything is one component: nothing has to be flooded, and it is most of a map.
    last = order[-1]
    for place in range(flooded, pixels):
        parent[order[place]] = last
    if flooded < pixels:
        for place in range(flooded):
            pixel = order[place]
            if parent[pixel] == pixel:
                parent[pixel] = last
    for place in range(pixels - 1, -1, -1):
        pixel = order[place]
        above = parent[pixel]
        if levels[parent[above]] == levels[above]:
            parent[pixel] = parent[above]
    return order, parent


@numba.njit(cache=True, nogil=True)
def sort_descending(levels: np.ndarray) -> np.ndarray:
    """Places of the pixels from the highest level to the lowest, equal ones in reading order."""
    counts = np.zeros(LEVELS + 1, np.int64)
    for level in levels:
        counts[LEVELS - 1 - level + 1] += 1
    starts = np.cumsum(counts)
    order = np.empty(levels.size, np.int32)
    for pixel in range(levels.size):
        rank = LEVELS - 1 - levels[pixel]
        order[starts[rank]] = pixel
        starts[rank] += 1
    return order
