import h5py
import numpy as np
import pytest

from bench.errors import BenchError
from bench.inference.blends import turn_back
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import (
    copy_predictions,
    list_stored,
    read_classes,
    read_mean,
    read_prediction,
    write_predictions,
)
from bench.inference.symmetries import IDENTITY

NAMES = (IDENTITY, "flip_x")


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


def test_the_classes_of_a_model_serve_each_of_its_structures(tmp_path):
    rng = np.random.default_rng(2)
    levels = {name: rng.integers(0, 80, (3, 20, 30), dtype=np.uint8) for name in NAMES}
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    with write_predictions(first, {"structure": "mitochondria"}) as writer:
        for name, classes in levels.items():
            writer.write("s0", name, SectionPrediction(classes[1], classes=classes))
    copy_predictions(first, second, 2, {"structure": "vesicles"})
    for path, channel in ((first, 1), (second, 2)):
        assert list_stored(path) == ({"s0": (20, 30)}, NAMES)
        for name, classes in levels.items():
            found = read_prediction(path, "s0", name).foreground
            np.testing.assert_array_equal(found, classes[channel])
        mean = sum(classes.astype(int) for classes in levels.values())
        np.testing.assert_array_equal(read_classes(path, "s0", NAMES), mean.argmax(0))
        np.testing.assert_array_equal(
            read_classes(path, "s0", [IDENTITY]), levels[IDENTITY].argmax(0)
        )
    with h5py.File(second) as file:
        assert file.attrs["structure"] == "vesicles"
    with write_predictions(tmp_path / "other.h5", {}) as writer:
        writer.write("s0", IDENTITY, SectionPrediction(levels[IDENTITY][0]))
    with pytest.raises(BenchError, match=r"probabilities of all classes, it lacks s0/identity.cl"):
        read_classes(tmp_path / "other.h5", "s0", [IDENTITY])


def test_classes_are_turned_back_with_the_rest():
    classes = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)
    turned = turn_back(SectionPrediction(classes[1], classes=classes), np.rot90)
    np.testing.assert_array_equal(turned.foreground, np.rot90(classes[1]))
    np.testing.assert_array_equal(turned.classes, np.rot90(classes, axes=(1, 2)))
