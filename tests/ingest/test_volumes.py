"""Stacks that are volumes: told apart from series, and their objects numbered in 3D."""

import dataclasses

import mrcfile
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from bench.config.data import PrepareConfig
from bench.dataset.volumes import find_volumes, read_volume, read_volume_labels
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared

SHAPE = (12, 40, 32)


def write_mrc(path, pixels, nm=2.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.voxel_size = 10 * nm
        file.set_volume()


def make_tree(root, rng, *, ids=False, splits=("train", "val", "test"), nm=2.2):
    """A tree of one tomogram a split, each with some boxes; returns their masks by split."""
    masks = {}
    for split in splits:
        raw = rng.integers(0, 255, SHAPE).astype(np.int16)
        mask = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) > 0.1
        labels = ndimage.label(mask)[0].astype(np.int16) if ids else mask.astype(np.int8)
        write_mrc(root / split / "raw" / "tomo1.mrc", raw, nm)
        write_mrc(root / split / "vesicles" / "tomo1.mrc", labels, nm)
        masks[split] = mask, raw
    return masks


def prepare(root, output, **settings):
    tree = read_input(dataclasses.replace(PrepareConfig(), input=str(root), **settings))
    return write_prepared(tree, output)


@pytest.mark.parametrize("ids", [False, True], ids=["mask", "ids"])
def test_a_tree_of_tomograms_is_a_dataset_of_volumes(tmp_path, ids):
    masks = make_tree(tmp_path / "in", np.random.default_rng(0), ids=ids)
    dataset = prepare(tmp_path / "in", tmp_path / "out")
    for split, (mask, raw) in masks.items():
        (volume,) = find_volumes(dataset, split)
        assert (volume.name, volume.split, volume.shape) == (f"{split}-tomo1", split, SHAPE)
        assert volume.voxel_size_nm == (2.2, 2.2, 2.2)
        np.testing.assert_array_equal(read_volume(dataset, volume), raw)
        np.testing.assert_array_equal(read_volume(dataset, volume, planes=slice(3, 5)), raw[3:5])
        labels = read_volume_labels(dataset, volume, "vesicles")
        wanted, count = ndimage.label(mask)
        pairs = np.unique(np.stack([labels[mask], wanted[mask]]), axis=1)
        assert pairs.shape[1] == count, "an object is one id, and an id one object"
        np.testing.assert_array_equal(labels != 0, mask)
        assert dataset.instances(split, "vesicles") == count
        assert dataset.foreground_fraction(split, "vesicles") == pytest.approx(mask.mean())
    dataset.verify()


def test_the_distance_of_planes_is_part_of_the_content(tmp_path):
    make_tree(tmp_path / "in", np.random.default_rng(0))
    one = prepare(tmp_path / "in", tmp_path / "one")
    other = prepare(tmp_path / "in", tmp_path / "other", section_nm=4.4)
    sections = prepare(tmp_path / "in", tmp_path / "sections", volumes="false")
    assert len({each.content_hash for each in (one, other, sections)}) == 3
    assert find_volumes(other, "val")[0].voxel_size_nm == (4.4, 2.2, 2.2)
    assert find_volumes(sections, "val") == ()


def test_blocks_of_a_volume_are_volumes_of_their_own(tmp_path):
    root, rng = tmp_path / "in", np.random.default_rng(1)
    make_tree(root, rng, splits=("train",))
    rule = "train=0-3,8-11;val=5;test=6"
    dataset = prepare(root / "train", tmp_path / "out", splits=rule)
    names = [volume.name for volume in find_volumes(dataset, "train")]
    assert names == ["train-tomo1_z0-3", "train-tomo1_z8-11"]
    (test,) = find_volumes(dataset, "test")
    assert test.name == "test-tomo1"
    assert test.sections == ("test-tomo1_z06",)


@pytest.mark.parametrize("planes", [4, 12])
def test_few_planes_are_serial_sections_unless_the_user_says_so(tmp_path, planes):
    rng = np.random.default_rng(2)
    for split in ("train", "val"):
        for name in ("raw", "mitochondria"):
            path = tmp_path / "in" / split / name / "stack.tif"
            path.parent.mkdir(parents=True)
            pixels = rng.integers(0, 2 if name != "raw" else 255, (planes, 24, 24)).astype(np.uint8)
            tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"})
    given = {"pixel_size_nm": 5.0, "section_nm": 50.0}
    dataset = prepare(tmp_path / "in", tmp_path / "out", **given)
    assert bool(find_volumes(dataset, "val")) == (planes == 12)
    asked = prepare(tmp_path / "in", tmp_path / "asked", **given, volumes="true")
    assert find_volumes(asked, "val")[0].shape == (planes, 24, 24)
    with pytest.raises(BenchError, match="no section_nm: give -P section_nm="):
        prepare(tmp_path / "in", tmp_path / "no", pixel_size_nm=5.0, volumes="true")
    # Nobody says how far the planes are apart.
    silent = prepare(tmp_path / "in", tmp_path / "silent", pixel_size_nm=5.0)
    assert find_volumes(silent, "val") == ()


def test_volumes_of_different_spacing_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    make_tree(tmp_path / "in", rng)
    for name in ("raw", "vesicles"):
        with mrcfile.open(tmp_path / "in" / "val" / name / "tomo1.mrc", "r+") as file:
            file.voxel_size = (22.0, 22.0, 30.0)
    with pytest.raises(BenchError, match=r"one distance of sections, received 2\.2 nm .* 3 nm"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_single_images_are_no_volumes(tmp_path):
    for split in ("train", "val"):
        for name in ("raw", "vesicles"):
            path = tmp_path / "in" / split / name / "a.tif"
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, np.eye(16, dtype=np.uint8))
    with pytest.raises(BenchError, match="volumes=true needs stacks of one file each"):
        prepare(tmp_path / "in", tmp_path / "out", volumes="true")
