"""The reader in napari itself, in a display of its own."""

import json
from pathlib import Path

import numpy as np

from bench.config.data import PrepareConfig
from bench.export.label_images import write_label_tiff
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared

DRIVER = Path(__file__).with_name("drive_napari.py")


def test_napari_shows_a_dataset_and_a_segmentation(run_in_window, tiny_tree, tmp_path):
    dataset, segmented = tmp_path / "prepared", tmp_path / "segmented"
    write_prepared(read_input(PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)), dataset)
    ids = np.zeros((1, 60, 80), np.uint16)
    ids[0, 5:30, 5:40] = 3
    raw = np.random.default_rng(0).integers(50, 255, ids.shape, dtype=np.uint8)
    stack = make_stack({"mitochondria": ids}, raw=raw, names=("a",), pixel_size_nm=4.0)
    write_label_tiff(stack, segmented)
    (segmented / "segmentation.json").write_text("{}")
    run_in_window(DRIVER, tmp_path / "out.json", tmp_path, dataset, segmented)
    said = json.loads((tmp_path / "out.json").read_text())
    kinds = dict(said[str(dataset)]["layers"])
    assert kinds["val raw"] == "Image"
    assert kinds["test mitochondria"] == "Labels"
    assert said[str(dataset)]["scale"] == [5, 5, 5]
    assert dict(said[str(segmented)]["layers"]) == {"raw": "Image", "mitochondria": "Labels"}
    # The image is bright, and the object coloured, in a part of the window.
    assert said[str(segmented)]["bright"] > 0.2
    assert 0.01 < said[str(segmented)]["coloured"] < 0.5
