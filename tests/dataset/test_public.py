"""Public data sets in the cache: fetched with their terms said, refused, or put there by hand."""

import hashlib
import io
import logging
import re
import socket
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.dataset.prepared import SPLITS
from bench.dataset.public.fetching import fetch_public, public_folder
from bench.dataset.public.page import describe_datasets
from bench.dataset.public.rows import Edition, PublicDataset, PublicFile, PublicLabels, PublicSeries
from bench.dataset.public.table import DATASETS
from bench.errors import BenchError, MissingFileError
from bench.structures import is_structure_name

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
RAW, LABELS = b"raw " * 5000, b"labels"


def packed():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("top/a.tif", RAW)
        archive.writestr("top/b.tif", LABELS)
        archive.writestr("top/large.bin", b"not wanted")
    return content.getvalue()


PACKED = packed()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.served.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.served = {"/data.zip": PACKED, "/raw.tif": RAW}, []
        server.at = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_row(*files, **fields):
    labels = {"mitochondria": PublicLabels("data/top/b.tif")}
    series = PublicSeries("s", "data/top/a.tif", labels, {"train": 1.0})
    row = PublicDataset(
        name="tiny",
        title="A tissue",
        citation="Somebody 2020",
        licence="CC BY-NC 4.0",
        commercial=False,
        voxel_nm=(1, 1, 1),
        extent="small",
        volumes=False,
        split="train",
        editions=(Edition(files, (series,)),),
    )
    return replace(row, **fields)


def archive(server, **fields):
    sha256 = hashlib.sha256(PACKED).hexdigest()
    return replace(PublicFile("data.zip", sha256, (f"{server.at}/data.zip",)), **fields)


def closed_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/gone"


def test_an_archive_is_fetched_once_and_its_terms_are_said_before(server, caplog):
    caplog.set_level(logging.INFO)
    row = make_row(archive(server))
    for _ in range(2):
        folder, edition = fetch_public(row)
    assert (folder, edition) == (public_folder(row), row.editions[0])
    assert (folder / "data/top/a.tif").read_bytes() == RAW
    assert [file.name for file in (folder / "data/top").iterdir()].sort() == [
        "a.tif",
        "b.tif",
    ].sort()
    assert server.served == ["/data.zip"]
    terms = "tiny: A tissue. Licence: CC BY-NC 4.0 (no commercial use). Cite: Somebody 2020"
    assert caplog.text.count(terms) == 1
    assert caplog.text.index(terms) < caplog.text.index("fetching data.zip")
    # What is unpacked needs its archive no more.
    (folder / "data.zip").unlink()
    fetch_public(row)
    assert server.served == ["/data.zip"]


def test_offline_one_line_says_which_files_to_put_where(server):
    row = make_row(
        archive(server, addresses=(closed_address(),)),
        PublicFile("raw.tif", None, (f"{server.at}/missing", closed_address())),
    )
    other = Edition((PublicFile("other.zip", "ab12", page="https://example.org/page"),), ())
    row = replace(row, editions=(*row.editions, other))
    with pytest.raises(MissingFileError) as caught:
        fetch_public(row)
    message, folder = str(caught.value), public_folder(row)
    for part in (
        "data.zip of tiny must be fetched, its server cannot be reached (ConnectionError): fetch",
        f"put in place, {folder / 'data.zip'} from http://127.0.0.1:",
        f"(SHA-256 {hashlib.sha256(PACKED).hexdigest()})",
        f"and {folder / 'raw.tif'} from {server.at}/missing or http",
        "(SHA-256 not known)",
        f"(or other.zip (SHA-256 ab12, https://example.org/page) in {folder})",
        "then type the same again",
    ):
        assert part in message
    assert "\n" not in message
    assert [path for _, path in caught.value.files] == [
        str(folder / name) for name in ("data.zip", "raw.tif")
    ]
    # As it says.
    (folder / "data.zip").write_bytes(PACKED)
    (folder / "raw.tif").write_bytes(RAW)
    assert fetch_public(row)[0] == folder
    assert (folder / "data/top/b.tif").read_bytes() == LABELS


def test_the_other_edition_is_taken_where_it_lies(server):
    row = make_row(archive(server, addresses=(closed_address(),)))
    other = Edition((PublicFile("raw.tif", hashlib.sha256(RAW).hexdigest()),), ())
    row = replace(row, editions=(*row.editions, other))
    folder = public_folder(row)
    folder.mkdir(parents=True)
    (folder / "raw.tif").write_bytes(RAW)
    assert fetch_public(row) == (folder, other)


def test_the_second_address_is_asked_where_the_first_is_gone(server, caplog):
    file = archive(server)
    row = make_row(replace(file, addresses=(f"{server.at}/missing", *file.addresses)))
    fetch_public(row)
    assert server.served == ["/missing", "/data.zip"]
    assert "/missing cannot be reached (HTTPError)" in caplog.text


def test_another_file_is_refused_from_the_server_and_by_hand(server):
    row, folder = make_row(archive(server, sha256="0" * 64)), public_folder(make_row())
    received = hashlib.sha256(PACKED).hexdigest()
    with pytest.raises(BenchError, match=f"{'0' * 64}, http.* with {received}: fetch elsewhere"):
        fetch_public(row)
    (folder / "data.zip").write_bytes(PACKED)
    with pytest.raises(BenchError, match=f"received {received}: move it away, and it is fetched"):
        fetch_public(row)
    assert (folder / "data.zip").read_bytes() == PACKED
    assert not (folder / "data").exists()


def test_a_hash_that_nobody_stated_is_said_and_stays(server, caplog):
    row = make_row(PublicFile("raw.tif", None, (f"{server.at}/raw.tif",)))
    folder, _ = fetch_public(row)
    received = hashlib.sha256(RAW).hexdigest()
    assert f"SHA-256 of raw.tif: {received} (nobody has stated it); it is kept" in caplog.text
    assert (folder / "raw.tif.sha256").read_text() == f"{received}\n"
    fetch_public(row)
    (folder / "raw.tif").write_bytes(b"other")
    with pytest.raises(BenchError, match=rf"SHA-256 {received} of when it first came, received .*"):
        fetch_public(row)


def test_a_branch_that_was_packed_anew_is_taken_and_said(server, caplog):
    row = make_row(archive(server, sha256="0" * 64, firm=False))
    folder, _ = fetch_public(row)
    assert (folder / "data/top/a.tif").read_bytes() == RAW
    assert f"(packed anew, was {'0' * 64}); it is kept" in caplog.text


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BenchError, match=r"that can be read and written, .*set XDG_CACHE_HOME"):
        fetch_public(make_row(archive(server)))


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_is_whole(name):
    row = DATASETS[name]
    assert row.name == name
    assert row.structures
    # A whole number would be hashed as another than the one that a manifest gives back.
    assert all(type(side) is float for side in row.voxel_nm or ())
    assert all(is_structure_name(structure) for structure in row.structures)
    for edition in row.editions:
        shares = [series.shares for series in edition.series]
        assert {split for each in shares for split in each} >= {"train", "val"}
        assert all(sum(each.values()) == pytest.approx(1) for each in shares)
        assert all(split in SPLITS for each in shares for split in each)
        places = {file.folder if file.is_archive else file.name for file in edition.files}
        read = {labels.files for series in edition.series for labels in series.labels.values()}
        read |= {series.raw for series in edition.series}
        assert {pattern.split("/")[0] for pattern in read} == places
    assert all(file.addresses for file in row.editions[0].files)
    files = [file for edition in row.editions for file in edition.files]
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files if file.sha256)


def test_the_page_has_the_table():
    assert PAGE.read_text().endswith(describe_datasets()), "python -m bench.dataset.public.page"
