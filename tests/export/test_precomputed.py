import json

import numpy as np
import pytest

from bench.export.precomputed import write_precomputed
from bench.export.stack import make_stack


def read_volume_of(folder, scale):
    """Puts the chunks of a scale together as the format's description says: x is the fastest."""
    info = json.loads((folder / "info").read_text())
    described = info["scales"][scale]
    volume = np.zeros(described["size"], info["data_type"])
    for path in (folder / described["key"]).iterdir():
        spans = [tuple(map(int, span.split("-"))) for span in path.name.split("_")]
        shape = [end - start for start, end in spans]
        chunk = np.frombuffer(path.read_bytes(), np.dtype(info["data_type"]).newbyteorder("<"))
        volume[tuple(slice(*span) for span in spans)] = chunk.reshape(shape, order="F")
    return volume, described


@pytest.fixture
def stack():
    random = np.random.default_rng(0)
    raw = random.integers(0, 2**16, (18, 530, 300), dtype=np.uint16)
    labels = random.integers(0, 70000, raw.shape, dtype=np.uint32)
    return make_stack({"vesicles": labels}, raw=raw, pixel_size_nm=4.0, section_nm=40.0)


def test_no_voxel_is_lost(stack, tmp_path):
    write_precomputed(stack, tmp_path)
    for name, expected in (("raw", stack.raw), ("vesicles", stack.labels["vesicles"])):
        volume, described = read_volume_of(tmp_path / name, 0)
        assert np.array_equal(volume.transpose(2, 1, 0), expected)
        assert described["resolution"] == [4, 4, 40]
    coarse, described = read_volume_of(tmp_path / "vesicles", 1)
    assert np.array_equal(coarse.transpose(2, 1, 0), stack.labels["vesicles"][:, ::2, ::2])
    assert described["resolution"] == [8, 8, 40]


def test_it_says_what_it_is(stack, tmp_path):
    write_precomputed(stack, tmp_path)
    kinds = {
        name: json.loads((tmp_path / name / "info").read_text()) for name in ("raw", "vesicles")
    }
    assert {name: info["type"] for name, info in kinds.items()} == {
        "raw": "image",
        "vesicles": "segmentation",
    }
    assert kinds["vesicles"]["data_type"] == "uint32"
    assert {info["@type"] for info in kinds.values()} == {"neuroglancer_multiscale_volume"}


def test_types_that_it_has_not_become_real(tmp_path):
    raw = np.full((1, 8, 8), -5, np.int16)
    write_precomputed(make_stack({"membrane": np.ones((1, 8, 8), np.uint8)}, raw=raw), tmp_path)
    volume, _ = read_volume_of(tmp_path / "raw", 0)
    assert volume.dtype == np.float32
    assert (volume == -5).all()
