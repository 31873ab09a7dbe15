"""The blocks of an image of ids that hold more than background: most do not."""

import numpy as np

# Small, so that few of them hold something: half the side halves the time that labels take.
BLOCK_PX = 128


# Rows and columns.
Block = tuple[slice, slice]


def all_blocks(shape: tuple[int, ...], side: int) -> list[Block]:
    """Cuts an image (y, x) into squares; those at the ends of rows and columns are smaller."""
    height, width = shape
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def occupied_blocks(labels: np.ndarray) -> list[Block]:
    """Finds the square blocks in which something is labelled.

    Args:
        labels: Ids (y, x), 0 background, none negative.

    Returns:
        Rows and columns of each, from top left to bottom right; those at the ends of rows and
        columns are smaller.
    """
    height, width = labels.shape
    lefts = np.arange(0, width, BLOCK_PX)
    blocks = []
    for top in range(0, height, BLOCK_PX):
        rows = slice(top, min(top + BLOCK_PX, height))
        # The largest of each column first: this runs along the memory.
        largest = np.maximum.reduceat(labels[rows].max(axis=0), lefts)
        for left in lefts[largest > 0]:
            blocks.append((rows, slice(int(left), min(int(left) + BLOCK_PX, width))))
    return blocks
