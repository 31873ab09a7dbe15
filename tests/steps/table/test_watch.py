"""compare watch=true: while a benchmark runs, on a terminal and in a log file, and interrupted."""

import csv
import io
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.config.scoring import CompareConfig
from bench.errors import BenchError
from bench.steps import compare as module
from bench.steps.compare import compare
from bench.tracking.ownership.heartbeat import HEARTBEAT_TAG, Beat, start_of, this_process

PROJECT = Path(__file__).parents[3]
SECONDS = 0.3


@pytest.fixture
def config(tmp_path):
    return CompareConfig(output=str(tmp_path / "out"), watch=True, watch_seconds=SECONDS)


def wait_until(condition, what):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"half a minute passed without {what}")


def read_seeds(output):
    """Seeds in the table; None where a file is not there or not whole."""
    table = output / "benchmark.csv"
    if not table.exists():
        return None
    (row,) = csv.DictReader(table.open())
    return row["seeds"]


def compare_runs(store):
    """Statuses of the runs of compare."""
    runs = store.client.search_runs([store.experiment_id], "tags.`bench.step` = 'compare'")
    return [run.info.status for run in runs]


def test_the_table_follows_a_benchmark_and_ends_with_it(
    store, record, evaluated, config, tmp_path, capsys, caplog
):
    """Before the first evaluation it waits; each evaluation is a new table; then it is over."""
    caplog.set_level("INFO")
    output, seen, watched = tmp_path / "out", [], []
    benchmark = record("benchmark", status="RUNNING")
    watching = threading.Thread(target=lambda: watched.append(compare(config, store)))
    watching.start()
    try:
        wait_until(lambda: "nothing is evaluated yet: waiting" in caplog.text, "waiting")
        assert not output.exists()
        for seed in range(3):
            evaluated(0.5 + seed / 10, seed=seed)
            wait_until(lambda: (output / "benchmark.png").exists(), "files")
            expected = " ".join(map(str, range(seed + 1)))
            wait_until(lambda expected=expected: read_seeds(output) == expected, expected)
            seen.append(read_seeds(output))
        assert watching.is_alive(), "a benchmark runs"
        assert compare_runs(store) == []
    finally:
        store.client.set_terminated(benchmark)
        watching.join(timeout=60)
    assert not watching.is_alive()
    assert seen == ["0", "0 1", "0 1 2"]
    assert compare_runs(store) == ["FINISHED"]
    assert len(watched) == 1
    assert "nothing runs and nothing has changed in 0.3 s: watching ends" in caplog.text
    # No terminal: a table for each change, and no other.
    assert capsys.readouterr().out.count("Structure") == 3


def test_a_cell_that_is_still_running_says_so(store, record, evaluated, config, tmp_path):
    evaluated(0.5)
    training = record("finetune", method="finetuned", status="RUNNING")
    watching = threading.Thread(target=lambda: compare(config, store))
    watching.start()
    table = tmp_path / "out" / "benchmark.csv"
    reason = f"training has not ended (run {training})"
    try:
        wait_until(lambda: table.exists() and reason in table.read_text(), "the reason")
    finally:
        store.client.set_terminated(training, "FAILED")
        watching.join(timeout=60)
    assert "training failed: no reason known" in table.read_text()


def test_a_run_whose_process_dies_meanwhile_is_not_waited_for(
    store, record, evaluated, config, tmp_path
):
    evaluated(0.5)
    training = record("finetune", method="finetuned", status="RUNNING")
    with subprocess.Popen(["sleep", "60"]) as other:
        holder = replace(this_process(), pid=other.pid, started=start_of(other.pid))
        beat = Beat(holder, time.time())
        store.client.set_tag(training, HEARTBEAT_TAG, beat.text())
        watching = threading.Thread(target=lambda: compare(config, store))
        watching.start()
        wait_until(lambda: (tmp_path / "out" / "benchmark.csv").exists(), "a table")
        time.sleep(3 * SECONDS)
        assert watching.is_alive()
        other.kill()
    watching.join(timeout=60)
    assert not watching.is_alive()
    assert store.client.get_run(training).info.status == "KILLED"
    assert compare_runs(store) == ["FINISHED"]


def test_a_benchmark_that_evaluated_nothing_is_an_error(store, record, config, tmp_path):
    running = record("finetune", status="RUNNING")
    threading.Timer(1, lambda: store.client.set_terminated(running, "FAILED")).start()
    with pytest.raises(BenchError, match="there must be an evaluation to tabulate"):
        compare(config, store)
    assert not (tmp_path / "out").exists()
    assert compare_runs(store) == []


def test_a_terminal_shows_one_table_that_changes_in_place(
    store, record, evaluated, config, monkeypatch
):
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=100, height=60)
    monkeypatch.setattr(module, "Console", lambda: terminal)
    evaluated(0.5)
    running = record("finetune", method="finetuned", status="RUNNING")
    threading.Timer(1, lambda: store.client.set_terminated(running)).start()
    compare(config, store)
    text = written.getvalue()
    assert "running: " in text
    assert "nothing runs (Ctrl-C ends)" in text
    # Lines are erased before they are written anew.
    assert "\x1b[2K" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("evaluations", [0, 1])
def test_an_interruption_keeps_the_table_and_says_so(
    store, record, evaluated, tmp_path, start_process, python_environment, number, evaluations
):
    for _ in range(evaluations):
        evaluated(0.5)
    record("benchmark", status="RUNNING")
    environment = python_environment | {
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }
    output = tmp_path / "out"
    command = [sys.executable, str(PROJECT / "entrypoints" / "compare.py")]
    command += ["--watch=true", "--watch_seconds=0.5", f"--output={output}"]
    process = start_process(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        if evaluations:
            wait_until(lambda: (output / "benchmark.png").exists(), "files")
            process.send_signal(number)
        else:
            assert "nothing is evaluated yet: waiting, running: " in process.stderr.readline()
            process.send_signal(number)
        printed, written = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert written.splitlines()[-1] == "interrupted: the same command goes on where it stopped"
    assert "Traceback" not in written
    assert compare_runs(store) == ["FINISHED"] * evaluations
    assert ("From scratch" in printed) == bool(evaluations)
    assert output.exists() == bool(evaluations)
    assert not list(tmp_path.rglob("*.tmp"))
