"""Images without labels from folders, files and prepared datasets."""

import os

import h5py
import numpy as np
import pytest
import tifffile

from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest import image_pool
from bench.ingest.image_pool import hold_out, list_pool
from bench.ingest.images import formats
from bench.ingest.writing import write_prepared


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


def write_images(folder, count, side=32):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        tifffile.imwrite(folder / f"image{number:03}.tif", noise((side, side), number))
    return folder


def test_folders_files_and_stacks_are_one_list(tmp_path):
    folder = write_images(tmp_path / "images", 3)
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file["raw"] = noise((4, 40, 48), 7)
        file["labels/mitochondria"] = np.ones((4, 40, 48), np.uint16)
    pool = list_pool(f"{folder},{tmp_path / 'volume.h5'}", patch_px=32)
    assert len(pool) == 7
    assert pool.shapes.tolist() == [[32, 32]] * 3 + [[40, 48]] * 4
    assert np.array_equal(pool.read(1), noise((32, 32), 1))
    assert np.array_equal(pool.read(5), noise((4, 40, 48), 7)[2])
    assert "volume.h5" in pool.name(5)
    assert [group.kind for group in pool.groups] == [
        f"3 images of {folder}",
        f"4 images of {tmp_path / 'volume.h5'}",
    ]
    with pytest.raises(IndexError):
        pool.read(7)


def test_of_a_prepared_dataset_labels_and_test_sections_stay_unread(
    make_tree, read_tree, tmp_path, monkeypatch
):
    tree = make_tree(splits={"train": 2, "val": 1, "test": 1})
    write_prepared(read_tree(tree), tmp_path / "prepared")
    dataset = PreparedDataset.open(tmp_path / "prepared")
    # As a TrakEM2 project leaves it.
    montage = dataset.find("train-s0") | {"name": "montage", "split": "unlabelled"}
    dataset.manifest["unlabelled"] = [montage]
    read = []
    monkeypatch.setattr(PreparedDataset, "read", lambda self, *what: read.append(what))
    pool = list_pool("", dataset, ("train", "unlabelled"), patch_px=16)
    for number in range(len(pool)):
        pool.read(number)
    assert len(read) == 3
    assert [name for name, _ in read] == [*dataset.sections("train"), *dataset.unlabelled()]
    assert {key for _, key in read} == {"raw"}
    everything = list_pool("", dataset, ("test", "train", "val", "unlabelled"), patch_px=16)
    assert len(everything) == 5
    assert everything.sha256 != pool.sha256
    with pytest.raises(BenchError, match=r"unknown split 'trian': .* .did you mean train"):
        list_pool("", dataset, ("trian",), patch_px=16)


def test_a_folder_of_very_many_images_is_listed_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(image_pool, "MANY_FILES", 30)
    folder = write_images(tmp_path / "cem500k", 60)
    opened = []
    for kind in ("read_header", "read_plane"):
        real = getattr(formats, kind)
        monkeypatch.setattr(
            image_pool, kind, lambda path, real=real: opened.append(path) or real(path)
        )
    pool = list_pool(str(folder), patch_px=32)
    assert len(pool) == 60
    # As many headers as say how large they are.
    assert len(opened) == 20
    assert np.array_equal(pool.read(41), noise((32, 32), 41))
    assert len(opened) == 21
    assert pool.groups[0].kind == f"60 images of {folder}, by their names"
    before = pool.sha256
    assert list_pool(str(folder), patch_px=32).sha256 == before
    os.utime(folder / "image003.tif", (1, 1))
    assert list_pool(str(folder), patch_px=32).sha256 != before
    (folder / "notes.txt").write_text("none")
    with pytest.raises(BenchError, match=r"must hold images of known formats only, .*notes.txt"):
        list_pool(str(folder), patch_px=32)


def test_very_many_stacks_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_pool, "MANY_FILES", 2)
    folder = write_images(tmp_path / "stacks", 2)
    tifffile.imwrite(folder / "a_stack.tif", noise((3, 32, 32)), photometric="minisblack")
    with pytest.raises(BenchError, match="of over 2 files must hold an image in each"):
        list_pool(str(folder), patch_px=32)


def test_images_smaller_than_a_patch_are_left_out(tmp_path):
    folder = write_images(tmp_path / "images", 2, side=64)
    tifffile.imwrite(folder / "small.tif", noise((20, 90)))
    pool = list_pool(str(folder), patch_px=32)
    assert len(pool) == 2
    assert [name for name in pool.left_out if "small.tif" in name] == list(pool.left_out) != []
    assert np.array_equal(pool.read(1), noise((64, 64), 1))
    with pytest.raises(
        BenchError, match=r"as large as a patch \(patch_px=128\), .*small.*: lower patch_px"
    ):
        list_pool(str(folder), patch_px=128)


def test_what_is_not_there_or_empty_is_said(tmp_path):
    with pytest.raises(BenchError, match=r"input must be an image .* or a folder of images"):
        list_pool(str(tmp_path / "nowhere"), patch_px=32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="must hold images, received none"):
        list_pool(str(tmp_path / "empty"), patch_px=32)
    with pytest.raises(BenchError, match="received no images: lower"):
        list_pool("", patch_px=32)


def test_one_of_twenty_images_is_held_out(tmp_path):
    pool = list_pool(str(write_images(tmp_path / "images", 45)), patch_px=32)
    same, held_out = hold_out(pool, 32, seed=0)
    assert same is pool
    assert len(set(held_out.tolist())) == 2
    assert held_out.tolist() == hold_out(pool, 32, seed=0)[1].tolist()
    assert held_out.tolist() != hold_out(pool, 32, seed=1)[1].tolist()


def test_of_a_single_image_the_lowest_rows_are_held_out(tmp_path):
    image = noise((400, 50))
    tifffile.imwrite(tmp_path / "montage.tif", image)
    pool, held_out = hold_out(list_pool(str(tmp_path / "montage.tif"), patch_px=32), 32, 0)
    assert held_out.tolist() == [1]
    assert pool.shapes.tolist() == [[360, 50], [40, 50]]
    assert np.array_equal(pool.read(0), image[:360])
    assert np.array_equal(pool.read(1), image[360:])
    alone = list_pool(str(tmp_path / "montage.tif"), patch_px=50)
    assert hold_out(alone, 50, 0)[0].shapes.tolist() == [[350, 50], [50, 50]]
    tifffile.imwrite(tmp_path / "small.tif", noise((60, 60)))
    with pytest.raises(BenchError, match="single image must be twice as high as a patch"):
        hold_out(list_pool(str(tmp_path / "small.tif"), patch_px=32), 32, 0)
