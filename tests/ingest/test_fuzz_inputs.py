"""Damaged files of every format, from the door of prepare to the pixels: success or one line."""

import json
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from bench.config.data import PrepareConfig
from bench.dataset.checks import check_raw, read_instances
from bench.errors import BenchError
from bench.export.formats import FORMATS
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input

SHAPE = (24, 30)
CASES = 25


def make_labels() -> np.ndarray:
    labels = np.zeros((3, *SHAPE), np.uint32)
    labels[:, 2:9, 3:12] = 1
    labels[:, 4:6, 5:8] = 0
    labels[:, 12:20, 15:28] = 2
    return labels


RAW = np.random.default_rng(0).integers(0, 255, (3, *SHAPE), dtype=np.uint8)


def write_tiff(folder: Path) -> tuple[Path, Path]:
    tifffile.imwrite(folder / "a.tif", RAW, photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "a_vesicles.tif", make_labels(), photometric="minisblack")
    return folder / "a.tif", folder / "a.tif"


def write_png(folder: Path) -> tuple[Path, Path]:
    for number in range(3):
        (folder / f"a{number}.png").write_bytes(imagecodecs.png_encode(RAW[number]))
        mask = make_labels()[number].astype(np.uint8)
        (folder / f"a{number}_vesicles.png").write_bytes(imagecodecs.png_encode(mask))
    return folder, folder / "a1_vesicles.png"


def write_jpeg(folder: Path) -> tuple[Path, Path]:
    write_png(folder)
    for number in range(3):
        (folder / f"a{number}.png").unlink()
        (folder / f"a{number}.jpg").write_bytes(imagecodecs.jpeg8_encode(RAW[number]))
    return folder, folder / "a1.jpg"


def write_mrc(folder: Path) -> tuple[Path, Path]:
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(RAW.astype(np.int16))
    with mrcfile.new(folder / "a_vesicles.mrc") as file:
        file.set_data(make_labels().astype(np.int16))
    return folder / "a.mrc", folder / "a.mrc"


def write_hdf5(folder: Path) -> tuple[Path, Path]:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=RAW, chunks=(1, 8, 8), compression="gzip")
        file.create_dataset("vesicles", data=make_labels(), chunks=(1, 24, 30))
    return folder / "a.h5", folder / "a.h5"


def write_zarr(folder: Path) -> tuple[Path, Path]:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    group.create_array("raw", data=RAW, chunks=(1, 24, 30))
    group.create_array("vesicles", data=make_labels(), chunks=(1, 24, 30))
    return folder / "a.zarr", folder / "a.zarr/raw/.zarray"


def write_nifti(folder: Path) -> tuple[Path, Path]:
    for name, voxels in (("a", RAW), ("a_vesicles", make_labels().astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), folder / f"{name}.nii")
    return folder, folder / "a_vesicles.nii"


def write_coco(folder: Path) -> tuple[Path, Path]:
    write_tiff(folder)
    (folder / "a_vesicles.tif").unlink()
    ring = [3, 2, 12, 2, 12, 9, 3, 9]
    image = {"id": 1, "file_name": "a.tif", "height": SHAPE[0], "width": SHAPE[1]}
    drawn = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [ring], "iscrowd": 0}
    content = {
        "images": [image],
        "annotations": [drawn],
        "categories": [{"id": 1, "name": "vesicle"}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.tif", folder / "a.json"


def write_exported(name: str, pattern: str) -> Callable[[Path], tuple[Path, Path]]:
    """Writes with one of our own writers; the file that matches the pattern is damaged."""

    def write(folder: Path) -> tuple[Path, Path]:
        stack = make_stack({"vesicles": make_labels()}, raw=RAW, pixel_size_nm=5, section_nm=50)
        FORMATS[name].write(stack, folder)
        (file,) = sorted(folder.glob(pattern))[:1]
        return folder, file

    return write


WRITERS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "tiff": write_tiff,
    "png": write_png,
    "jpeg": write_jpeg,
    "mrc": write_mrc,
    "hdf5": write_hdf5,
    "zarr": write_zarr,
    "coco": write_coco,
    "trakem2": write_exported("trakem2", "*.xml"),
    "imod": write_exported("imod", "*.mod"),
    "rois": write_exported("rois", "*.zip"),
    "exported tiff": write_exported("tiff", "vesicles/*.tif"),
    "ome_zarr": write_exported("ome_zarr", "*.zarr/labels/vesicles/.zattrs"),
    "nifti": write_nifti,
}


def read_all(given: Path) -> int:
    """Reads an input with all its pixels, as prepare does; returns the pixels of labels."""
    splits = "train=0;val=1;test=2"
    tree = read_input(PrepareConfig(input=str(given), splits=splits, structures="vesicles"))
    pixels = 0
    for section in (*tree.sections, *tree.unlabelled):
        check_raw(section.raw.read(), section.raw.file)
        for image in section.labels.values():
            labels, _ = read_instances(image.read(), image.file, ids=image.ids)
            pixels += int(np.count_nonzero(labels))
    return pixels


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Cuts bytes off, flips bits, moves a piece, or repeats one."""
    broken = bytearray(content)
    kind = random.integers(4)
    first, last = sorted(random.integers(0, len(broken) + 1, 2))
    if kind == 0:
        return bytes(broken[:first])
    if kind == 1:
        for place in random.integers(0, len(broken), random.integers(1, 6)):
            broken[place] ^= 1 << random.integers(8)
    elif kind == 2:
        broken[first:last] = random.integers(0, 256, last - first, dtype=np.uint8).tobytes()[:64]
    else:
        broken[first:first] = broken[first:last]
    return bytes(broken)


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_writers_leave_is_read(name, tmp_path):
    given, _ = WRITERS[name](tmp_path)
    expected = 63 if name == "coco" else np.count_nonzero(make_labels())
    assert read_all(given) == expected


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name, tmp_path):
    given, file = WRITERS[name](tmp_path)
    whole = file.read_bytes()
    random = np.random.default_rng(list(WRITERS).index(name))
    messages = []
    tracemalloc.start()
    for _ in range(CASES):
        file.write_bytes(damage(whole, random))
        before = sorted(path.name for path in tmp_path.rglob("*"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_all(given)
        except BenchError as error:
            messages.append(str(error))
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert messages
    assert all("\n" not in message and len(message) < 2000 for message in messages)
    assert peak < 1 << 30
