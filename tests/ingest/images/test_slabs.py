from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.ingest.images import chunks, hdf5, zarr_arrays
from bench.ingest.images.chunks import find_slab, read_through

RAW = np.random.default_rng(0).integers(0, 200, (11, 20, 30)).astype("u1")
LABELS = (RAW > 99).astype("u4")
CHUNKS = (4, 8, 8)


def write_hdf5(folder: Path, raw: np.ndarray = RAW) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=raw, chunks=CHUNKS, compression="gzip")
        file.create_dataset("labels", data=LABELS, chunks=CHUNKS, compression="lzf")
    return folder / "a.h5"


def write_zarr(folder: Path, raw: np.ndarray = RAW) -> Path:
    for name, pixels in {"raw": raw, "labels": LABELS}.items():
        array = zarr.create_array(
            folder / "a.zarr",
            name=name,
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=CHUNKS,
            overwrite=True,
        )
        array[...] = pixels
    return folder / "a.zarr"


BOTH = pytest.mark.parametrize(
    ("module", "write"), [(hdf5, write_hdf5), (zarr_arrays, write_zarr)], ids=["hdf5", "zarr"]
)


@BOTH
def test_raw_and_labels_in_turn_are_decoded_once(tmp_path, monkeypatch, module, write):
    path, cut = write(tmp_path), []

    def spy(index, axis, sections):
        cut.append(sections)
        return slice(sections.start, sections.stop), *index[1:]

    monkeypatch.setattr(module, "cut_sections", spy)
    for page in range(11):
        np.testing.assert_array_equal(module.read_plane(path, page, "raw"), RAW[page])
        np.testing.assert_array_equal(module.read_plane(path, page, "labels"), LABELS[page])
    assert cut == [r for r in (range(4), range(4, 8), range(8, 11)) for _ in range(2)]


@BOTH
@pytest.mark.parametrize("largest", [0, 600, 1500, 10**6])
def test_any_order_and_size(tmp_path, monkeypatch, module, write, largest):
    monkeypatch.setattr(chunks, "LARGEST_SLAB", largest)
    path = write(tmp_path)
    for page in np.random.default_rng(0).integers(0, 11, 30).tolist():
        read = module.read_plane(path, page, "raw")
        np.testing.assert_array_equal(read, RAW[page])
        read[...] = 7  # the caller's own
    with pytest.raises(BenchError, match=r"section must be 0 to 10 in .*, received 11"):
        module.read_plane(path, 11, "raw")


@BOTH
def test_a_file_that_was_written_again_is_read_again(tmp_path, module, write):
    path = write(tmp_path)
    np.testing.assert_array_equal(module.read_plane(path, 5, "raw"), RAW[5])
    write(tmp_path, RAW[::-1].copy())
    np.testing.assert_array_equal(module.read_plane(path, 5, "raw"), RAW[::-1][5])


@given(st.integers(1, 50), st.integers(1, 70), st.integers(1, chunks.LARGEST_SLAB * 2), st.data())
def test_a_slab_lies_in_one_layer_of_chunks_and_fits(pages, chunk, plane_bytes, data):
    page = data.draw(st.integers(0, pages - 1))
    slab = find_slab(page, pages, chunk, plane_bytes)
    assert page in slab
    assert {find_slab(other, pages, chunk, plane_bytes) for other in slab} == {slab}
    assert slab[0] // chunk == slab[-1] // chunk
    assert slab[0] >= 0
    assert slab[-1] < pages
    assert len(slab) == 1 or len(slab) * plane_bytes <= chunks.LARGEST_SLAB


def test_only_so_many_bytes_are_kept(monkeypatch):
    monkeypatch.setattr(chunks, "MOST_BYTES", 250)
    read: list[str] = []

    def take(key: str) -> None:
        def load(sections: range) -> np.ndarray:
            read.append(key)
            return np.zeros((len(sections), 5, 10), "u1")

        read_through((Path("file"), key), 0, 1, range(2), load)
        assert sum(slab.pixels.nbytes for slab in chunks.kept.values()) <= 250

    for key in "aabbac":
        take(key)
    assert read == ["a", "b", "c"]
    take("a")  # used after b, which made room for c
    take("b")
    assert read == ["a", "b", "c", "b"]
