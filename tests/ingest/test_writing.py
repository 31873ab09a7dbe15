import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from skimage.measure import label

from bench.core import folders
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.images import read_section
from bench.ingest.writing import check_space, write_prepared

DEAD_PID = 2**22 + 1  # above the largest that Linux gives


def read_all(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_real_sections(real_tree, read_tree, tmp_path):
    seen = []
    tree = read_tree(real_tree, pixel_size_nm=5.0)
    output = tmp_path / "out"
    dataset = write_prepared(tree, output, progress=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert dataset.sections("train") == ("train-training0000", "train-training0042")
    assert dataset.pixel_size_nm == 5.0
    for structure in ("vesicles", "mitochondria", "membrane"):
        for split in ("train", "val", "test"):
            masks = [
                read_section(path) > 0 for path in sorted((real_tree / split / structure).iterdir())
            ]
            instances = sum(label(mask, connectivity=1).max() for mask in masks)
            assert dataset.instances(split, structure) == instances
            assert dataset.foreground_fraction(split, structure) == pytest.approx(np.mean(masks))
            for name, mask in zip(dataset.sections(split), masks, strict=True):
                np.testing.assert_array_equal(dataset.read_labels(name, structure) > 0, mask)
    raw = read_section(real_tree / "val/raw/training0089.png")
    np.testing.assert_array_equal(dataset.read_raw("val-training0089"), raw)
    with h5py.File(output / "sections/val-training0089.h5") as file:
        assert file.attrs["pixel_size_nm"] == 5.0
        assert file["raw"].attrs["source"] == "val/raw/training0089.png"
        assert len(file["raw"].attrs["source_sha256"]) == 64
    dataset.verify()


def test_real_stack_of_ids(shared, read_tree, tmp_path):
    root = tmp_path / "stack"
    for folder in ("raw", "vesicles", "mitochondria"):
        (root / folder).mkdir(parents=True)
    sections = [read_section(shared / f"trakem2/m0_section{i}.tif") for i in range(3)]
    tifffile.imwrite(root / "raw/m0.tif", np.stack(sections), photometric="minisblack")
    for structure in ("vesicles", "mitochondria"):
        expected = shared / f"trakem2/expected/{structure}.tif"
        (root / structure / "m0.tif").symlink_to(expected)
    dataset = write_prepared(read_tree(root, splits="train=0,1;val=2"), tmp_path / "out")
    stack = tifffile.imread(shared / "trakem2/expected/mitochondria.tif")
    for name, ids in zip(("train-m0_z00", "train-m0_z01", "val-m0_z02"), stack, strict=True):
        np.testing.assert_array_equal(dataset.read_labels(name, "mitochondria"), ids)
    assert dataset.instances("val", "mitochondria") == len(np.unique(stack[2])) - 1


def test_hash_is_of_content_not_of_files(make_tree, read_tree, tmp_path):
    first = write_prepared(read_tree(make_tree("a")), tmp_path / "out_a")
    root = make_tree("b")
    for path in list(root.rglob("*.png")):
        tifffile.imwrite(path.with_suffix(".tif"), read_section(path))
        path.unlink()
    assert write_prepared(read_tree(root), tmp_path / "out_b").content_hash == first.content_hash
    sized = write_prepared(read_tree(root, pixel_size_nm=5.0), tmp_path / "out_c")
    assert sized.content_hash != first.content_hash
    fewer = write_prepared(read_tree(root, structures="mito"), tmp_path / "out_d")
    assert fewer.content_hash != first.content_hash
    (root / "val/vesicles/s3.tif").rename(root / "val/vesicles/s9.tif")
    (root / "val/mitochondria/s3.tif").rename(root / "val/mitochondria/s9.tif")
    (root / "val/raw/s3.tif").rename(root / "val/raw/s9.tif")
    renamed = write_prepared(read_tree(root), tmp_path / "out_e")
    assert renamed.content_hash != first.content_hash
    text = (first.root / "manifest.json").read_text()
    assert str(tmp_path) not in text


def test_same_content_is_left(make_tree, read_tree, tmp_path, caplog):
    tree = read_tree(make_tree())
    write_prepared(tree, tmp_path / "out")
    inode = (tmp_path / "out").stat().st_ino
    with caplog.at_level(logging.INFO):
        write_prepared(tree, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").stat().st_ino == inode
    assert "is unchanged" in caplog.text


def test_other_content_needs_overwrite(make_tree, read_tree, tmp_path):
    output = tmp_path / "out"
    old = write_prepared(read_tree(make_tree("a")), output)
    tree = read_tree(make_tree("b", seed=100))
    before = read_all(output)
    with pytest.raises(BenchError, match="another output, or give -P overwrite=true"):
        write_prepared(tree, output)
    assert read_all(output) == before
    new = write_prepared(tree, output, overwrite=True)
    new.verify()
    assert new.content_hash != old.content_hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]
    # A reader that opened the old dataset is told, not given the new one's pixels.
    with pytest.raises(BenchError, match="than the manifest names"):
        old.read_raw("train-s0")


def test_damaged_dataset_is_not_taken_for_the_same(make_tree, read_tree, tmp_path):
    tree = read_tree(make_tree())
    dataset = write_prepared(tree, tmp_path / "out")
    (dataset.root / "sections/val-s3.h5").unlink()
    with pytest.raises(BenchError, match="overwrite=true"):
        write_prepared(tree, tmp_path / "out")
    write_prepared(tree, tmp_path / "out", overwrite=True).verify()


@pytest.mark.parametrize("content", ["empty", "files", "file"])
def test_what_is_no_dataset_is_never_touched(make_tree, read_tree, tmp_path, content):
    tree = read_tree(make_tree())
    output = tmp_path / "results" / "thesis"
    output.parent.mkdir()
    if content == "file":
        output.write_text("mine")
    else:
        output.mkdir()
    if content == "files":
        (output / "manifest.json").write_text('{"kind": "thesis"}')
    before = read_all(output.parent)
    with pytest.raises(BenchError, match="exists and is left alone: choose another output"):
        write_prepared(tree, output, overwrite=True)
    assert read_all(output.parent) == before
    assert output.exists()


@pytest.mark.parametrize("place", [".", "out", "train/out", ".."])
def test_output_must_lie_outside_of_input(make_tree, read_tree, place):
    root = make_tree()
    with pytest.raises(BenchError, match="output must lie outside of input"):
        write_prepared(read_tree(root), root / place, overwrite=True)


def test_what_appears_meanwhile_is_never_touched(make_tree, read_tree, tmp_path):
    output = tmp_path / "out"

    def interfere(done, count):
        output.mkdir(exist_ok=True)
        (output / "thesis.tex").write_text("mine")

    with pytest.raises(BenchError, match="is left alone"):
        write_prepared(read_tree(make_tree()), output, overwrite=True, progress=interfere)
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_two_writers_of_one_process(make_tree, read_tree, tmp_path):
    tree = read_tree(make_tree())
    inner = []

    def write_too(done, count):
        if not inner:
            inner.append(write_prepared(tree, tmp_path / "out"))

    dataset = write_prepared(tree, tmp_path / "out", progress=write_too)
    assert dataset.content_hash == inner[0].content_hash
    dataset.verify()


def test_image_in_two_splits_is_an_error(make_tree, read_tree, tmp_path):
    root = make_tree()
    shutil.copy(root / "train/raw/s1.png", root / "test/raw/s4.png")
    with pytest.raises(
        BenchError, match=r"train/raw/s1.png \(train\) and test/raw/s4.png \(test\)"
    ):
        write_prepared(read_tree(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.copy(root / "train/raw/s1.png", root / "train/raw/s2.png")
    write_prepared(read_tree(root, splits="train=0-2;val=3"), tmp_path / "out")


def test_bad_pixels_leave_nothing(make_tree, read_tree, tmp_path):
    root = make_tree()
    (root / "test/vesicles/s4.png").unlink()
    tifffile.imwrite(root / "test/vesicles/s4.tif", np.full((48, 64), 0.5, np.float32))
    with pytest.raises(BenchError, match=r"mask test/vesicles/s4.tif must hold whole numbers"):
        write_prepared(read_tree(root), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


def test_structure_without_foreground(make_tree, read_tree, tmp_path):
    root = make_tree()
    empty = np.zeros((48, 64), np.uint8)
    for path in (root / "train/vesicles").iterdir():
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), empty)
    with pytest.raises(BenchError, match="vesicles must have foreground in train"):
        write_prepared(read_tree(root), tmp_path / "out")
    dataset = write_prepared(read_tree(root, structures="mito"), tmp_path / "out")
    assert dataset.structures == ("mitochondria",)


def test_no_space(make_tree, read_tree, tmp_path):
    with pytest.raises(
        BenchError, match=r"must have space for about 10+ bytes, received \d+ bytes"
    ):
        check_space(tmp_path, 10**18)
    tree = read_tree(make_tree())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stops a write midway, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(BenchError, match=r"have space for about \d+ bytes, received File too"):
            write_prepared(tree, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


def test_output_that_cannot_be_made(make_tree, read_tree, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="must be a folder that can be written"):
        write_prepared(read_tree(make_tree()), tmp_path / "file" / "out")


def test_output_without_permission(make_tree, read_tree, public_folder, as_ordinary_user):
    root = shutil.copytree(make_tree(), public_folder / "input")
    # Else an ordinary user who runs the tests may write into it.
    public_folder.chmod(0o555)
    with as_ordinary_user(), pytest.raises(BenchError, match=r"can be written, .*Permission"):
        write_prepared(read_tree(root), public_folder / "out")


def test_killed_at_any_moment_or_raced_it_is_whole(make_tree, tmp_path):
    few = {"train": 1, "val": 1}
    sources = [
        make_tree("a", structures=("mitochondria",), splits=few),
        make_tree("b", structures=("mitochondria",), splits=few, seed=50),
    ]
    script = Path(__file__).with_name("crash_writing.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(
        [sys.executable, script, *sources, tmp_path / "outputs"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_only_leftovers_of_ended_processes_go(make_tree, read_tree, tmp_path):
    host = socket.gethostname()
    # A container that starts again has the process id of the one that was killed: its own.
    gone = [f".out.partial-{pid}" for pid in (DEAD_PID, f"{DEAD_PID}-0a-{host}", os.getpid())]
    kept = [f".out.partial-{os.getppid()}-0a-{host}", f".out.partial-{DEAD_PID}-0a-elsewhere"]
    for name in [*gone, *kept]:
        (tmp_path / name / "sections").mkdir(parents=True)
    write_prepared(read_tree(make_tree()), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "input", "out"])


def test_where_the_system_cannot_swap(make_tree, read_tree, tmp_path, monkeypatch):
    output = tmp_path / "out"
    old = write_prepared(read_tree(make_tree("a")), output)
    monkeypatch.setattr(folders, "exchange", lambda *folders: False)
    new = write_prepared(read_tree(make_tree("b", seed=100)), output, overwrite=True)
    new.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]
    # A kill between the two renames: the dataset is aside, and the next start puts it back.
    output.rename(tmp_path / f".out.previous-{DEAD_PID}")
    with pytest.raises(BenchError, match="overwrite=true"):
        write_prepared(read_tree(tmp_path / "a"), output)
    assert PreparedDataset.open(output).content_hash == new.content_hash != old.content_hash
