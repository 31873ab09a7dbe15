"""Folders that are whole or absent: put in place of another, or hidden until they are finished."""

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError

log = logging.getLogger(__name__)

# renameat2(2): relative to the working directory, and swap the two.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Folders that this process is writing; others under its process id are of one that ended.
_writing: set[Path] = set()

_STATE = "unfinished"
_LOCK = "lock"


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Makes a hidden folder ``.<name>.partial-<pid>...`` beside target; it is gone afterwards.

    What killed processes of this machine left there is removed first.

    Args:
        target: The folder to be; its parents are made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target)
    folder = _sibling(target, "partial")
    _writing.add(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _writing.discard(folder)


def move_to_free(folder: Path, target: Path) -> bool:
    """Renames a folder to target; False if something with content is there."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    sync_folder(target.parent)
    return True


def replace_folder(folder: Path, target: Path) -> None:
    """Puts a folder in the place of target, which is gone afterwards.

    Linux swaps the two at once. Elsewhere target is put aside for a moment; a kill just then
    leaves it aside, and the next `partial_folder` puts it back.
    """
    if not exchange(folder, target):
        aside = _sibling(target, "previous")
        _writing.add(aside)
        target.rename(aside)
        try:
            folder.rename(target)
        except OSError:
            aside.rename(target)
            raise
        finally:
            _writing.discard(aside)
        shutil.rmtree(aside)
    sync_folder(target.parent)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two folders at once; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    old, new = os.fsencode(first), os.fsencode(second)
    done = renameat2(_AT_FDCWD, old, _AT_FDCWD, new, ctypes.c_uint(_RENAME_EXCHANGE))
    return bool(done == 0)


def _sibling(target: Path, state: str) -> Path:
    """Returns a new hidden name beside target that tells which process it belongs to."""
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}-{socket.gethostname()}"
    return target.with_name(f".{target.name}.{state}-{owner}")


def _clear_leftovers(target: Path) -> None:
    """Removes what killed processes left beside target, and puts target back if it is aside."""
    for state in ("previous", "partial"):
        prefix = f".{target.name}.{state}-"
        for path in sorted(target.parent.iterdir()):
            if not path.name.startswith(prefix) or _is_owned(path, path.name.removeprefix(prefix)):
                continue
            if state == "previous" and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _is_owned(path: Path, owner: str) -> bool:
    """Whether the process in a sibling's name may still work on it."""
    pid, _, rest = owner.partition("-")
    host = rest.partition("-")[2]
    if not pid.isdecimal() or host not in ("", socket.gethostname()):
        return True
    if int(pid) == os.getpid():
        return path in _writing
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    folder = target.with_name(f".{target.name}.{_STATE}-{fingerprint[:12]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
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
        for other in sorted(target.parent.glob(f".{target.name}.{_STATE}-*")):
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
