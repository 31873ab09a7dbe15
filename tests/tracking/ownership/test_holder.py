import os
import subprocess
import sys
from dataclasses import replace

import pytest

from bench.tracking.ownership import heartbeat
from bench.tracking.ownership.heartbeat import is_running, start_of, this_process


@pytest.fixture
def other():
    """Another process, which ends when its input does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.stdin.close()


def test_a_process_is_there_until_it_ends_even_if_nobody_buries_it(other):
    holder = replace(this_process(), pid=other.pid, started=start_of(other.pid))
    assert is_running(holder) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert is_running(holder) is False
    other.wait()
    assert is_running(holder) is False


def test_another_process_with_the_same_pid_is_not_it(other):
    holder = replace(this_process(), pid=other.pid, started="1")
    assert is_running(holder) is False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"boot": "before"}, False),
        ({"boot": "before", "machine": ""}, None),
        ({"boot": "before", "machine": "another", "host": "b"}, None),
        ({"boot": "another", "host": "b"}, None),
        ({"namespace": "pid:[1]"}, None),
    ],
    ids=["the machine started again", "no id", "another machine", "a clone of it", "a container"],
)
def test_what_is_known_of_a_process_elsewhere(change, expected, monkeypatch):
    # A container has no id of its own.
    _, *others = heartbeat.this_machine()
    monkeypatch.setattr(heartbeat, "this_machine", lambda: ("an id", *others))
    here = this_process()
    assert here.machine == "an id"
    assert is_running(replace(here, **change)) is expected


def test_it_is_said_by_pid_and_host():
    assert str(replace(this_process(), pid=12, host="gpu1")) == "process 12 on gpu1"
