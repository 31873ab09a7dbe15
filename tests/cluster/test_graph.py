import itertools
import os
import signal
import threading
import time

import pytest

from bench.cluster import graph
from bench.cluster.graph import Task, longest_first, run_graph


@pytest.fixture
def run(two_workers, follow_orders, tmp_path):
    """Runs a graph of names; returns the outcomes by name, and what the workers noted."""

    def run(graph_of, orders=None):
        tasks = []
        for name, needs in graph_of.items():
            own = {"name": name, "notes": str(tmp_path / "notes")} | (orders or {}).get(name, {})
            wants = own.pop("wants", ())
            tasks.append(Task(name, own, tuple(needs), tuple(wants)))
        outcomes = run_graph(tasks, two_workers, follow_orders)
        assert set(outcomes) == set(graph_of)
        notes = [line.split(maxsplit=3) for line in (tmp_path / "notes").read_text().splitlines()]
        return outcomes, notes

    return run


def test_a_step_follows_those_it_needs_and_has_their_results(run):
    outcomes, notes = run({"a": "", "b": "a", "c": "a", "d": "bc"}, {"b": {"sleep": 0.3}})
    assert {o.state for o in outcomes.values()} == {"done"}
    assert [outcomes[name].value for name in "abcd"] == ["A", "B", "C", "D"]
    assert {name: results for name, _, _, results in notes} == {
        "a": "[]",
        "b": "[('a', 'A')]",
        "c": "[('a', 'A')]",
        "d": "[('b', 'B'), ('c', 'C')]",
    }
    assert notes[0][0] == "a"
    assert notes[-1][0] == "d"


def test_a_worker_has_one_task_at_a_time_and_all_have_some(run):
    names = dict.fromkeys("abcdef", "")
    _, notes = run(names, {name: {"sleep": 0.3} for name in names})
    workers = {pid for _, pid, _, _ in notes}
    assert len(workers) == 2
    for worker in workers:
        starts = [float(start) for _, pid, start, _ in notes if pid == worker]
        assert all(b - a > 0.29 for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("order", "reason"), [("fail", "no memory"), ("raise", "ValueError: it cannot be")]
)
def test_what_needs_a_failed_step_is_skipped_and_nothing_else(run, order, reason):
    orders = {"a": {order: True}, "e": {"wants": ["c", "d"]}}
    outcomes, notes = run({"a": "", "b": "a", "c": "b", "d": "", "e": ""}, orders)
    assert [name for name, *_ in notes if name in "bc"] == []
    assert outcomes["a"].reason == reason
    assert outcomes["b"].reason == f"skipped, its a failed: {reason}"
    assert outcomes["c"].reason == f"skipped, its b failed: skipped, its a failed: {reason}"
    assert (outcomes["d"].state, outcomes["e"].state) == ("done", "done")
    assert notes[-1][3] == "[('d', 'D')]"


def test_what_another_does_now_is_tried_again(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(graph, "AGAIN_S", 0.2)
    free = tmp_path / "free"
    threading.Timer(1.0, free.touch).start()
    with caplog.at_level("INFO"):
        outcomes, notes = run({"a": "", "b": "a"}, {"a": {"busy until": str(free)}})
    assert outcomes["b"].value == "B"
    assert len([1 for name, *_ in notes if name == "a"]) > 2
    assert caplog.messages == ["a: later: another does it"]


def test_the_task_of_a_killed_worker_goes_to_another(run, tmp_path):
    notes = tmp_path / "notes"

    def kill_the_first():
        while not (notes.exists() and notes.read_text()):
            time.sleep(0.05)
        os.kill(int(notes.read_text().split()[1]), signal.SIGKILL)

    threading.Thread(target=kill_the_first, daemon=True).start()
    outcomes, lines = run({"a": "", "b": "a"}, {"a": {"sleep": 2}})
    assert (outcomes["a"].state, outcomes["b"].state) == ("done", "done")
    assert [name for name, *_ in lines] == ["a", "a", "b"]
    assert lines[0][1] != lines[1][1]


@pytest.mark.parametrize(("killed", "state", "begun"), [(2, "done", 3), (3, "failed", 3)])
def test_a_task_whose_process_is_killed_is_begun_three_times(run, killed, state, begun):
    outcomes, lines = run({"a": "", "b": "a"}, {"a": {"killed": killed}})
    assert [name for name, *_ in lines if name == "a"] == ["a"] * begun
    assert {outcome.state for outcome in outcomes.values()} == {state}
    if state == "failed":
        assert outcomes["a"].reason == "its process was killed, 3 times over"


def test_long_chains_come_first_and_ends_fill_the_gaps():
    tasks = [Task("e", 0, ("t",)), Task("x", 0), Task("t", 0, ("a",)), Task("a", 0), Task("u", 0)]
    tasks.append(Task("o", 0, (), ("e", "u")))
    assert [task.name for task in longest_first(tasks)] == ["a", "t", "e", "u", "x", "o"]
