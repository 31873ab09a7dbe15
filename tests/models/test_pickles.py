import contextlib
import functools
import os
import pathlib
import subprocess
import sys
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.models.pickles import attributes_of, name_of, read_inert, read_trusted


class Calls:
    """Pickled as a call of a function, which is made when the file is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch {}", f"{os.system.__module__}.system"),
        (eval, "open({!r}, 'w')", "builtins.eval"),
        (exec, "open({!r}, 'w')", "builtins.exec"),
        (__import__, "antigravity", "builtins.__import__"),
        (subprocess.Popen, "touch {}", "subprocess.Popen"),
        (open, "{}", "open"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: {"model_state": {}, "init": evil}]
)
def test_calls_of_another_program_are_refused_and_not_made(
    path, tmp_path, function, argument, name, wrap
):
    marker = tmp_path / "marker"
    save(path, wrap(Calls(function, argument.format(str(marker)))))
    with pytest.raises(BenchError, match=r"trust_checkpoint=true if you trust") as caught:
        read_inert(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "make_call",
    [
        lambda marker: Calls(np.savetxt, str(marker), [1]),
        lambda marker: Calls(torch.save, {}, str(marker)),
        lambda marker: Calls(functools.partial(pathlib.Path.touch, marker)),
        lambda marker: Calls(getattr(pathlib.Path, "touch"), marker),  # noqa: B009
    ],
)
def test_calls_into_known_packages_are_not_made_either(path, tmp_path, make_call):
    marker = tmp_path / "marker"
    save(path, {"call": make_call(marker)})
    with contextlib.suppress(BenchError):  # What a stand-in returns cannot be called.
        read_inert(path)
    assert not marker.exists()


def test_a_trusted_file_runs(path, tmp_path, caplog):
    marker = tmp_path / "marker"
    save(path, Calls(os.system, f"touch {marker}"))
    read_trusted(path)
    assert marker.exists()
    assert "is trusted: the program that it contains runs" in caplog.text


def test_what_other_libraries_allow_is_not_called(path, tmp_path):
    marker = tmp_path / "marker"
    save(path, Calls(np.savetxt, str(marker), [1]))
    with torch.serialization.safe_globals([(np.savetxt, f"{np.savetxt.__module__}.savetxt")]):
        before = set(torch.serialization.get_safe_globals())
        read_inert(path)
        assert set(torch.serialization.get_safe_globals()) == before
    assert not marker.exists()


def test_values_and_tensors_are_read_and_objects_keep_their_state(path):
    content = {
        "tensor": torch.arange(3.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "values": [1, 2.5, None, True, "a", (3, OrderedDict(a=1))],
        "sigmoid": torch.nn.Sigmoid(),
        "class": torch.nn.ReLU,
        "array": np.arange(3),
        "path": pathlib.PurePosixPath("a/b"),
        "rois": (slice(0, 4),),
    }
    read = read_inert(save(path, content))
    assert torch.equal(read["tensor"], content["tensor"])
    assert torch.equal(read["parameter"], content["parameter"])
    assert read["values"] == content["values"]
    assert name_of(read["sigmoid"]) == "torch.nn.modules.activation.Sigmoid"
    assert name_of(read["class"]) == "torch.nn.modules.activation.ReLU"
    assert attributes_of(read["sigmoid"])["training"] is True
    assert attributes_of(read["path"]) == {}
    assert not isinstance(read["sigmoid"], torch.nn.Module)


def test_trusted_objects_look_the_same(path):
    read = read_trusted(save(path, torch.nn.Sigmoid()))
    assert name_of(read) == "torch.nn.modules.activation.Sigmoid"
    assert attributes_of(read)["training"] is True


@pytest.mark.parametrize("read", [read_inert, read_trusted])
@pytest.mark.parametrize("left", [0, 3, 200, -50])
def test_truncated_files_are_noticed(path, read, left):
    save(path, torch.nn.Linear(10, 10))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BenchError, match=r"model\.pt is not a whole checkpoint") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89PNG\r\n", b"text", b"\x80\x02}."])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(BenchError, match="is not a whole checkpoint of torch"):
        read_inert(path)


def test_pickles_that_torch_reads_only_freely_say_so(path):
    """A deque is filled by an operation that torch does not do safely."""
    save(path, {"state": deque([1, 2])})
    with pytest.raises(BenchError, match=r"set trust_checkpoint=true if you trust"):
        read_inert(path)
    assert read_trusted(path) == {"state": deque([1, 2])}


def test_nothing_of_the_file_is_imported(path):
    """Only names are read: a model may be of packages that are not installed."""
    save(path, {"module": Calls(OrderedDict)})
    content = path.read_bytes().replace(b"collections\nOrderedDict", b"collections\nOrderlyDic")
    path.write_bytes(content)
    before = set(sys.modules)
    with pytest.raises(BenchError):  # The archive's checksum: the bytes were changed.
        read_inert(path)
    assert set(sys.modules) == before
