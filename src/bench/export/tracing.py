"""Outlines of masks along pixel edges."""

import numpy as np


def trace_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Traces the outlines of a mask (y, x), holes included.

    Filled under the even-odd rule at pixel centres they give back exactly the mask.

    Returns:
        Closed polygons, each (n, 2) as x, y of pixel corners, in px from the corner of the mask.
        None for an empty mask.
    """
    starts, ends = list_edges(np.pad(mask.astype(bool), 1))
    # As many edges end as start at every corner: pair them in order.
    following = np.empty(len(starts), dtype=np.intp)
    following[np.argsort(ends, kind="stable")] = np.argsort(starts, kind="stable")
    straight = (ends - starts) == (ends - starts)[following]
    width = mask.shape[1] + 3
    outlines = []
    for loop in list_cycles(following):
        corners = ends[loop[~straight[loop]]]
        outlines.append(np.column_stack([corners % width - 1, corners // width - 1]))
    return outlines


def list_edges(padded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixel edges around a mask with an empty border, with the mask on their right.

    Returns:
        Where each starts and ends, as numbers of pixel corners.
    """
    width = padded.shape[1] + 1
    corner = np.arange((padded.shape[0] + 1) * width).reshape(-1, width)
    inner, shifted_y, shifted_x = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    here, right, below = corner[1:-1, 1:-1], corner[1:-1, 2:], corner[2:, 1:-1]
    sides = (
        (inner & ~shifted_y, here, right),
        (~inner & shifted_y, right, here),
        (inner & ~shifted_x, below, here),
        (~inner & shifted_x, here, below),
    )
    starts = np.concatenate([start[where] for where, start, _ in sides])
    ends = np.concatenate([end[where] for where, _, end in sides])
    return starts, ends


def list_cycles(following: np.ndarray) -> list[np.ndarray]:
    """Splits a permutation into its cycles."""
    successor = following.tolist()
    seen = [False] * len(successor)
    cycles = []
    for first in range(len(successor)):
        cycle = []
        step = first
        while not seen[step]:
            seen[step] = True
            cycle.append(step)
            step = successor[step]
        if cycle:
            cycles.append(np.array(cycle))
    return cycles
