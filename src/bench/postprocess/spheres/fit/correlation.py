"""The centre of a vesicle: where its image is most like its own rotational average.

Images are blocks (z, y, x) of float32 around a vesicle, in voxels. A block of one plane is an image
of a circle. Where a block ends the volume ends: what lies beyond counts nowhere.
"""

import math

import numba
import numpy as np

# Sums in any order: what lets the compiler add many voxels at a time.
_SUMS = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True)
def _average_by_distance(block: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Mean grey value at whole distances from a centre.

    A voxel between two distances counts for both, the more the nearer.

    Args:
        block: Image (z, y, x), float32.
        centre: Where distances begin (z, y, x), float64.
        radius: The largest distance.

    Returns:
        Means at 0, 1 .. and two places beyond the radius, float64. Where no voxel is near, that of
        the next inner distance; inside of all, of the first that there is.
    """
    sums = np.zeros(math.ceil(radius) + 2)
    weights = np.zeros(sums.size)
    for z in range(*span_voxels(centre[0], radius, block.shape[0])):
        for y in range(*span_voxels(centre[1], radius, block.shape[1])):
            flat = (z - centre[0]) ** 2 + (y - centre[1]) ** 2
            if flat > radius * radius:
                continue
            reach = math.sqrt(radius * radius - flat)
            for x in range(*span_voxels(centre[2], reach, block.shape[2])):
                distance = math.sqrt(flat + (x - centre[2]) ** 2)
                place = min(int(distance), sums.size - 2)
                outward = distance - place
                sums[place] += (1 - outward) * block[z, y, x]
                weights[place] += 1 - outward
                sums[place + 1] += outward * block[z, y, x]
                weights[place + 1] += outward
    return _fill_means(sums, weights)


@numba.njit(cache=True, nogil=True)
def span_voxels(centre: float, reach: float, size: int) -> tuple[int, int]:
    """First voxel within reach of a centre along an axis, and the one after the last."""
    return max(0, math.ceil(centre - reach)), min(size, math.floor(centre + reach) + 1)


@numba.njit(cache=True, nogil=True)
def _fill_means(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums over weights; a place without any takes that of the place before it, or the first."""
    means = np.zeros(sums.size)
    before = 0.0
    for place in range(sums.size - 1, -1, -1):
        if weights[place] > 1e-9:
            before = sums[place] / weights[place]
    for place in range(sums.size):
        if weights[place] > 1e-9:
            before = sums[place] / weights[place]
        means[place] = before
    return means


@numba.njit(cache=True, nogil=True)
def find_roundest(
    block: np.ndarray, centre: np.ndarray, radius: float, spacing: float
) -> np.ndarray:
    """Of places around a centre the one around which a ball is most like its rotational average.

    They lie on a grid and within two of its spacings from the centre: 33 places, in a section 13.

    Args:
        block: Image (z, y, x), float32.
        centre: The place in the middle, float64 (z, y, x).
        radius: Of the balls.
        spacing: Of the grid.
    """
    best, highest = centre.copy(), -1.0
    place = np.empty(3)
    planes = 0 if block.shape[0] == 1 else 2
    for z in range(-planes, planes + 1):
        for y in range(-2, 3):
            for x in range(-2, 3):
                if z * z + y * y + x * x > 4:
                    continue
                place[0] = centre[0] + spacing * z
                place[1] = centre[1] + spacing * y
                place[2] = centre[2] + spacing * x
                share = _share_of_average(block, place, radius)
                if share > highest:
                    highest = share
                    best[:] = place
    return best


@numba.njit(cache=True, nogil=True)
def _share_of_average(block: np.ndarray, centre: np.ndarray, radius: float) -> float:
    """Share of the variance of a ball's grey values that their distance to its centre explains."""
    ranks = np.zeros((int(radius) + 2, 2))
    squares = 0.0
    for z in range(*span_voxels(centre[0], radius, block.shape[0])):
        for y in range(*span_voxels(centre[1], radius, block.shape[1])):
            flat = (z - centre[0]) ** 2 + (y - centre[1]) ** 2
            if flat > radius * radius:
                continue
            reach = math.sqrt(radius * radius - flat)
            for x in range(*span_voxels(centre[2], reach, block.shape[2])):
                place = int(math.sqrt(flat + (x - centre[2]) ** 2) + 0.5)
                ranks[place, 0] += 1
                ranks[place, 1] += block[z, y, x]
                squares += block[z, y, x] ** 2
    count = total = explained = 0.0
    for place in range(len(ranks)):
        count += ranks[place, 0]
        total += ranks[place, 1]
        explained += ranks[place, 1] ** 2 / max(ranks[place, 0], 1.0)
    spread = squares - total * total / max(count, 1.0)
    return (explained - total * total / count) / spread if spread > 0 else 0.0


@numba.njit(cache=True, nogil=True)
def find_shift(
    block: np.ndarray, centre: np.ndarray, radius: float, farthest: int
) -> tuple[np.ndarray, float]:
    """Where a ball around a centre should lie, by its likeness to its own rotational average.

    The likeness is Pearson's correlation between the average and the voxels of the ball laid
    elsewhere. It is followed uphill by whole voxels along the axes; the peak lies at the top of the
    parabola through the best shift and its two neighbours of each axis.

    Args:
        block: Image (z, y, x), float32.
        centre: Where the ball lies (z, y, x), float64.
        radius: Its radius.
        farthest: Largest shift along an axis.

    Returns:
        The shift to add to the centre, float64 (z, y, x); and the likeness of the best whole shift.
    """
    profile = _average_by_distance(block, centre, radius)
    template, rows, corner = _draw_template(profile, centre, radius, block.shape[0] == 1)
    best = np.zeros(3, np.intp)
    likeness = _correlate(block, template, rows, corner)
    beside = np.zeros((3, 2))
    first = 1 if block.shape[0] == 1 else 0
    while True:
        along, way, highest = 0, 0, likeness
        for axis in range(first, 3):
            for side in range(2):
                corner[axis] += 2 * side - 1
                beside[axis, side] = _correlate(block, template, rows, corner)
                corner[axis] -= 2 * side - 1
                if beside[axis, side] > highest:
                    along, way, highest = axis, 2 * side - 1, beside[axis, side]
        if way == 0 or abs(best[along] + way) > farthest:
            break
        best[along] += way
        corner[along] += way
        likeness = highest
    shift = np.zeros(3)
    for axis in range(first, 3):
        shift[axis] = best[axis] + find_peak(beside[axis, 0], likeness, beside[axis, 1])
    return shift, likeness


@numba.njit(cache=True, nogil=True)
def find_peak(before: float, middle: float, after: float) -> float:
    """Place of the top of the parabola through values at -1, 0 and 1, at most half a step away."""
    bend = before - 2 * middle + after
    return 0.0 if bend >= 0 else min(0.5, max(-0.5, 0.5 * (before - after) / bend))


@numba.njit(cache=True, nogil=True)
def _draw_template(
    profile: np.ndarray, centre: np.ndarray, radius: float, flat: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a rotational average around a centre.

    Returns:
        The ball, float32 (z, y, x); first column and column after the last of each of its rows,
        (z, y, 2); and the voxel of the block that its first one lies on.
    """
    corner = np.empty(3, np.intp)
    size = np.empty(3, np.intp)
    for axis in range(3):
        corner[axis] = math.ceil(centre[axis] - radius)
        size[axis] = math.floor(centre[axis] + radius) + 1 - corner[axis]
    if flat:
        corner[0], size[0] = 0, 1
    template = np.zeros((size[0], size[1], size[2]), np.float32)
    rows = np.zeros((size[0], size[1], 2), np.intp)
    for z in range(size[0]):
        for y in range(size[1]):
            apart = (z + corner[0] - centre[0]) ** 2 + (y + corner[1] - centre[1]) ** 2
            if apart > radius * radius:
                continue
            reach = math.sqrt(radius * radius - apart)
            # Rounding may not lead beyond the box.
            rows[z, y, 0] = max(0, math.ceil(centre[2] - reach) - corner[2])
            rows[z, y, 1] = min(size[2], math.floor(centre[2] + reach) + 1 - corner[2])
            for x in range(rows[z, y, 0], rows[z, y, 1]):
                distance = math.sqrt(apart + (x + corner[2] - centre[2]) ** 2)
                place = min(int(distance), profile.size - 2)
                outward = distance - place
                template[z, y, x] = (1 - outward) * profile[place] + outward * profile[place + 1]
    return template, rows, corner


@numba.njit(cache=True, nogil=True)
def _correlate(
    block: np.ndarray, template: np.ndarray, rows: np.ndarray, corner: np.ndarray
) -> float:
    """Pearson's correlation of a template and the voxels it lies on; 0 where one is constant."""
    count, sums = 0, np.zeros(5)
    for z in range(max(0, -corner[0]), min(template.shape[0], block.shape[0] - corner[0])):
        for y in range(max(0, -corner[1]), min(template.shape[1], block.shape[1] - corner[1])):
            start = max(rows[z, y, 0], -corner[2])
            stop = min(rows[z, y, 1], block.shape[2] - corner[2])
            if start >= stop:
                continue
            count += stop - start
            voxels = block[z + corner[0], y + corner[1]]
            _add_row(template[z, y, start:stop], voxels[start + corner[2] : stop + corner[2]], sums)
    if count == 0:
        return 0.0
    spread = (sums[2] - sums[0] ** 2 / count) * (sums[3] - sums[1] ** 2 / count)
    return (sums[4] - sums[0] * sums[1] / count) / math.sqrt(spread) if spread > 0 else 0.0


@numba.njit(cache=True, nogil=True, fastmath=_SUMS)
def _add_row(first: np.ndarray, second: np.ndarray, sums: np.ndarray) -> None:
    """Adds the sums of two rows, of their squares and of their products."""
    one = other = squares = other_squares = products = np.float32(0)
    for place in range(first.size):
        one += first[place]
        other += second[place]
        squares += first[place] * first[place]
        other_squares += second[place] * second[place]
        products += first[place] * second[place]
    sums[0] += one
    sums[1] += other
    sums[2] += squares
    sums[3] += other_squares
    sums[4] += products
