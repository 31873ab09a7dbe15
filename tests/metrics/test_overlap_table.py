from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.instances import count_overlaps, count_pairs, match_instances
from bench.metrics.overlap_table import FIRST_SLOTS, PAIRS_AT_ONCE, add_pairs, new_table


def count_by_python(first, second):
    return Counter(zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True))


def count_by_table(first, second):
    keys, counts = add_pairs(first.astype(np.uint32), second.astype(np.uint32), *new_table())
    taken = counts > 0
    return {
        (key >> 32, key & (2**32 - 1)): count
        for key, count in zip(keys[taken].tolist(), counts[taken].tolist(), strict=True)
    }


@settings(max_examples=100, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(1, 40)), max_size=60
    )
)
def test_pairs_are_those_counted_one_by_one(runs):
    first = np.repeat([run[0] for run in runs], [run[2] for run in runs]).astype(np.uint32)
    second = np.repeat([run[1] for run in runs], [run[2] for run in runs]).astype(np.uint32)
    assert count_by_table(first, second) == count_by_python(first, second)


@pytest.mark.parametrize("beyond", [-1, 0, 1, 8])
def test_blocks_of_any_length_are_counted_to_their_end(beyond):
    random = np.random.default_rng(0)
    first, second = random.integers(0, 5, (2, 2 * PAIRS_AT_ONCE + beyond))
    assert count_by_table(first, second) == count_by_python(first, second)


def test_a_table_grows_with_its_pairs():
    first, second = np.random.default_rng(0).integers(0, 300, (2, 40 * FIRST_SLOTS))
    assert count_by_table(first, second) == count_by_python(first, second)


@pytest.mark.parametrize("name", ["u1", "i1", "u2", ">u2", "i4", ">i4", "u4", "i8", ">u8"])
def test_every_type_of_ids_is_matched_alike(name):
    truth, prediction = np.random.default_rng(0).integers(0, 100, (2, 50, 60)).repeat(4, axis=2)
    expected = match_instances(truth=truth, prediction=prediction)
    first, second = truth.astype(name), prediction.astype(name)
    assert match_instances(truth=first, prediction=second) == expected
    first.setflags(write=False)
    assert match_instances(truth=first, prediction=second[::-1][::-1]) == expected


def test_ids_that_lie_across_words_of_memory_are_matched():
    truth = np.random.default_rng(0).integers(0, 9, 100).astype(np.uint32)
    shifted = np.frombuffer(b"." + truth.tobytes(), np.uint8)[1:].view(np.uint32)
    assert not shifted.flags.aligned
    assert match_instances(truth=shifted, prediction=truth).true_positive == 8


@pytest.mark.parametrize("largest", [2**32 - 1, 2**32, 2**63 - 1])
def test_ids_beyond_32_bits_are_counted_as_small_ones(largest):
    """The largest id of the table, and what goes another way: areas and overlaps are the same."""
    small = np.random.default_rng(0).integers(0, 7, (2, 40, 50)).repeat(3, axis=2)
    wide = small.astype(np.uint64)
    wide[small == 6] = largest
    expected, found = count_overlaps(*small), count_overlaps(*wide)
    for name in vars(expected):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    in_one = count_pairs(wide[0].reshape(-1), wide[1].reshape(-1))
    assert (len(in_one[2]) == 49) == (largest < 2**32)
