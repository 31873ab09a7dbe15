import h5py
import numpy as np
import pytest

from bench.core.pixels import BLOCK_PX, all_blocks, occupied_blocks
from bench.dataset.section_file import write_section_file
from bench.postprocess.label_runs import find_label_runs

SHAPE = (2 * BLOCK_PX + 30, 3 * BLOCK_PX + 7)


def write(path, **arrays):
    entry = {
        "name": "train-a",
        "split": "train",
        "content_hash": "0" * 64,
        "datasets": {key: {"source": "a.tif"} for key in arrays},
    }
    runs = {key: find_label_runs(pixels) for key, pixels in arrays.items() if key != "raw"}
    write_section_file(path, entry, arrays, 5.0, runs)
    return path


def chunks_of(path, key):
    with h5py.File(path) as file:
        identifier = file[key].id
        return [
            identifier.get_chunk_info(n).chunk_offset for n in range(identifier.get_num_chunks())
        ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_background_is_not_stored_and_reads_as_zero(tmp_path, dtype):
    labels = np.zeros(SHAPE, dtype)
    labels[BLOCK_PX - 1, 5] = 3
    labels[-1, -1] = np.iinfo(dtype).max
    path = write(tmp_path / "a.h5", **{"labels/vesicles": labels})
    assert chunks_of(path, "labels/vesicles") == [(0, 0), (2 * BLOCK_PX, 3 * BLOCK_PX)]
    with h5py.File(path) as file:
        read = file["labels/vesicles"][()]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("shape", [SHAPE, (600, 700), (1, 1), (5, 300), (1100, 1001)])
@pytest.mark.parametrize("dtype", [">u2", "<u2", "u1", "<f4"])
def test_raw_reads_as_it_was(tmp_path, shape, dtype):
    smooth = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 50).astype(dtype)
    noise = np.random.default_rng(0).integers(0, 2**8, shape).astype(dtype)
    for raw in (smooth, noise):
        with h5py.File(write(tmp_path / "a.h5", raw=raw)) as file:
            np.testing.assert_array_equal(file["raw"][()], raw)


def test_raw_is_compressed_where_that_pays(tmp_path):
    smooth = np.zeros(SHAPE, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    with h5py.File(write(tmp_path / "smooth.h5", raw=smooth)) as file:
        assert file["raw"].compression == "gzip"
        assert file["raw"].id.get_storage_size() < smooth.nbytes / 50
    with h5py.File(write(tmp_path / "noise.h5", raw=noise)) as file:
        assert file["raw"].compression is None
        assert file["raw"].id.get_storage_size() == noise.nbytes


def test_blocks_are_those_with_labels():
    random = np.random.default_rng(1)
    labels = np.where(random.random(SHAPE) > 0.9999, 7, 0).astype(np.uint16)
    blocks = all_blocks(SHAPE, BLOCK_PX)
    assert sum(labels[block].size for block in blocks) == labels.size
    expected = [block for block in blocks if labels[block].any()]
    assert 0 < len(expected) < len(blocks)
    assert occupied_blocks(labels) == find_label_runs(labels).blocks() == expected
