"""A dataset of schema 1, as the code before schema 2 wrote it, is read and is the same content."""

import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.dataset.prepared import SCHEMA, PreparedDataset
from bench.errors import BenchError
from bench.ingest.adding.adding import add_to_dataset
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared

# Written by commit 4a2ea5b from what `write_input` writes.
WRITTEN = Path(__file__).with_name("schema1")
CONTENT = "4c9e1c5d85a2d658e380b485bb89f767e164b5105c4fcbaa8e0ec2e13521b6b1"


def write_input(root: Path, numbers=range(3)) -> Path:
    """Three sections of 40 x 48 px with three instances each, by arithmetic alone."""
    rows, columns = np.mgrid[:40, :48]
    for number in numbers:
        raw = ((rows * 7 + columns * (11 + number)) % 251).astype(np.uint8)
        ids = np.zeros(raw.shape, np.uint8)
        for number_of, top in enumerate((2, 14, 27), start=1):
            ids[top : top + 8, 5 + number : 20 + 2 * number_of] = number_of
        for folder, image in (("raw", raw), ("vesicles", ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"s{number}.tif", image)
    return root


def read(root: Path, **settings):
    return read_input(PrepareConfig(input=str(root), pixel_size_nm=5.0, **settings))


@pytest.fixture
def earlier(tmp_path) -> PreparedDataset:
    return PreparedDataset.open(shutil.copytree(WRITTEN, tmp_path / "earlier"))


def test_it_is_read_verified_and_left_where_the_same_is_prepared_again(earlier, tmp_path, caplog):
    assert (earlier.schema, earlier.content_hash) == (1, CONTENT)
    earlier.verify()
    assert np.unique(earlier.read_labels("val-s1", "vesicles")).tolist() == [0, 1, 2, 3]
    tree = read(write_input(tmp_path / "input"), splits="train=0;val=1;test=2")
    new = write_prepared(tree, tmp_path / "new")
    assert new.schema == SCHEMA
    assert new.content_hash != CONTENT
    assert new.is_content(CONTENT)
    assert earlier.is_content(new.content_hash)
    assert not earlier.is_content("0" * 64)
    with caplog.at_level(logging.INFO):
        again = write_prepared(tree, earlier.root)
    assert "is unchanged" in caplog.text
    assert again.content_hash == CONTENT


def test_what_is_added_to_it_keeps_its_schema(earlier, tmp_path):
    tree = read(write_input(tmp_path / "input", numbers=[7]), add_to=str(earlier.root))
    added = write_prepared(add_to_dataset(tree, earlier), tmp_path / "new")
    assert added.schema == 1
    assert len(added.sections("train")) == 2
    added.verify()


def test_a_change_of_its_pixels_is_noticed(earlier):
    with h5py.File(earlier.root / "sections/val-s1.h5", "a") as file:
        pixels = file["labels/vesicles"][()]
        pixels[0, 0] = 1
        file["labels/vesicles"][...] = pixels
    with pytest.raises(BenchError, match="other pixels in section val-s1"):
        earlier.verify()
