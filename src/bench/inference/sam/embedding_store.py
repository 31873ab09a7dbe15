"""Embeddings of images kept on disk, so that none is computed twice: the oldest used go first.

An entry is a file named by the hash of all that determines it. It is written under another name
and renamed, so that a killed process leaves none by half, and two processes that make the same
entry leave the same. What cannot be kept is not an error: it is computed again.
"""

import logging
import math
import os
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from bench.core.files import write_whole
from bench.errors import BenchError

log = logging.getLogger(__name__)

_LIMIT_VARIABLE = "BENCH_EMBEDDINGS_GB"
_DEFAULT_GB = 10.0
_BYTES_PER_GB = 10**9
_SUFFIX = ".safetensors"
# What a killed writer left is removed after so long; no entry takes as long to write.
_LEFT_BEHIND_S = 3600.0
# Room is looked after each time this share of the limit was written.
_LOOKED_AFTER = 0.01


class EmbeddingStore:
    """A folder of embeddings whose size is limited.

    With several processes it may be over the limit by a hundredth for each.

    Attributes:
        folder: Where they lie.
        limit_bytes: Their size at most.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Makes nothing before something is kept."""
        self.folder, self.limit_bytes = folder, limit_bytes
        self._unseen_bytes: float = math.inf
        self._warned = False

    def read(self, key: str) -> torch.Tensor | None:
        """The embedding of a key, on the CPU; None if there is none. Reading makes it the newest.

        An entry that a failing disk damaged is removed.
        """
        path = self._path(key)
        try:
            # Read whole at once: another process may remove the file while it is opened by parts.
            found = load(path.read_bytes())["features"]
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            log.warning("the embedding %s cannot be read (%s), and is made anew", path, error)
            self._remove(path)
            return None
        return found

    def keep(self, key: str, features: torch.Tensor) -> None:
        """Keeps an embedding, and removes the oldest used ones over the limit.

        Where there is no space or no permission, that is said once and nothing is kept.
        """
        tensors = {"features": features.detach().cpu().contiguous()}
        if tensors["features"].nbytes > self.limit_bytes:
            return
        path = self._path(key)
        try:
            write_whole(path, lambda temporary: save_file(tensors, temporary))
            self._unseen_bytes += tensors["features"].nbytes
            if self._unseen_bytes > _LOOKED_AFTER * self.limit_bytes:
                self._make_room()
        except (BenchError, OSError, SafetensorError) as error:
            if not self._warned:
                log.warning(
                    "embeddings are computed each time, because %s cannot keep them (%s): free "
                    "some space, or move it with XDG_CACHE_HOME",
                    self.folder,
                    error,
                )
            self._warned = True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        """Removes the oldest used entries until the rest is within the limit, and leftovers."""
        entries = []
        for entry in os.scandir(self.folder):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            if entry.name.endswith(_SUFFIX):
                entries.append((status.st_mtime_ns, entry.name, status.st_size))
            elif time.time() - status.st_mtime > _LEFT_BEHIND_S:
                self._remove(Path(entry.path))
        size = sum(bytes_ for _, _, bytes_ in entries)
        for _, name, bytes_ in sorted(entries):
            if size <= self.limit_bytes:
                break
            self._remove(self.folder / name)
            size -= bytes_
        self._unseen_bytes = 0

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def open_embeddings() -> EmbeddingStore | None:
    """The store of this machine; None where BENCH_EMBEDDINGS_GB=0 keeps none.

    It is ``embeddings`` in the cache of the suite, which XDG_CACHE_HOME moves.

    Raises:
        BenchError: If the limit is not a number of GB.
    """
    import pooch

    given = os.environ.get(_LIMIT_VARIABLE) or str(_DEFAULT_GB)
    try:
        limit_gb = float(given)
    except ValueError:
        limit_gb = math.nan
    if not (math.isfinite(limit_gb) and limit_gb >= 0):
        raise BenchError(
            f"{_LIMIT_VARIABLE} must be the space for SAM's embeddings in GB, 0 for none, received "
            f"{given!r}: correct it, or leave it out for {_DEFAULT_GB:g}"
        )
    if not limit_gb:
        return None
    folder = Path(pooch.os_cache("synapse-bench")) / "embeddings"
    return EmbeddingStore(folder, round(limit_gb * _BYTES_PER_GB))
