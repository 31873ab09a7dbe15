import dataclasses
import hashlib
import logging
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bench.errors import BenchError
from bench.models import synapsenet
from bench.models.synapsenet import SYNAPSENET, PublishedModel, fetch_synapsenet

CONTENT = b"weights " * 1000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; and the same broken off, late, or not at all."""

    def do_GET(self):
        self.server.served += 1
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/late":
            time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        return self.wfile.write(CONTENT[: 100 if self.path == "/broken" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.served = 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder in which synapse_net looks for models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "synapse-net" / "models"


def make_table(address, content=CONTENT):
    sha256 = hashlib.sha256(content).hexdigest()
    row = PublishedModel("tiny", address, sha256, 1.35, 2, ("foreground", "boundary"))
    return {"tiny": row}


def address_of(server, path="/tiny"):
    return f"http://127.0.0.1:{server.server_port}{path}"


def closed_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/tiny"


def test_a_model_is_fetched_once(server, cache, caplog, capfd):
    caplog.set_level(logging.INFO)
    table = make_table(address_of(server))
    path = fetch_synapsenet("tiny", table)
    assert path == cache / "tiny"
    assert path.read_bytes() == CONTENT
    assert [record.name for record in caplog.records if record.levelno >= logging.INFO] == [
        "bench.models.synapsenet"
    ] * 2
    assert f"fetching tiny from {address_of(server)} to {path}" in caplog.text
    assert "fetched tiny: 0.0 MB" in caplog.text
    assert capfd.readouterr().err == ""
    assert fetch_synapsenet("tiny", table) == path
    assert server.served == 1
    assert [file.name for file in cache.iterdir()] == ["tiny"]


def test_a_file_in_the_cache_needs_no_network(cache):
    cache.mkdir(parents=True)
    (cache / "tiny").write_bytes(CONTENT)
    assert fetch_synapsenet("tiny", make_table(closed_address())) == cache / "tiny"


def test_offline_says_all_that_is_needed(cache):
    table = make_table(closed_address())
    start = time.monotonic()
    with pytest.raises(BenchError) as caught:
        fetch_synapsenet("tiny", table)
    message = str(caught.value)
    for part in (
        "tiny must be fetched from",
        table["tiny"].address,
        table["tiny"].sha256,
        f"put it at {cache / 'tiny'} (file name tiny",
        "set source to random, runs:/ID or a file",
    ):
        assert part in message
    assert "\n" not in message
    assert time.monotonic() - start < 15
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("path", ["/missing", "/late", "/broken"])
def test_a_failed_download_leaves_nothing(server, cache, monkeypatch, path):
    monkeypatch.setattr(synapsenet, "TIMEOUT_S", (1, 0.2))
    with pytest.raises(BenchError, match=r"cannot be reached .* put it at") as caught:
        fetch_synapsenet("tiny", make_table(address_of(server, path)))
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_another_file_at_the_address_is_refused(server, cache):
    table = make_table(address_of(server), b"other")
    received = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(BenchError, match=f"gave a file with {received}: fetch it") as caught:
        fetch_synapsenet("tiny", table)
    assert table["tiny"].sha256 in str(caught.value)
    assert list(cache.iterdir()) == []


def test_another_file_in_the_cache_is_refused_and_kept(server, cache):
    cache.mkdir(parents=True)
    (cache / "tiny").write_bytes(b"mine")
    table = make_table(address_of(server))
    received = hashlib.sha256(b"mine").hexdigest()
    with pytest.raises(
        BenchError, match=f"SHA-256 {table['tiny'].sha256} of tiny, received {received}: move"
    ):
        fetch_synapsenet("tiny", table)
    assert (cache / "tiny").read_bytes() == b"mine"
    assert server.served == 0


@pytest.mark.parametrize("blocker", ["", "tiny"])
def test_a_cache_that_cannot_be_used(server, cache, blocker):
    if blocker:
        (cache / blocker).mkdir(parents=True)
    else:
        cache.parents[1].write_text("a file where the folder should be")
    with pytest.raises(BenchError, match=f"^{cache / 'tiny'} must be .* XDG_CACHE_HOME") as caught:
        fetch_synapsenet("tiny", make_table(address_of(server)))
    assert "\n" not in str(caught.value)


def test_unknown_names_list_the_known(cache):
    with pytest.raises(BenchError, match=r"unknown SynapseNet model 'vesicle': .* vesicles_2d,"):
        fetch_synapsenet("vesicle")


def test_models_of_several_channels_are_refused_before_they_are_fetched(server, cache):
    table = {
        name: dataclasses.replace(row, in_channels=2)
        for name, row in make_table(address_of(server)).items()
    }
    with pytest.raises(BenchError, match="takes one channel, the image; tiny takes 2"):
        fetch_synapsenet("tiny", table)
    assert server.served == 0
    assert {name for name, row in SYNAPSENET.items() if row.in_channels != 1} == {
        "cristae",
        "cristae2",
        "cristae3",
        "cristae4",
    }


def test_rows_are_complete():
    assert len(SYNAPSENET) == 15
    assert {name: row.name for name, row in SYNAPSENET.items()} == {n: n for n in SYNAPSENET}
    assert len({row.address for row in SYNAPSENET.values()}) == 15
    assert len({row.sha256 for row in SYNAPSENET.values()}) == 15
    for row in SYNAPSENET.values():
        assert re.fullmatch("[0-9a-f]{64}", row.sha256), row.name
        assert row.address.startswith("https://")
        assert 0.5 < row.pixel_size_nm < 5
        assert (row.ndim, row.tile_px, row.halo_px) in ((2, 512, 128), (3, 256, 64))
    vesicles = SYNAPSENET["vesicles_2d"]
    assert (vesicles.ndim, vesicles.pixel_size_nm) == (2, 1.35)
    assert vesicles.outputs == ("foreground", "boundary")
    assert [name for name, row in SYNAPSENET.items() if row.ndim == 2] == [
        "vesicles_2d",
        "vesicles_2d_maus",
    ]
