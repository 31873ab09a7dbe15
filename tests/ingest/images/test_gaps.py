"""Chunks of Zarr arrays that have no file: lost in a copy, or left out as empty."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from bench.ingest.images import gaps
from bench.ingest.images.zarr_arrays import note_gaps

RAW = np.random.default_rng(0).integers(1, 250, (6, 32, 48), dtype=np.uint8)
LABELS = np.zeros(RAW.shape, np.uint16)
LABELS[:, 2:12, 3:12] = 1
LAYOUTS = {
    "version 2": {"zarr_format": 2, "chunks": (1, 16, 16)},
    "version 3": {"zarr_format": 3, "chunks": (1, 16, 16)},
    "shards": {"zarr_format": 3, "chunks": (1, 16, 16), "shards": (2, 32, 32)},
}


def save(path: Path, key: str, pixels: np.ndarray, *, empty: bool, **layout: object) -> None:
    with zarr.config.set({"array.write_empty_chunks": empty}):
        array = zarr.create_array(path, name=key, shape=pixels.shape, dtype=pixels.dtype, **layout)
        array[...] = pixels


@pytest.fixture(params=LAYOUTS)
def make(tmp_path, request):
    def write(key: str, pixels: np.ndarray, *, empty: bool) -> Path:
        save(tmp_path / "a.zarr", key, pixels, empty=empty, **LAYOUTS[request.param])
        return tmp_path / "a.zarr"

    return write


def test_whole_arrays_are_not_spoken_of(make):
    assert note_gaps(make("raw", RAW, empty=False), "raw", labels=False) == ()
    assert note_gaps(make("a", LABELS, empty=True), "a", labels=True) == ()


def test_missing_chunks_of_raw_are_counted(make):
    holed = RAW.copy()
    holed[2, :16, :16] = holed[4, :16, 16:32] = 0
    path = make("raw", holed, empty=False)
    (note,) = note_gaps(path, "raw", labels=False)
    assert note.startswith("2 of 36 chunks of array raw have no file, the first at section 2: copy")
    (note,) = note_gaps(path, "raw", labels=False, sections=range(3, 5))
    assert note.startswith("1 of 12 chunks of array raw have no file, the first at section 4")
    assert note_gaps(path, "raw", labels=False, sections=range(2)) == ()


def test_labels_without_empty_chunks_are_whole(make):
    path = make("mito", LABELS, empty=False)
    assert note_gaps(path, "mito", labels=True) == ()
    (note,) = note_gaps(path, "mito", labels=True, doubtful=True)
    assert note.startswith("30 of 36 chunks of array mito have no file, the first at section 0")
    assert note.endswith("unless its program leaves out chunks without labels")


def test_labels_whose_program_writes_empty_chunks_have_lost_some(tmp_path):
    save(tmp_path / "a.zarr", "mito", LABELS, empty=True, **LAYOUTS["version 2"])
    assert note_gaps(tmp_path / "a.zarr", "mito", labels=True) == ()
    (tmp_path / "a.zarr/mito/3.0.0").unlink()
    (note,) = note_gaps(tmp_path / "a.zarr", "mito", labels=True)
    assert note.startswith("1 of 36 chunks of array mito have no file, the first at section 3")


def test_lost_shards_count_with_all_their_chunks(tmp_path):
    save(tmp_path / "a.zarr", "raw", RAW, empty=False, **LAYOUTS["shards"])
    (tmp_path / "a.zarr/raw/c/1/0/1").unlink()
    (note,) = note_gaps(tmp_path / "a.zarr", "raw", labels=False)
    assert note.startswith("4 of 36 chunks of array raw have no file, the first at section 2")


def test_counting_has_an_end(make, monkeypatch):
    monkeypatch.setattr(gaps, "_MOST_COUNTED", 35)
    assert note_gaps(make("raw", np.zeros_like(RAW), empty=False), "raw", labels=False) == ()
