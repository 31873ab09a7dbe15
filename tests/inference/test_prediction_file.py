import h5py
import numpy as np
import pytest

from bench.inference.prediction_file import IDENTITY, read_probability, write_predictions


@pytest.mark.parametrize("shape", [(700, 40), (1, 1), (600, 1300)])
def test_round_trip(tmp_path, shape):
    path = tmp_path / "prediction.h5"
    rng = np.random.default_rng(0)
    maps = {
        (section, augmentation): rng.integers(0, 256, shape, dtype=np.uint8)
        for section in ("s0", "s 1.b")
        for augmentation in (IDENTITY, "flip_x")
    }
    with write_predictions(path, {"structure": "vesicles", "pixel_size_nm": 4.5}) as writer:
        for (section, augmentation), probability in maps.items():
            writer.write(section, augmentation, probability)
    for (section, augmentation), probability in maps.items():
        found = read_probability(path, section, augmentation)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, probability)
    np.testing.assert_array_equal(read_probability(path, "s0"), maps["s0", IDENTITY])


def test_file_says_what_it_is_and_is_compressed(tmp_path):
    path = tmp_path / "prediction.h5"
    with write_predictions(path, {"structure": "vesicles", "split": "val"}) as writer:
        writer.write("s0", IDENTITY, np.zeros((1000, 1000), np.uint8))
    assert path.stat().st_size < 50_000
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "format": "synapse-bench-prediction",
            "version": 1,
            "structure": "vesicles",
            "split": "val",
        }
