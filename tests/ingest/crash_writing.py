"""Run by test_writing: writes datasets in child processes that are killed at every step.

python crash_writing.py kill|race INPUT [INPUT] OUTPUT
"""

import os
import signal
import sys
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared

# What changes the disk; a child is killed just before one of them.
DISK_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlopen")


def start(source: str, output: Path, kill_at: int | None, overwrite: bool) -> int:
    """Writes in a child process that kills itself before its n-th change of the disk."""
    child = os.fork()
    if child:
        return child
    seen = 0

    def count(event: str, args: tuple) -> None:
        nonlocal seen
        if event in DISK_EVENTS:
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(count)
    try:
        write_prepared(read_input(PrepareConfig(input=source)), output, overwrite=overwrite)
    except BaseException:
        os._exit(1)
    os._exit(0)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_everywhere(old: str | None, new: str, output: Path) -> None:
    """Kills a writer at every step; each time output is as before, or new and whole."""
    before = None
    if old is not None:
        assert wait(start(old, output, None, False)) == 0
        before = PreparedDataset.open(output).content_hash
    hashes = []
    code, step = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        code = wait(start(new, output, step, old is not None))
        if output.exists():
            dataset = PreparedDataset.open(output)
            dataset.verify()
            hashes.append(dataset.content_hash)
        else:
            hashes.append(None)
        step += 1
    assert code == 0, code
    assert step > 30, f"only {step} steps were seen"
    assert set(hashes[:-1]) <= {before, hashes[-1]}, hashes
    assert hashes[0] == before
    assert hashes[-1] not in (None, before)
    left = sorted(path.name for path in output.parent.iterdir())
    assert left == [output.name], left


def race(sources: list[str], output: Path, overwrite: bool) -> None:
    """Starts writers into one output at once; it ends whole and is one of theirs."""
    children = [start(source, output, None, overwrite) for source in sources * 3]
    codes = [wait(child) for child in children]
    PreparedDataset.open(output).verify()
    assert 0 in codes, codes
    if overwrite or len(sources) == 1:
        assert set(codes) == {0}, codes
    left = sorted(path.name for path in output.parent.iterdir())
    assert left == [output.name], left


if __name__ == "__main__":
    first, second, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    # Whatever is imported late would be read anew, and be killed at, in every child.
    write_prepared(read_input(PrepareConfig(input=first)), folder / "warm" / "out")
    kill_everywhere(None, first, folder / "new" / "out")
    kill_everywhere(first, second, folder / "old" / "out")
    race([first], folder / "same" / "out", overwrite=False)
    race([first, second], folder / "differing" / "out", overwrite=False)
    race([first, second], folder / "replacing" / "out", overwrite=True)
