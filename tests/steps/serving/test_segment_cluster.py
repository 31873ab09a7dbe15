"""The command on two workers of this machine, killed and going on."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import tifffile

from bench.config.running import SegmentConfig
from bench.inference import tiles
from bench.inference.tile_store import finished_tiles
from bench.steps.segment import segment

ENTRY = Path(__file__).parents[3] / "entrypoints" / "segment.py"
# Of 32 px, in the part of the montage that is segmented.
TILES = 9 * 11


@pytest.fixture(scope="module")
def image(montage, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.tif"
    tifffile.imwrite(path, tifffile.imread(montage)[:280, :340])
    return path


@pytest.fixture
def experiment(pipeline, use_store, monkeypatch, tmp_path):
    """An experiment of its own, so that no other run of the same images is found."""
    use_store(pipeline.store)
    made = pipeline.store.client.create_experiment(f"cluster {tmp_path}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", made)
    return made


@pytest.fixture
def expected(pipeline, use_store, image, tmp_path, contents):
    """What a segmentation here writes."""
    use_store(pipeline.store)
    segment(config(pipeline, image, tmp_path / "expected" / "out"))
    return contents(tmp_path / "expected" / "out")


def config(pipeline, image, output):
    return SegmentConfig(
        run_id=pipeline.trained, input=str(image), output=str(output), device="cpu"
    )


@pytest.fixture
def start(pipeline, image, expected, experiment, start_process, python_environment, tmp_path):
    """Starts the command on two workers, in a process group of its own."""
    pytest.importorskip("distributed")
    started = []

    def start():
        given = vars(config(pipeline, image, tmp_path / "two" / "out"))
        given |= {"cluster": "local", "workers": 2}
        values = {key: "auto" if value is None else value for key, value in given.items()}
        store = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
        with (tmp_path / "log").open("a") as log:
            process = start_process(
                [sys.executable, str(ENTRY), *(f"--{k}={v}" for k, v in values.items())],
                env=python_environment | store,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def count_finished(folder):
    return sum(
        len(finished_tiles(flags.parent))
        for flags in folder.glob(".out.unfinished-*/tiles/*/finished")
    )


def wait_for_tiles(process, folder, more_than=0):
    while count_finished(folder) <= more_than:
        assert process.poll() is None, (folder.parent / "log").read_text()
        time.sleep(0.005)


def status(pipeline, experiment):
    (run,) = pipeline.store.client.search_runs([experiment])
    return run.info.status


def test_the_tasks_of_a_killed_worker_are_done_by_another(
    start, pipeline, experiment, expected, contents, tasks_of, tmp_path
):
    process = start()
    while not (tasks := tasks_of(process, "bench.steps.serving.task")):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    worker = tasks[0].parent()
    wait_for_tiles(process, tmp_path / "two")
    worker.kill()
    assert process.wait() == 0, (tmp_path / "log").read_text()
    assert contents(tmp_path / "two" / "out") == expected
    assert status(pipeline, experiment) == "FINISHED"
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["out"]


def test_the_same_command_goes_on_here_and_there(
    start, pipeline, experiment, expected, contents, tmp_path, image, monkeypatch
):
    """SIGTERM, then SIGKILL, both on the cluster; what is left is predicted here, once."""
    folder = tmp_path / "two"
    process = start()
    wait_for_tiles(process, folder)
    inside = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait() == 1
    assert status(pipeline, experiment) == "KILLED"
    assert psutil.wait_procs(inside, timeout=20)[1] == []
    kept = count_finished(folder)
    assert 0 < kept < TILES
    process = start()
    wait_for_tiles(process, folder, more_than=kept)
    inside = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(inside, timeout=20)[1] == []
    assert not (folder / "out").exists()
    finished, fed = count_finished(folder), []
    # The tasks may have ended before they saw that their worker is gone.
    assert kept < finished <= TILES
    start_tiles = tiles.start_tiles

    def counting(network, given, *others, **named):
        fed.append(len(given))
        return start_tiles(network, given, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", counting)
    segment(config(pipeline, image, folder / "out"))
    assert sum(fed) == TILES - finished
    assert contents(folder / "out") == expected
    assert status(pipeline, experiment) == "FINISHED"
