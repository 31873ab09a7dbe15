"""A folder that takes long to write: hidden until it is whole, and kept when its process dies."""

import contextlib
import fcntl
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.core.folders import move_to_free, sync_folder
from bench.errors import BenchError

log = logging.getLogger(__name__)

STATE = "unfinished"
LOCK = "lock"


@contextlib.contextmanager
def unfinished_folder(target: Path, fingerprint: str) -> Iterator[Path]:
    """Opens the hidden folder ``.<name>.unfinished-<fingerprint>`` beside target, for a block.

    It stays when the block fails or is killed; the same fingerprint then finds it again. The
    block ends with `publish`.

    Args:
        target: The folder to be; its parents are made.
        fingerprint: Names what is written, all of it.

    Raises:
        BenchError: If another process is writing it, or it cannot be written.
    """
    folder = target.with_name(f".{target.name}.{STATE}-{fingerprint[:12]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise BenchError(
            f"{target.parent} must be a folder that can be written, received {error.strerror!r} "
            f"for {error.filename}: give yourself permission, or choose another output"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError(
                f"only one process at a time may write {target}, another does now: wait for it, "
                "or choose another output"
            ) from error
        for other in sorted(target.parent.glob(f".{target.name}.{STATE}-*")):
            if other != folder:
                log.info("%s is left of other settings: remove it if you need it no more", other)
        yield folder


def publish(folder: Path, content: Path, target: Path) -> bool:
    """Renames the finished content of an unfinished folder to target, and removes the rest.

    Returns:
        False, with nothing changed, if something is in the place of target.
    """
    sync_folder(content)
    if not move_to_free(content, target):
        return False
    shutil.rmtree(folder)
    return True
