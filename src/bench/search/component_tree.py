"""Components of a map at all 256 thresholds at once, and the counts that follow from them.

A map is of a section, whose components are 4-connected, or of a volume: there they are 6-connected.
"""

import numba
import numpy as np

from bench.metrics.curves import LEVELS


@numba.njit(cache=True, nogil=True)
def measure_nodes(
    order: np.ndarray, parent: np.ndarray, is_true: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Area of every node, and how much of it is foreground of the truth; int32 per pixel.

    Pixels that name no node keep 1 and whether they are foreground.
    """
    area = np.ones(order.size, np.int32)
    found = is_true.astype(np.int32)
    for pixel in order[:-1]:
        area[parent[pixel]] += area[pixel]
        found[parent[pixel]] += found[pixel]
    return area, found


@numba.njit(cache=True, nogil=True)
def count_components(
    levels: np.ndarray,
    parent: np.ndarray,
    area: np.ndarray,
    annotated: np.ndarray,
    counting: np.ndarray,
    found: np.ndarray,
    min_areas: np.ndarray,
) -> np.ndarray:
    """Counts what is left at each threshold when small components are dropped.

    Of components more than half of which does not count only the pixels are counted.

    Args:
        levels: Image, flat, uint8.
        parent: Its tree.
        area: Area of every node.
        annotated: What of it is annotated.
        counting: What of it counts for instances.
        found: Foreground of the truth in it.
        min_areas: Smallest areas kept, ascending.

    Returns:
        (3, areas, 256): components, their pixels, and those of them that are true.
    """
    changes = np.zeros((3, min_areas.size, LEVELS + 1), np.int64)
    for pixel in range(levels.size):
        above = parent[pixel]
        is_root = above == pixel
        if not is_root and levels[above] == levels[pixel]:
            continue
        kept = np.searchsorted(min_areas, area[pixel], side="right") - 1
        if kept < 0:
            continue
        first = 0 if is_root else levels[above] + 1
        end = levels[pixel] + 1
        if 2 * counting[pixel] >= area[pixel]:
            changes[0, kept, first] += 1
            changes[0, kept, end] -= 1
        changes[1, kept, first] += annotated[pixel]
        changes[1, kept, end] -= annotated[pixel]
        changes[2, kept, first] += found[pixel]
        changes[2, kept, end] -= found[pixel]
    return changes


@numba.njit(cache=True, nogil=True)
def match_components(
    levels: np.ndarray,
    parent: np.ndarray,
    area: np.ndarray,
    counting: np.ndarray,
    pixels: np.ndarray,
    ends: np.ndarray,
    min_areas: np.ndarray,
    numerators: np.ndarray,
    denominator: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches true instances to the components at each threshold.

    Only a component that holds more than half of an instance can match it. Those that do contain
    each other, one at each threshold, so an instance is followed from its highest pixels down.

    Args:
        levels: Image, flat, uint8.
        parent: Its tree.
        area: Area of every node.
        counting: What of it counts.
        pixels: The pixels of the true instances, one instance after the other.
        ends: Where each instance ends in it.
        min_areas: Smallest areas kept, ascending.
        numerators: A match has an IoU greater than each of these by ``denominator``, ascending,
            the first of them a half.
        denominator: See above.

    Returns:
        Changes along the thresholds of the matches, (numerators, areas, 257), and of the sum of
        their IoU at the first of the numerators, (areas, 257); and of the components among them
        more than half of which does not count, (areas, 257).
    """
    matched = np.zeros((numerators.size, min_areas.size, LEVELS + 1), np.int64)
    ious = np.zeros((min_areas.size, LEVELS + 1), np.float64)
    open_matches = np.zeros((min_areas.size, LEVELS + 1), np.int64)
    held = np.zeros(levels.size, np.int32)
    next_of = np.full(levels.size, -1, np.int32)
    heads = np.full(LEVELS, -1, np.int32)
    start = 0
    for end in ends:
        size = end - start
        for pixel in pixels[start:end]:
            above = parent[pixel]
            node = above if levels[above] == levels[pixel] else pixel
            if held[node] == 0:
                next_of[node] = heads[levels[node]]
                heads[levels[node]] = node
            held[node] += 1
        for level in range(LEVELS - 1, -1, -1):
            while heads[level] >= 0:
                node = heads[level]
                heads[level] = next_of[node]
                count = held[node]
                held[node] = 0
                above = parent[node]
                union = counting[node] + size - count
                kept = np.searchsorted(min_areas, area[node], side="right") - 1
                first = 0 if above == node else levels[above] + 1
                if kept >= 0 and denominator * count > numerators[0] * union:
                    iou = count / union
                    ious[kept, first] += iou
                    ious[kept, level + 1] -= iou
                    if 2 * counting[node] < area[node]:
                        open_matches[kept, first] += 1
                        open_matches[kept, level + 1] -= 1
                    for step in range(numerators.size):
                        if denominator * count <= numerators[step] * union:
                            break
                        matched[step, kept, first] += 1
                        matched[step, kept, level + 1] -= 1
                # A component of twice its size and more cannot match it, nor what contains that.
                if above == node or counting[node] >= 2 * size:
                    continue
                if held[above] == 0:
                    next_of[above] = heads[levels[above]]
                    heads[levels[above]] = above
                held[above] += count
        start = end
    return matched, ious, open_matches


@numba.njit(cache=True, nogil=True)
def build_component_tree(
    levels: np.ndarray, width: int, plane: int
) -> tuple[np.ndarray, np.ndarray]:
    """Builds the tree of components of an image.

    A node is named by one of its pixels; a pixel that names none points to the node of its
    level that it belongs to, a node to the next lower one that holds it.

    Args:
        levels: Image, flat, uint8.
        width: Its width.
        plane: Pixels of a plane: of a volume those of one z, of a section all.

    Returns:
        Order of the pixels from the highest level to the lowest, and the parent of each pixel,
        both int32. The root, which is the last in order, is its own parent.
    """
    pixels = levels.size
    sides = 4 if plane == pixels else 6
    order = _sort_descending(levels)
    parent = np.empty(pixels, np.int32)
    root = np.full(pixels, -1, np.int32)
    flooded = pixels - np.count_nonzero(levels == 0)
    for place in range(flooded):
        pixel = order[place]
        parent[pixel] = pixel
        root[pixel] = pixel
        in_plane = pixel % plane
        column = in_plane % width
        for side in range(sides):
            if side == 0:
                if in_plane < width:
                    continue
                neighbour = pixel - width
            elif side == 1:
                if in_plane + width >= plane:
                    continue
                neighbour = pixel + width
            elif side == 2:
                if column == 0:
                    continue
                neighbour = pixel - 1
            elif side == 3:
                if column == width - 1:
                    continue
                neighbour = pixel + 1
            elif side == 4:
                if pixel < plane:
                    continue
                neighbour = pixel - plane
            else:
                if pixel + plane >= pixels:
                    continue
                neighbour = pixel + plane
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
def _sort_descending(levels: np.ndarray) -> np.ndarray:
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
