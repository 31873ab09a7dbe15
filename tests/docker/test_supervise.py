import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
SUPERVISE = "import sys; from supervise import supervise; sys.exit(supervise(sys.argv[1:]))"
# As `mlflow run` does: it dies at once and leaves behind what takes its time to end.
FAMILY = """
(trap 'sleep 0.5; echo saved > {folder}/saved; exit 0' TERM; touch {folder}/ready
 while :; do sleep 0.05; done) &
while :; do sleep 0.05; done
"""


def start(*command):
    return subprocess.Popen([sys.executable, "-c", SUPERVISE, *command], cwd=DOCKER)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_whole_family_and_the_last_is_waited_for(tmp_path, number):
    with start("bash", "-c", FAMILY.format(folder=tmp_path)) as process:
        try:
            for _ in range(200):
                if (tmp_path / "ready").exists():
                    break
                time.sleep(0.05)
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
