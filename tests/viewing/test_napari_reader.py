import json
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import bench.viewing
from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.export.label_images import write_label_tiff
from bench.export.stack import make_stack
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import write_predictions
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.viewing.napari_reader import get_reader


@pytest.fixture(scope="module")
def prepared(tiny_tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset") / "prepared"
    write_prepared(read_input(PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)), root)
    return root


@pytest.fixture
def segmented(tmp_path):
    """An output of segment."""
    random = np.random.default_rng(0)
    raw = random.integers(0, 255, (1, 30, 40), dtype=np.uint8)
    ids = np.zeros(raw.shape, np.uint16)
    ids[0, 5:9, 5:9], ids[0, 20:25, 20:25] = 4, 9
    folder = tmp_path / "segmented"
    stack = make_stack({"mitochondria": ids}, raw=raw, names=("a",), pixel_size_nm=4.0)
    write_label_tiff(stack, folder)
    (folder / "segmentation.json").write_text(json.dumps({"structure": "mitochondria"}))
    return folder, raw, ids


def layers_of(path):
    reader = get_reader(str(path))
    assert reader is not None
    return {settings["name"]: (data, settings, kind) for data, settings, kind in reader(str(path))}


def test_napari_finds_the_reader_by_its_manifest():
    found = PluginManifest.from_file(Path(bench.viewing.__file__).with_name("napari.yaml"))
    (reader,) = found.contributions.readers
    assert reader.accepts_directories
    (command,) = found.contributions.commands
    assert command.id == reader.command
    assert command.python_name == f"{get_reader.__module__}:{get_reader.__name__}"


@pytest.mark.parametrize("opened", ["", "manifest.json"])
def test_a_prepared_dataset_is_layers_of_each_split(prepared, opened):
    dataset, layers = PreparedDataset.open(prepared), layers_of(prepared / opened)
    assert set(layers) == {
        f"{split} {name}"
        for split in ("train", "val", "test")
        for name in ("raw", *dataset.structures)
    }
    assert {name for name, layer in layers.items() if layer[1]["visible"]} == {
        f"train {name}" for name in ("raw", *dataset.structures)
    }
    for name, key in (("val raw", "raw"), ("val vesicles", "labels/vesicles")):
        data, settings, kind = layers[name]
        assert kind == ("image" if key == "raw" else "labels")
        assert settings["scale"] == (5.0, 5.0, 5.0)
        expected = np.stack([dataset.read(section, key) for section in dataset.sections("val")])
        assert np.array_equal(data, expected)


@pytest.mark.parametrize("opened", ["", "segmentation.json"])
def test_an_output_of_segment_is_image_and_objects(segmented, opened):
    folder, raw, ids = segmented
    layers = layers_of(folder / opened)
    assert np.array_equal(layers["raw"][0], raw)
    assert np.array_equal(layers["mitochondria"][0], ids)
    assert layers["mitochondria"][2] == "labels"
    assert layers["raw"][1]["scale"] == (4.0, 4.0, 4.0)


def test_a_prediction_file_is_probabilities(tmp_path):
    path = tmp_path / "predictions.h5"
    maps = np.random.default_rng(0).integers(0, 256, (2, 20, 30)).astype(np.uint8)
    said = {"structure": "membrane", "pixel_size_nm": float("nan")}
    with write_predictions(path, said) as file:
        for number, probability in enumerate(maps):
            file.write(f"s{number}", "identity", SectionPrediction(probability))
    ((name, (data, settings, kind)),) = layers_of(path).items()
    assert (name, kind) == ("probability membrane", "image")
    assert np.array_equal(data, maps)
    assert settings["contrast_limits"] == (0, 255)
    assert "scale" not in settings


def test_what_is_not_ours_is_left_to_others(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "other"}))
    (tmp_path / "other.h5").write_bytes(b"no HDF5")
    for path in (tmp_path, tmp_path / "manifest.json", tmp_path / "other.h5", tmp_path / "none"):
        assert get_reader(str(path)) is None
    assert get_reader([str(tmp_path), str(tmp_path)]) is None
