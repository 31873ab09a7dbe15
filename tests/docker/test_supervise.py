import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
SUPERVISE = "import sys; from supervise import supervise; sys.exit(supervise(sys.argv[1:]{}))"
# As `mlflow run` does: it dies at once and leaves behind what takes its time to end.
FAMILY = """
(trap 'sleep 0.5; echo saved > {folder}/saved; exit 0' TERM; touch {folder}/ready
 while :; do sleep 0.05; done) &
while :; do sleep 0.05; done
"""


def start(*command, more=""):
    return subprocess.Popen([sys.executable, "-c", SUPERVISE.format(more), *command], cwd=DOCKER)


def wait_for(file):
    for _ in range(200):
        if file.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"no {file} within 10 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_whole_family_and_the_last_is_waited_for(tmp_path, number):
    with start("bash", "-c", FAMILY.format(folder=tmp_path)) as process:
        try:
            wait_for(tmp_path / "ready")
            process.send_signal(number)
            status = process.wait(timeout=20)
        finally:
            process.kill()
    assert status == 128 + signal.SIGTERM
    assert (tmp_path / "saved").read_text() == "saved\n"


def test_a_command_that_ends_by_itself_waits_for_nobody(tmp_path):
    begun = time.monotonic()
    with start("bash", "-c", "sleep 20 & exit 3") as process:
        assert process.wait(timeout=15) == 3
    assert time.monotonic() - begun < 15


def test_orphans_that_end_meanwhile_change_nothing():
    with start("bash", "-c", "(bash -c 'exit 5' &); sleep 0.5; exit 4") as process:
        assert process.wait(timeout=15) == 4


# As `mlflow run` answers a Ctrl-C; the step outlives it by a moment.
POLITE = """
(trap 'touch {folder}/told' TERM; touch {folder}/ready; while :; do sleep 0.05; done) &
trap 'touch {folder}/leader; kill -KILL $!; exit 1' INT
while :; do sleep 0.05; done
"""


def test_an_interrupt_reaches_the_command_alone(tmp_path):
    with start("bash", "-c", POLITE.format(folder=tmp_path), more=", interrupt=True") as process:
        wait_for(tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert (tmp_path / "leader").exists()
    assert not (tmp_path / "told").exists()


def test_who_insists_is_heard_by_all(tmp_path):
    family = FAMILY.replace("\nwhile", "\ntrap 'touch {folder}/leader' INT\nwhile")
    with start("bash", "-c", family.format(folder=tmp_path), more=", interrupt=True") as process:
        wait_for(tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        wait_for(tmp_path / "leader")
        assert not (tmp_path / "saved").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert (tmp_path / "saved").exists()
