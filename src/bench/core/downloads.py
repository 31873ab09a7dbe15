"""Files fetched over HTTP: what broke off is gone on with, and a file is in place only whole.

pooch, by which models come, begins anew each time; data sets have gigabytes.
"""

import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.files import locked, write_json
from bench.core.hashing import file_sha256
from bench.core.progress import show_progress
from bench.errors import BenchError

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

# Seconds to wait for a connection, and for an answer.
DOWNLOAD_TIMEOUT_S = (5.0, 30.0)
# What has come of a block is lost when a server breaks off within it.
_BLOCK_BYTES = 2**16
_PARTIAL_CONTENT, _RANGE_REFUSED = 206, 416
_BYTES_PER_MB = 10**6


@dataclass(frozen=True)
class _Part:
    """What has come of a file so far, and what it belongs to.

    Attributes:
        path: The bytes.
        note: Beside it: the address, and the server's mark of the file as it was then.
    """

    path: Path
    note: Path

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def remove(self) -> None:
        """Removes both."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def mark(self, address: str) -> str:
        """The mark under which an address gave it; empty where there is none."""
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        same = isinstance(noted, dict) and noted.get("address") == address
        return str(noted.get("mark", "")) if same else ""


def download(address: str, path: Path, sha256: str | None) -> str:
    """Fetches a file to a path, from where an earlier attempt broke off if the server allows.

    Args:
        address: Where it is.
        path: Where it is put; its folder is made. What has come so far lies beside it as .part.
        sha256: What its SHA-256 must be; None where that is not known. Then only a file that the
            server says is still the same is gone on with.

    Returns:
        Its SHA-256.

    Raises:
        requests.exceptions.RequestException: If the address cannot be reached, or breaks off
            before anything more has come.
        BenchError: If another file is there, or a web page in its place.
        OSError: If it cannot be stored.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json"))
    with locked(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            return file_sha256(path)
        began = time.monotonic()
        log.info("fetching %s from %s to %s", path.name, address, path)
        received, resumed = _fetch_and_hash(address, part, sha256)
        if resumed and sha256 and received != sha256:
            log.warning("%s was another file before, and is fetched anew", path.name)
            part.remove()
            received, _ = _fetch_and_hash(address, part, sha256)
        if sha256 and received != sha256:
            part.remove()
            raise BenchError(
                f"{path.name} must have the SHA-256 {sha256}, {address} gave a file with {received}"
            )
        with part.path.open("rb") as file:
            os.fsync(file.fileno())
        part.path.replace(path)
        part.remove()
        size_mb, passed_s = path.stat().st_size / _BYTES_PER_MB, time.monotonic() - began
        log.info("fetched %s: %.1f MB in %.0f s", path.name, size_mb, passed_s)
    return received


def _fetch_and_hash(address: str, part: _Part, sha256: str | None) -> tuple[str, bool]:
    """Fetches what is missing of a file; goes on as long as each attempt brings something.

    Returns:
        The SHA-256 of what came, and whether any of it is of an earlier attempt.
    """
    from requests.exceptions import RequestException

    resumed = part.size > 0
    while True:
        before = part.size
        try:
            _fetch_rest(address, part, trusted=sha256 is not None)
            return file_sha256(part.path), resumed
        except RequestException as error:
            if part.size <= before:
                raise
            log.warning("%s broke off (%s), and goes on", part.path.name, type(error).__name__)
            resumed = True


def _fetch_rest(address: str, part: _Part, *, trusted: bool) -> None:
    """Asks once for what is missing of a file.

    Args:
        address: Where it is.
        part: What there is of it.
        trusted: Whether a hash will say if the parts belong together.
    """
    import requests

    mark = part.mark(address)
    if part.size and not (mark or trusted):
        part.remove()
    start = part.size
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": mark} if mark else {})
    with requests.get(
        address, headers=headers, stream=True, timeout=DOWNLOAD_TIMEOUT_S
    ) as response:
        total = re.fullmatch(r"bytes \*/([0-9]+)", response.headers.get("Content-Range", ""))
        if start and response.status_code == _RANGE_REFUSED:
            if total and int(total[1]) == start:
                return None
            # More than there is: it was another file.
            part.remove()
            return _fetch_rest(address, part, trusted=trusted)
        response.raise_for_status()
        _refuse_page(address, response)
        if not _goes_on(response, start):
            start = 0
            write_json(part.note, {"address": address, "mark": _find_mark(response)})
        _store(response, part, start)
    return None


def _refuse_page(address: str, response: "Response") -> None:
    """Refuses a page for people, which says that a file is gone or must be asked for otherwise."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise BenchError(f"{address} must give a file, received a web page")


def _goes_on(response: "Response", start: int) -> bool:
    """Whether an answer is the rest of a file from a byte on, and not all of it."""
    given = response.headers.get("Content-Range", "")
    return bool(
        start and response.status_code == _PARTIAL_CONTENT and given.startswith(f"bytes {start}-")
    )


def _find_mark(response: "Response") -> str:
    """What a server says a file is the same by; a weak mark does not speak of its bytes."""
    tag = str(response.headers.get("ETag", ""))
    return "" if tag.startswith("W/") else tag


def _store(response: "Response", part: _Part, start: int) -> None:
    """Writes an answer behind the first bytes of a file, and shows how far it is.

    Raises:
        requests.exceptions.ConnectionError: If less came than was announced.
    """
    from requests.exceptions import ConnectionError as BrokenOffError

    announced = response.headers.get("Content-Length", "")
    total = start + int(announced) if announced.isdecimal() else 0
    done = start
    name = part.path.name.removesuffix(".part")
    with part.path.open("ab" if start else "wb") as file, show_progress(name) as advance:
        shown = -1
        for block in response.iter_content(_BLOCK_BYTES):
            file.write(block)
            done += len(block)
            shown = _show(advance, done, total, shown)
    if total and done < total:
        raise BrokenOffError(f"{done} bytes of {total}")


def _show(advance: Any, done: int, total: int, shown: int) -> int:
    """Shows the megabytes that have come, if they are more than those shown."""
    done_mb = done // _BYTES_PER_MB
    if total and done_mb > shown:
        advance(done_mb, total // _BYTES_PER_MB, "MB")
    return done_mb
