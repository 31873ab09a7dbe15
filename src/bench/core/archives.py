"""Zip archives, of which some files are unpacked."""

import fnmatch
import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from bench.core.folders import move_to_free, partial_folder
from bench.core.names import first_names
from bench.core.progress import show_progress
from bench.errors import BenchError

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def unpack(archive: Path, target: Path, patterns: Collection[str]) -> None:
    """Unpacks the files of a zip archive that match a pattern; the folder appears when it is whole.

    Args:
        archive: The archive.
        target: The folder to be.
        patterns: Names in the archive, with ``*`` and ``?``.

    Raises:
        BenchError: If it is damaged or encrypted, has none of these files, would write outside of
            the folder, or needs more space than there is.
    """
    try:
        with zipfile.ZipFile(archive) as content, partial_folder(target) as folder:
            members = _choose_members(archive, content, patterns)
            _check_free(archive, folder, members)
            with show_progress(f"unpacking {archive.name}") as advance:
                for number, member in enumerate(members, start=1):
                    content.extract(member, folder)
                    advance(number, len(members), "files")
            move_to_free(folder, target)
    except _BROKEN as error:
        raise BenchError(
            f"{archive} must be a whole zip archive without password, received one that does not "
            f"unpack ({error}): fetch or copy it again"
        ) from error


def _choose_members(
    archive: Path, content: zipfile.ZipFile, patterns: Collection[str]
) -> list[zipfile.ZipInfo]:
    files = [member for member in content.infolist() if not member.is_dir()]
    members = [
        member
        for member in files
        if any(fnmatch.fnmatchcase(member.filename, pattern) for pattern in patterns)
    ]
    if not members:
        shown = first_names([member.filename for member in files]) or "nothing"
        raise BenchError(
            f"{archive} must hold {' or '.join(sorted(patterns)[:3])}, received {shown}: fetch the "
            "archive that is meant"
        )
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise BenchError(
                f"files of {archive} must lie in the folder that it is unpacked to, received "
                f"{member.filename!r}: do not use this archive"
            )
    return members


def _check_free(archive: Path, folder: Path, members: list[zipfile.ZipInfo]) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise BenchError(
            f"{folder.parent} must have space for {needed} bytes of {archive.name}, received "
            f"{free} bytes free: free some, or set XDG_CACHE_HOME to a larger disk"
        )
