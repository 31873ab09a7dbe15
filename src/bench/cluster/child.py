"""A task in a process of its own, on a worker: it has its own GPU memory, signals and threads.

When the process dies, the worker lives; when the worker dies, the process ends as if told to.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cluster.graph import Outcome
from bench.cluster.warm import WarmChild, start_child
from bench.errors import BenchError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).resolve().parents[2]
# The children of this worker, and whose they are: several may use it.
RUNNING: dict[WarmChild, str] = {}
# Given to a step to end its run; it saves nothing new, so it needs little.
_ENDING_S = 30.0
_PARENT_POLL_S = 0.5
# dask sets them to 1 for its workers.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# The run is the parent's. The other dask sets, so that memory goes back to the system at once: with
# it every layer of a network got its memory anew, and a montage took 1.6 times as long.
_NOT_INHERITED = ("MLFLOW_RUN_ID", "MALLOC_TRIM_THRESHOLD_")


def run_child(
    module: str,
    payload: Any,
    threads: int | None = None,
    owner: str = "",
    preload: tuple[str, ...] = (),
) -> Outcome:
    """Runs a module of ours in a new process, which need not import what the last one did.

    Args:
        module: Its name. It is given the payload by ``answer_parent``.
        payload: What JSON can hold.
        threads: Threads for its numerics; None: as many as this worker has cores.
        owner: Who can tell it to end, by ``stop_children``.
        preload: What its tasks import when they need it, and most do.

    Returns:
        What it answered; a failure where it died, which is another thing than to be killed.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    count = str(threads or len(os.sched_getaffinity(0)))
    path = os.pathsep.join(part for part in (str(_SOURCE), kept.get("PYTHONPATH", "")) if part)
    environment = kept | dict.fromkeys(THREADS, count) | {"PYTHONPATH": path}
    try:
        process = start_child(module, preload, environment)
    except subprocess.CalledProcessError as error:
        return _end_without_answer(error.returncode)
    RUNNING[process] = owner
    try:
        answer = process.communicate(json.dumps({"parent": process.parent, "payload": payload}))
    finally:
        del RUNNING[process]
    lines = answer.splitlines()
    if process.returncode != 0 or not lines:
        return _end_without_answer(process.returncode)
    return Outcome(**json.loads(lines[-1]))


def _end_without_answer(status: int | None) -> Outcome:
    if status == -signal.SIGKILL:
        return Outcome("killed", reason="its process was killed, as it is without memory")
    return Outcome("failed", reason=f"its process ended with status {status}")


def stop_children(owner: str = "") -> int:
    """Tells an owner's children on this worker to end, waits for that, and returns how many."""
    children = [child for child, whose in list(RUNNING.items()) if whose == owner]
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            child.kill()
    return len(children)


@contextlib.contextmanager
def stopping(client: "Client", owner: str) -> Iterator[None]:
    """Ends an owner's processes on the workers where the block fails: what they do is resumable."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            log.info("the tasks of %d workers end", len(client.run(stop_children, owner)))
        raise


def answer_parent(do: Callable[[Any], Outcome]) -> None:
    """What a child does: reads the payload, does the work, answers.

    Whatever else writes to stdout does no harm, the answer is the last line.
    """
    asked = json.loads(sys.stdin.read())
    threading.Thread(target=_follow, args=(asked["parent"],), daemon=True).start()
    outcome = do(asked["payload"])
    sys.stdout.write("\n" + json.dumps(vars(outcome)) + "\n")
    sys.stdout.flush()


def attempt(
    work: Callable[[], Any], named: Any, busy: tuple[type[BenchError], ...] = ()
) -> Outcome:
    """Does a piece of work; whatever goes wrong is its outcome.

    Args:
        work: Called for the result.
        named: What names it in the log.
        busy: Errors that say that somebody else does it now.
    """
    try:
        return Outcome("done", work())
    except busy as error:
        return Outcome("busy", reason=str(error))
    except BenchError as error:
        return Outcome("failed", reason=str(error))
    except Exception as error:
        log.exception("%s failed", named)
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")


def _follow(parent: int) -> None:
    """Ends this process, as SIGTERM does, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
