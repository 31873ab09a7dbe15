import psutil
import pytest
import torch

from bench.core import memory
from bench.core.memory import check_memory, explain_out_of_memory, free_bytes
from bench.errors import BenchError


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


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    machine = psutil.virtual_memory().total
    assert 0 < free_bytes() <= machine
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert 10_000 < free_bytes() <= machine
    (tmp_path / "memory.max").write_text("10000\n")
    assert free_bytes() == 7000
    check_memory(7000, "a section", "cut it")
    with pytest.raises(BenchError, match=r"a section needs about 0\.0 GB .* are free: cut it"):
        check_memory(7001, "a section", "cut it")
