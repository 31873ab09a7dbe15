"""Sizes, sums of places and boxes of all instances of a volume, in one reading of it by runs."""

import numba
import numpy as np

# Compiled once for planes that may and that may not be written to.
_PLANE = numba.types.Array(numba.uint32, 2, "C", readonly=True)


@numba.njit(
    (_PLANE, numba.int64, numba.int64[::1], numba.int64[:, ::1], numba.int64[:, ::1]),
    cache=True,
    nogil=True,
)
def add_plane(
    plane: np.ndarray, z: int, voxels: np.ndarray, sums: np.ndarray, boxes: np.ndarray
) -> None:
    """Adds the instances of a plane to what is known of those of the planes before it.

    Args:
        plane: Ids (y, x), 0 background.
        z: Its number; planes come in order.
        voxels: (ids,), voxels of each.
        sums: (ids, 3), the sum of their z, y and x.
        boxes: (ids, 6), the least z, y, x, which begin high, and the largest, which begin at -1.
    """
    for y in range(plane.shape[0]):
        row = plane[y]
        x = 0
        while x < row.size:
            number, start = row[x], x
            while x < row.size and row[x] == number:
                x += 1
            if number == 0:
                continue
            length = x - start
            voxels[number] += length
            sums[number, 0] += z * length
            sums[number, 1] += y * length
            sums[number, 2] += (start + x - 1) * length // 2
            box = boxes[number]
            box[0] = min(box[0], z)
            box[1] = min(box[1], y)
            box[2] = min(box[2], start)
            box[3] = z
            box[4] = max(box[4], y)
            box[5] = max(box[5], x - 1)
