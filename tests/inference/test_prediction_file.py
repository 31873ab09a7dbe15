import h5py
import numpy as np
import pytest

from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import read_mean, read_prediction, write_predictions
from bench.inference.symmetries import IDENTITY


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
            writer.write(section, augmentation, SectionPrediction(probability))
    for (section, augmentation), probability in maps.items():
        stored = read_prediction(path, section, augmentation)
        assert stored.boundary is None
        assert stored.instances is None
        found = stored.foreground
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, probability)
    np.testing.assert_array_equal(read_prediction(path, "s0").foreground, maps["s0", IDENTITY])


def test_file_says_what_it_is_and_is_compressed(tmp_path):
    path = tmp_path / "prediction.h5"
    with write_predictions(path, {"structure": "vesicles", "split": "val"}) as writer:
        writer.write("s0", IDENTITY, SectionPrediction(np.zeros((1000, 1000), np.uint8)))
    assert path.stat().st_size < 50_000
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "format": "synapse-bench-prediction",
            "version": 1,
            "structure": "vesicles",
            "split": "val",
        }


def test_all_maps_come_back(tmp_path):
    path = tmp_path / "prediction.h5"
    rng = np.random.default_rng(1)
    foreground, boundary = rng.integers(0, 256, (2, 40, 30), dtype=np.uint8)
    instances = rng.integers(0, 300, (40, 30), dtype=np.int32)
    with write_predictions(path, {}) as writer:
        writer.write("s0", IDENTITY, SectionPrediction(foreground, boundary, instances))
    found = read_prediction(path, "s0")
    for stored, expected in zip(
        (found.foreground, found.boundary, found.instances),
        (foreground, boundary, instances),
        strict=True,
    ):
        assert stored.dtype == expected.dtype
        np.testing.assert_array_equal(stored, expected)
    with pytest.raises(BenchError, match="must hold section s1 with augmentation identity"):
        read_prediction(path, "s1")


def test_the_mean_is_of_the_augmentations_named(tmp_path):
    path = tmp_path / "prediction.h5"
    levels = {IDENTITY: 10, "flip_x": 20, "flip_y": 90}
    with write_predictions(path, {}) as writer:
        for name, level in levels.items():
            writer.write("s0", name, SectionPrediction(np.full((3, 4), level, np.uint8)))
    for names, mean in (([IDENTITY], 10), ([IDENTITY, "flip_x"], 15), (list(levels), 40)):
        assert (read_mean(path, "s0", names).foreground == mean).all()
    with pytest.raises(BenchError, match="with augmentation rot90, it does not"):
        read_mean(path, "s0", [IDENTITY, "rot90"])
