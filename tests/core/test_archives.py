"""Zip archives: the files that are wanted, all or none, and nothing outside of the folder."""

import shutil
import zipfile
from collections import namedtuple

import pytest

from bench.core import archives
from bench.core.archives import unpack
from bench.errors import BenchError

FILES = {"top/a/1.png": b"1", "top/a/2.png": b"22", "top/b/3.tif": b"333", "top/a/": b""}


@pytest.fixture
def archive(tmp_path):
    def make(files=FILES):
        with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as content:
            for name, text in files.items():
                content.writestr(name, text)
        return tmp_path / "data.zip"

    return make


def listed(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*.*")}


def test_only_what_is_wanted_is_unpacked(archive, tmp_path):
    unpack(archive(), tmp_path / "data", ["top/a/*.png", "nothing/*"])
    assert listed(tmp_path / "data") == {"top/a/1.png": b"1", "top/a/2.png": b"22"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.zip"]


def damaged(make):
    path = make()
    content = bytearray(path.read_bytes())
    content[40:44] = b"\0\0\0\0"
    path.write_bytes(content)
    return path


def cut(make):
    path = make()
    path.write_bytes(path.read_bytes()[:60])
    return path


BAD = {
    "nothing that is wanted": (lambda make: make({"x/y.txt": b""}), "must hold .*, received x/y.t"),
    "outside": (lambda make: make({"top/../../a.png": b""}), "must lie in the folder .*'top/../.."),
    "absolute": (lambda make: make({"/top/a.png": b""}), "must lie in the folder .*'/top/a.png'"),
    "backslash": (lambda make: make({"top\\a.png": b""}), "must lie in the folder"),
    "cut": (cut, "must be a whole zip archive"),
    "damaged": (damaged, "must be a whole zip archive"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_leaves_nothing(archive, tmp_path, case):
    make, message = BAD[case]
    path = make(archive)
    with pytest.raises(BenchError, match=message) as caught:
        unpack(path, tmp_path / "data", ["*top*.png"])
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["data.zip"]


def test_space_is_looked_at_first(archive, tmp_path, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage(10, 8, 2))
    with pytest.raises(BenchError, match=r"space for 3 bytes of data.zip, received 2 bytes free"):
        unpack(archive(), tmp_path / "data", ["top/a/*"])
    monkeypatch.undo()
    assert shutil.disk_usage(tmp_path).free > 2
    assert not (tmp_path / "data").exists()
