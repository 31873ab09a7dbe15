import pytest
import torch

from bench.errors import BenchError
from bench.memory import explain_out_of_memory


def test_an_allocation_that_fails_names_what_to_lower():
    """The real allocator: no machine has this much."""
    with (
        pytest.raises(BenchError, match=r"a batch must fit into the memory.*: lower batch_size"),
        explain_out_of_memory("a batch", "lower batch_size (now 8)"),
    ):
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("CUDA out of")])
def test_other_kinds_of_it(error):
    with (
        pytest.raises(BenchError, match=r": lower it$"),
        explain_out_of_memory("a", "lower it"),
    ):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("a", "b"):
        raise RuntimeError("shapes do not fit")
