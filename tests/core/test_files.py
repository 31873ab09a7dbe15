import errno
import json
import os
import signal
import threading

import pytest
from safetensors import SafetensorError

from bench.core.files import check_output, locked, write_json, write_text, write_whole
from bench.errors import BenchError


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "µm\n")
    write_text(path, "nm\n")
    assert path.read_bytes() == b"nm\n"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_sorted_and_readable(tmp_path):
    path = tmp_path / "content.json"
    write_json(path, {"b": [1, None], "a": {"y": 0.1}})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"b": [1, None], "a": {"y": 0.1}}
    assert text.startswith('{\n  "a": {')
    assert text.endswith("}\n")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_changes_nothing(tmp_path, error, before):
    path = tmp_path / "file"
    if before:
        path.write_bytes(before)

    def write(temporary):
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(error):
        write_whole(path, write)
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "content.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "1\n"


def test_old_file_is_in_place_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(temporary):
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent
        assert path.read_bytes() == b"old"

    with path.open("rb") as reader:
        write_whole(path, write)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(temporary):
        temporary.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_whole(path, write)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_text(path, "new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left on device")],
)
def test_a_full_disk_is_said_in_one_line(tmp_path, error):
    def write(temporary):
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(BenchError, match=r"there must be space for .*file, none is left: free"):
        write_whole(tmp_path / "file", write)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    check_output(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BenchError, match=r"output must be a folder .*, which is a file: give"):
        check_output(tmp_path / "file" / "results")
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BenchError, match="that may not be written: give yourself permission"):
        check_output(tmp_path / "new")


def test_a_lock_is_waited_for(tmp_path):
    path, order, waiting = tmp_path / "folder" / "lock", [], threading.Event()

    def wait():
        waiting.set()
        with locked(path):
            order.append("second")

    other = threading.Thread(target=wait)
    with locked(path):
        other.start()
        assert waiting.wait(10)
        other.join(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
