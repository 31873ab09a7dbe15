"""Downloads that break off and go on, from a server of our own."""

import hashlib
import logging
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from requests.exceptions import RequestException

from bench.core import downloads
from bench.core.downloads import download
from bench.errors import BenchError

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves what the server holds, a part of it if asked so; or breaks off after some bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        content, wanted = server.content, self.headers.get("Range")
        server.asked.append((wanted, self.headers.get("If-Range")))
        if server.status:
            return self.send_error(server.status)
        start = int(re.fullmatch("bytes=([0-9]+)-", wanted)[1]) if wanted else 0
        stale = self.headers.get("If-Range") not in (None, server.mark)
        if not server.ranges or stale:
            start = 0
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.mark:
            self.send_header("ETag", server.mark)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        broken = server.breaks.pop(0) if server.breaks else None
        self.wfile.write(content[start : None if broken is None else start + broken])
        self.close_connection = broken is not None
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "DOWNLOAD_TIMEOUT_S", (2.0, 2.0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.mark, server.ranges, server.status = CONTENT, '"1"', True, 0
        server.asked, server.breaks, server.kind = [], [], "application/zip"
        server.address = f"http://127.0.0.1:{server.server_port}/data.zip"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def break_off(server, path, after, sha256=SHA256):
    """Leaves a part, as a lost network does; returns how the rest of it is asked for."""
    server.breaks = [after, 0]
    with pytest.raises(RequestException):
        download(server.address, path, sha256)
    assert not path.exists()
    part = path.with_name("data.zip.part").read_bytes()
    assert after - 2**16 < len(part) <= after
    assert part == server.content[: len(part)]
    server.asked.clear()
    server.breaks = []
    return f"bytes={len(part)}-"


def left(path):
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_comes_whole_and_once(server, tmp_path, caplog, sha256):
    caplog.set_level(logging.INFO)
    path = tmp_path / "cache/data.zip"
    for _ in range(2):
        assert download(server.address, path, sha256) == SHA256
    assert path.read_bytes() == CONTENT
    assert server.asked == [(None, None)]
    assert left(path) == [".data.zip.lock", "data.zip"]
    assert f"fetching data.zip from {server.address} to {path}" in caplog.text
    assert "data.zip: 3 of 3 MB" in caplog.text
    assert "fetched data.zip: 3.1 MB" in caplog.text


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_the_next_attempt_asks_for_the_rest_only(server, tmp_path, sha256):
    path = tmp_path / "data.zip"
    rest = break_off(server, path, 2_000_000, sha256)
    assert download(server.address, path, sha256) == SHA256
    assert server.asked == [(rest, '"1"')]
    assert path.read_bytes() == CONTENT
    assert left(path) == [".data.zip.lock", "data.zip"]


def test_an_attempt_that_brings_something_goes_on_at_once(server, tmp_path, caplog):
    server.breaks = [2**20, 2**19]
    assert download(server.address, tmp_path / "data.zip", SHA256) == SHA256
    assert [asked for asked, _ in server.asked] == [None, "bytes=1048576-", "bytes=1572864-"]
    assert "data.zip.part broke off" in caplog.text


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    path = tmp_path / "data.zip"
    break_off(server, path, 1_500_000)
    server.ranges = False
    assert download(server.address, path, SHA256) == SHA256
    assert path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, caplog):
    path, other = tmp_path / "data.zip", CONTENT[::-1]
    sha256 = hashlib.sha256(other).hexdigest()
    # By its mark, where the server has one.
    rest = break_off(server, path, 1_000_000, None)
    server.content, server.mark = other, '"2"'
    assert download(server.address, path, None) == sha256
    assert server.asked == [(rest, '"1"')]
    # By its hash, where it has none.
    path.unlink()
    server.content, server.mark = CONTENT, ""
    rest = break_off(server, path, 1_000_000, SHA256)
    server.content = other
    assert download(server.address, path, sha256) == sha256
    assert [asked for asked, _ in server.asked] == [rest, None]
    assert "was another file before, and is fetched anew" in caplog.text


def test_without_mark_and_hash_nothing_is_gone_on_with(server, tmp_path):
    server.mark = ""
    path = tmp_path / "data.zip"
    path.with_name("data.zip.part").write_bytes(CONTENT[:1000])
    assert download(server.address, path, None) == SHA256
    assert server.asked == [(None, None)]


def test_a_part_that_is_whole_or_too_long(server, tmp_path):
    path = tmp_path / "data.zip"
    for surplus in (b"", b"more"):
        path.with_name("data.zip.part").write_bytes(CONTENT + surplus)
        assert download(server.address, path, SHA256) == SHA256
        path.unlink()
    assert [asked for asked, _ in server.asked] == ["bytes=3072000-", "bytes=3072004-", None]


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    path = tmp_path / "data.zip"
    wanted = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(BenchError, match=f"the SHA-256 {wanted}, http.*gave a file with {SHA256}"):
        download(server.address, path, wanted)
    assert left(path) == [".data.zip.lock"]


def test_a_missing_file_is_an_error_of_the_network(server, tmp_path):
    server.status = 404
    with pytest.raises(RequestException):
        download(server.address, tmp_path / "data.zip", SHA256)
    assert left(tmp_path / "data.zip") == [".data.zip.lock"]


def test_a_web_page_is_no_file(server, tmp_path):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(BenchError, match=r"data.zip must give a file, received a web page"):
        download(server.address, tmp_path / "data.zip", None)
    assert left(tmp_path / "data.zip") == [".data.zip.lock"]
