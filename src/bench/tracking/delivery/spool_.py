"""Writes that the store did not take, kept in a folder in their order until it does."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.tracking.delivery.spool import ARTIFACT, Write

# Folder in the work folder of a run.
OUTBOX = "outbox"


class Spool:
    """A line of JSON for every write, in a file that a power cut leaves readable.

    Attributes:
        folder: Where all of it is; there is none while nothing waits.
        file: The lines: whose they are, then the writes.
    """

    def __init__(self, work: Path) -> None:
        """Finds what an earlier process left in a run's work folder."""
        self.work, self.folder = work, work / OUTBOX
        self.file = self.folder / "writes.jsonl"
        self._position = self.folder / "position"

    @property
    def waiting(self) -> bool:
        """Whether writes wait."""
        return self.file.exists()

    def append(self, write: Write, *, run_id: str, store: str) -> None:
        """Adds a write; it is on the disk when this returns, and so is its file."""
        if write["kind"] == ARTIFACT:
            write = write | {"file": self._keep(Path(write["file"]))}
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [write] if self.waiting else [{"run_id": run_id, "store": store}, write]
        size = self.file.stat().st_size if self.waiting else 0
        try:
            with self.file.open("ab") as file:
                file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # A disk that is full takes half of a line, which would spoil the next one.
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.file, size)
            self.repair()
            raise
        if write["kind"] == ARTIFACT or len(lines) > 1:
            self._sync_names()

    def _keep(self, path: Path) -> str:
        """Keeps a file that is to become an artifact; returns its name in the folder."""
        kept = self.folder / "files" / str(sum(1 for _ in self.folder.glob("files/*"))) / path.name
        kept.parent.mkdir(parents=True)
        if path.is_relative_to(self.work):
            # Files there are replaced, never changed, so that a second name costs nothing.
            os.link(path, kept)
        else:
            shutil.copyfile(path, kept)
            with kept.open("rb") as file:
                os.fsync(file.fileno())
        return str(kept.relative_to(self.folder))

    def _sync_names(self) -> None:
        """Puts the names of new files on the disk, which a power cut takes otherwise."""
        for folder in (self.work, self.folder, *self.folder.glob("files/**/")):
            names = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(names)
            finally:
                os.close(names)

    def repair(self) -> None:
        """Cuts off the line that a process was killed in; nobody was told that it is there."""
        if self.waiting:
            content = self.file.read_bytes()
            whole = content.rfind(b"\n") + 1
            if content.count(b"\n", 0, whole) < 2:
                self.clear()
            elif whole < len(content):
                os.truncate(self.file, whole)

    def owner(self) -> dict[str, str]:
        """The run and the address of the store that the writes are for."""
        with self.file.open("rb") as file:
            return dict(json.loads(file.readline()))

    def pending(self) -> Iterator[Write]:
        """Yields the writes that were not sent yet; one that is followed by another was sent."""
        sent = int(self._position.read_text()) if self._position.exists() else 0
        with self.file.open("rb") as file:
            file.readline()
            for number, line in enumerate(file):
                if number < sent:
                    continue
                write = json.loads(line)
                if write["kind"] == ARTIFACT:
                    write["file"] = str(self.folder / write["file"])
                yield write
                # What is sent twice after a kill does no harm, so this need not reach the disk.
                fresh = self._position.with_name("position.new")
                fresh.write_text(str(number + 1))
                fresh.rename(self._position)

    def summary(self) -> tuple[int, int]:
        """The number of writes, sent or not, and when the first was written, in ms."""
        with self.file.open("rb") as file:
            _, *lines = file
        return len(lines), json.loads(lines[0])["at"]

    def clear(self) -> None:
        """Removes everything: at once, so that no line names a file that is gone."""
        gone = self.folder.with_name(f".{OUTBOX}.sent")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
