import json

import h5py
import numpy as np
import pytest
import tifffile

from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.writing import write_prepared


@pytest.fixture
def dataset(make_tree, read_tree, tmp_path):
    return write_prepared(read_tree(make_tree()), tmp_path / "out")


def edit(dataset, **changes):
    path = dataset.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_it_tells(dataset):
    assert PreparedDataset.open(str(dataset.root)).manifest == dataset.manifest
    assert dataset.structures == ("mitochondria", "vesicles")
    assert dataset.pixel_size_nm is None
    assert dataset.sections("train") == ("train-s0", "train-s1", "train-s2")
    assert dataset.instances("train", "vesicles") == 6
    assert dataset.foreground_fraction("val", "vesicles") == 200 / (48 * 64)
    assert dataset.read_raw("val-s3").shape == (48, 64)
    assert dataset.read_labels("val-s3", "vesicles").max() == 2
    dataset.verify()


def test_unknown_names(dataset):
    with pytest.raises(BenchError, match="unknown split 'validation': choose one of test, train"):
        dataset.sections("validation")
    with pytest.raises(BenchError, match="unknown section 's0': choose one of test-s4, train-s0"):
        dataset.read_raw("s0")
    with pytest.raises(BenchError, match="'golgi', received masks of mitochondria, vesicles"):
        dataset.read_labels("train-s0", "golgi")
    with pytest.raises(BenchError, match="unknown structure of this dataset 'golgi'"):
        dataset.instances("train", "golgi")


def test_split_without_sections_or_masks(make_tree, read_tree, tmp_path):
    root = make_tree("few", splits={"train": 1, "val": 1})
    dataset = write_prepared(read_tree(root), tmp_path / "few_out")
    with pytest.raises(BenchError, match="must have sections in test, received only train, val"):
        dataset.sections("test")
    root = make_tree("more", splits={"train": 1, "val": 1, "test": 1})
    for path in (root / "test/vesicles").iterdir():
        path.unlink()
    (root / "test/vesicles").rmdir()
    dataset = write_prepared(read_tree(root), tmp_path / "more_out")
    with pytest.raises(BenchError, match=r"vesicles must be annotated in test, received .* train"):
        dataset.instances("test", "vesicles")
    with pytest.raises(BenchError, match="received masks of mitochondria: choose"):
        dataset.read_labels("test-s2", "vesicles")


def test_folder_that_is_none(tmp_path):
    with pytest.raises(BenchError, match=r"no such folder: run prepare with -P output="):
        PreparedDataset.open(tmp_path / "absent")
    with pytest.raises(BenchError, match=r"without manifest.json: run prepare"):
        PreparedDataset.open(tmp_path)
    for content in ("{", "[]", '{"kind": "model"}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(BenchError, match="run prepare"):
            PreparedDataset.open(tmp_path)


def test_other_schema_and_lost_keys(dataset):
    edit(dataset, schema=3)
    with pytest.raises(BenchError, match="schema 1 or 2, received 3: update synapse-bench"):
        PreparedDataset.open(dataset.root)
    edit(dataset, schema=0)
    with pytest.raises(BenchError, match="schema 1 or 2, received 0: prepare again"):
        PreparedDataset.open(dataset.root)
    manifest = {key: value for key, value in dataset.manifest.items() if key != "sections"}
    (dataset.root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BenchError, match="must be whole, received no sections"):
        PreparedDataset.open(dataset.root)


def test_written_before_with_every_chunk_compressed(dataset):
    for path in (dataset.root / "sections").iterdir():
        with h5py.File(path, "r+") as file:
            keys = ["raw", *(f"labels/{name}" for name in file["labels"])]
            for key in keys:
                pixels, attributes = file[key][()], dict(file[key].attrs)
                del file[key]
                options = {"chunks": (16, 16), "compression": "gzip", "compression_opts": 4}
                file.create_dataset(key, data=pixels, **options).attrs.update(attributes)
    PreparedDataset.open(dataset.root).verify()


def test_lost_file(dataset):
    (dataset.root / "sections/val-s3.h5").unlink()
    with pytest.raises(BenchError, match="received none for val-s3: run prepare again"):
        PreparedDataset.open(dataset.root)
    with pytest.raises(BenchError, match=r"val-s3.h5, which does not read"):
        dataset.verify()


def test_changed_pixel(dataset):
    with h5py.File(dataset.root / "sections/train-s1.h5", "r+") as file:
        file["labels/vesicles"][0, 0] = 1
    with pytest.raises(BenchError, match="received other pixels in section train-s1"):
        PreparedDataset.open(dataset.root).verify()


def test_changed_file(dataset):
    path = dataset.root / "sections/train-s1.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BenchError, match="run prepare again with -P overwrite=true"):
        dataset.read_raw("train-s1")
    other = dataset.root / "sections/train-s2.h5"
    path.write_bytes(other.read_bytes())
    with pytest.raises(BenchError, match=r"another sections/train-s1.h5 than the manifest"):
        dataset.read_raw("train-s1")


def test_changed_manifest(dataset):
    edit(dataset, pixel_size_nm=3.0)
    with pytest.raises(BenchError, match="received a manifest that was edited"):
        PreparedDataset.open(dataset.root).verify()
    sections = [entry | {"split": "train"} for entry in dataset.manifest["sections"]]
    edit(dataset, pixel_size_nm=None, sections=sections)
    with pytest.raises(BenchError, match="received other pixels in section"):
        PreparedDataset.open(dataset.root).verify()


def test_raw_depth_is_kept(make_tree, read_tree, tmp_path):
    root = make_tree()
    pixels = np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32)
    (root / "val/raw/s3.png").unlink()
    tifffile.imwrite(root / "val/raw/s3.tif", pixels)
    dataset = write_prepared(read_tree(root), tmp_path / "out")
    np.testing.assert_array_equal(dataset.read_raw("val-s3"), pixels)
    assert dataset.read_raw("val-s3").dtype == np.float32
