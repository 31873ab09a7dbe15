"""Puts a finished folder in place of another, so that a kill leaves either of them whole."""

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

# renameat2(2): relative to the working directory, and swap the two.
AT_FDCWD = -100
RENAME_EXCHANGE = 2

# Folders that this process is writing; others under its process id are of one that ended.
writing: set[Path] = set()


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Makes a hidden folder ``.<name>.partial-<pid>...`` beside target; it is gone afterwards.

    What killed processes of this machine left there is removed first.

    Args:
        target: The folder to be; its parents are made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target)
    folder = sibling(target, "partial")
    writing.add(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        writing.discard(folder)


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
        aside = sibling(target, "previous")
        writing.add(aside)
        target.rename(aside)
        try:
            folder.rename(target)
        except OSError:
            aside.rename(target)
            raise
        finally:
            writing.discard(aside)
        shutil.rmtree(aside)
    sync_folder(target.parent)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two folders at once; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    done = renameat2(
        AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), ctypes.c_uint(RENAME_EXCHANGE)
    )
    return bool(done == 0)


def sibling(target: Path, state: str) -> Path:
    """Returns a new hidden name beside target that tells which process it belongs to."""
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}-{socket.gethostname()}"
    return target.with_name(f".{target.name}.{state}-{owner}")


def clear_leftovers(target: Path) -> None:
    """Removes what killed processes left beside target, and puts target back if it is aside."""
    for state in ("previous", "partial"):
        prefix = f".{target.name}.{state}-"
        for path in sorted(target.parent.iterdir()):
            if not path.name.startswith(prefix) or is_owned(path, path.name.removeprefix(prefix)):
                continue
            if state == "previous" and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def is_owned(path: Path, owner: str) -> bool:
    """Whether the process in a sibling's name may still work on it."""
    pid, _, rest = owner.partition("-")
    host = rest.partition("-")[2]
    if not pid.isdecimal() or host not in ("", socket.gethostname()):
        return True
    if int(pid) == os.getpid():
        return path in writing
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
