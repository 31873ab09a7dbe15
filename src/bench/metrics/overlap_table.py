"""Pixels of every pair of ids of two label images, in one reading of them.

Pairs are keys of a hash table, looked up once per run, a stretch over which neither id changes.
Sorting the runs, as numpy would, takes several times as long, and so does the hash table of
bioimage_cpp, which is asked for every pixel.
"""

import numba
import numpy as np

# Pixels whose runs are found before they are counted: all of it stays in the nearest caches.
PAIRS_AT_ONCE = 1 << 14
FIRST_SLOTS = 1 << 12
# Fibonacci hashing: Knuth, The Art of Computer Programming 3, section 6.4.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
# Compiled once for ids that may and that may not be written to.
_IDS = numba.types.Array(numba.uint32, 1, "C", readonly=True)


def new_table() -> tuple[np.ndarray, np.ndarray]:
    """An empty table: keys, first id << 32 | second id, and pixels of each, 0 in a free slot."""
    return np.zeros(FIRST_SLOTS, np.uint64), np.zeros(FIRST_SLOTS, np.int64)


@numba.njit(cache=True, nogil=True)
def _find_starts(
    first: np.ndarray, second: np.ndarray, changed: np.ndarray, starts: np.ndarray
) -> int:
    """Writes where runs begin among the pixels of a block, its first included; their number.

    Args:
        first: Ids of the block.
        second: Ids of the same pixels.
        changed: (pixels,) uint8, to work in.
        starts: Room for as many places as pixels.
    """
    # Views side by side, which the compiler compares several pixels at a time.
    one, one_before = first[1:], first[:-1]
    two, two_before = second[1:], second[:-1]
    changed[:] = 0
    for place in range(one.size):
        changed[place] = (one[place] != one_before[place]) | (two[place] != two_before[place])
    starts[0] = 0
    found = 1
    words = changed.view(np.uint64)
    for word in range(words.size):
        if words[word] == 0:
            continue
        # Each place is written, and kept by counting it: processors guess branches here wrong.
        for place in range(8 * word, 8 * word + 8):
            starts[found] = place + 1
            found += changed[place]
    return found


@numba.njit(cache=True, nogil=True)
def _find_slot(keys: np.ndarray, counts: np.ndarray, key: np.uint64) -> np.intp:
    """The slot of a key, or the free one where it belongs; there are 2^n slots, not all taken."""
    last = keys.size - 1
    slot = np.intp((key * _GOLDEN) >> _HALF) & last
    while keys[slot] != key and counts[slot] != 0:
        slot = (slot + 1) & last
    return slot


@numba.njit(cache=True, nogil=True)
def _enlarge(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves pairs into a table of four times as many slots."""
    more_keys, more_counts = np.zeros(4 * keys.size, np.uint64), np.zeros(4 * keys.size, np.int64)
    for slot in range(keys.size):
        if counts[slot] != 0:
            place = _find_slot(more_keys, more_counts, keys[slot])
            more_keys[place], more_counts[place] = keys[slot], counts[slot]
    return more_keys, more_counts


@numba.njit((_IDS, _IDS, numba.uint64[::1], numba.int64[::1]), cache=True, nogil=True)
def add_pairs(
    first: np.ndarray, second: np.ndarray, keys: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adds the pixels of two images to a table.

    Args:
        first: Ids, flat, uint32.
        second: Ids of the same pixels.
        keys: Pairs of ids so far, see ``new_table``; background is an id as any other.
        counts: Pixels of each.

    Returns:
        The keys and counts, in longer arrays where they did not suffice.
    """
    used = np.count_nonzero(counts)
    changed, starts = np.empty(PAIRS_AT_ONCE, np.uint8), np.empty(PAIRS_AT_ONCE + 1, np.int64)
    for block in range(0, first.size, PAIRS_AT_ONCE):
        ones, twos = first[block : block + PAIRS_AT_ONCE], second[block : block + PAIRS_AT_ONCE]
        found = _find_starts(ones, twos, changed, starts)
        starts[found] = ones.size
        for run in range(found):
            start = starts[run]
            key = (np.uint64(ones[start]) << _HALF) | np.uint64(twos[start])
            slot = _find_slot(keys, counts, key)
            if counts[slot] == 0:
                # Half of the slots stay free, so that a search ends soon.
                if 2 * used >= keys.size:
                    keys, counts = _enlarge(keys, counts)
                    slot = _find_slot(keys, counts, key)
                keys[slot] = key
                used += 1
            counts[slot] += starts[run + 1] - start
    return keys, counts
