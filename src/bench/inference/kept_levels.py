"""Levels of a volume on disk, plane after plane, so that a prediction goes on where it stopped."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from bench.core.files import write_json


@dataclass(frozen=True, eq=False)
class KeptLevels:
    """Levels of a volume's blocks, or else: of each, the planes from the first to the last.

    How many planes a block has is written after them: a process that was killed between the two
    leaves planes that are predicted again, never some that are taken for finished.

    Attributes:
        folder: Where they are; it is made.
        shape: Shape of the volume (z, y, x).
        blocks: Rows and columns of each block; together they are a plane.
        dtype: Of its values.
    """

    folder: Path
    shape: tuple[int, int, int]
    blocks: Sequence[tuple[slice, slice]]
    dtype: DTypeLike = np.uint8

    @classmethod
    def of_planes(
        cls, folder: Path, shape: tuple[int, int, int], dtype: DTypeLike = np.uint8
    ) -> "KeptLevels":
        """Those of whole planes."""
        return cls(folder, shape, [(slice(0, shape[1]), slice(0, shape[2]))], dtype)

    def count(self, number: int) -> int:
        """How many planes of a block are finished."""
        path = self._said(number)
        if not path.exists():
            return 0
        return int(json.loads(path.read_text(encoding="utf-8"))["planes"])

    def append(self, number: int, levels: np.ndarray) -> None:
        """Writes the next planes (z, y, x) of a block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self.count(number)
        with self._file(number).open("ab") as file:
            file.truncate(before * levels[0].nbytes)
            file.seek(0, os.SEEK_END)
            file.write(np.ascontiguousarray(levels).data)
            file.flush()
            os.fsync(file.fileno())
        write_json(self._said(number), {"planes": before + len(levels)})

    def planes(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the planes (y, x) from one on, in order of z; all blocks must be finished."""
        for z in range(first, self.shape[0]):
            plane = np.empty(self.shape[1:], self.dtype)
            for number, block in enumerate(self.blocks):
                part = plane[block]
                place = z * part.nbytes
                part[...] = np.fromfile(
                    self._file(number), self.dtype, part.size, offset=place
                ).reshape(part.shape)
            yield plane

    def open(self) -> np.ndarray:
        """The levels (z, y, x) of whole planes, read from the file where they are used."""
        path = self._file(0)
        # Written to, it would be a copy; the file stays as it is.
        mapped: np.ndarray = np.memmap(path, self.dtype, "c", shape=self.shape)
        return mapped.view(np.ndarray)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.levels"

    def _said(self, number: int) -> Path:
        return self.folder / f"{number}.json"
