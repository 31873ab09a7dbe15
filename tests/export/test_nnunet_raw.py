import json

import numpy as np
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.export.nnunet_raw import write_nnunet
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input


@pytest.fixture
def sections():
    random = np.random.default_rng(0)
    raw = random.integers(0, 255, (2, 40, 50), dtype=np.uint8)
    mitochondria, vesicles = np.zeros((2, *raw.shape), np.uint16)
    mitochondria[:, 5:20, 5:20] = 7
    vesicles[:, 18:24, 18:24] = 3
    return {"mitochondria": mitochondria, "vesicles": vesicles}, raw


def read_json(path):
    return json.loads(path.read_text())


def test_sections_of_splits_are_one_data_set(sections, tmp_path, caplog):
    labels, raw = sections
    for split in ("train", "val", "test"):
        names = (f"{split}-a", f"{split}-b")
        write_nnunet(make_stack(labels, raw=raw, names=names, split=split), tmp_path)
    assert read_json(tmp_path / "dataset.json") == {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "mitochondria": 1, "vesicles": 2},
        "numTraining": 4,
        "file_ending": ".tif",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    assert read_json(tmp_path / "splits_final.json") == [
        {"train": ["train-a", "train-b"], "val": ["val-a", "val-b"]}
    ]
    assert np.array_equal(tifffile.imread(tmp_path / "imagesTs/test-b_0000.tif"), raw[1])
    classes = tifffile.imread(tmp_path / "labelsTr/val-a.tif")
    assert classes.dtype == np.uint8
    assert np.array_equal(classes == 2, labels["vesicles"][0] > 0)
    assert (classes == 1).sum() == 15 * 15 - 4
    assert "8 pixels of several structures" in caplog.text


def test_prepare_reads_it_back(sections, tmp_path):
    labels, raw = sections
    for split in ("train", "val", "test"):
        names = (f"{split}-a", f"{split}-b")
        write_nnunet(make_stack(labels, raw=raw, names=names, split=split), tmp_path)
    rule = "train=0,1;val=2,3"
    tree = read_input(PrepareConfig(input=str(tmp_path), splits=rule, pixel_size_nm=5.0))
    found = {section.name: section for section in tree.sections}
    assert {name.partition("-")[0] for name in found} == {"train", "val", "test"}
    (of_test,) = (s for s in found.values() if s.stem == "test-a")
    assert np.array_equal(of_test.labels["vesicles"].read() > 0, labels["vesicles"][0] > 0)


def test_a_volume_is_a_case_with_its_spacing(sections, tmp_path):
    labels, raw = sections
    stack = make_stack(
        labels, raw=raw, volume="tomo", pixel_size_nm=4.0, section_nm=40.0, split="train"
    )
    write_nnunet(stack, tmp_path)
    assert tifffile.imread(tmp_path / "imagesTr/tomo_0000.tif").shape == raw.shape
    for folder in ("imagesTr", "labelsTr"):
        assert read_json(tmp_path / folder / "tomo.json") == {"spacing": [40.0, 4.0, 4.0]}
    described = read_json(tmp_path / "dataset.json")
    assert (described["numTraining"], described["overwrite_image_reader_writer"]) == (1, "Tiff3DIO")


def test_labels_alone_are_refused(sections, tmp_path):
    with pytest.raises(BenchError, match="needs the image of every label"):
        write_nnunet(make_stack(sections[0]), tmp_path)
    assert list(tmp_path.iterdir()) == []
