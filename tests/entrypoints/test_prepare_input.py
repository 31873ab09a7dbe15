"""Input that cannot be prepared: one line, status 2, and nothing is written."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile


def change(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def empty(tree: Path) -> None:
    for path in sorted(tree.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def no_mask(tree: Path) -> None:
    (tree / "train/mitochondria/s1.png").unlink()


def no_raw(tree: Path) -> None:
    (tree / "train/raw/s1.png").unlink()


def other_size(tree: Path) -> None:
    change(tree / "val/vesicles/s3.png", np.zeros((64, 63), np.uint8))


def colour(tree: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    change(tree / "train/raw/s0.png", pixels)


def only_background(tree: Path) -> None:
    for path in (tree / "train/vesicles").iterdir():
        change(path, np.zeros((64, 64), np.uint8))


def strange_structure(tree: Path) -> None:
    (tree / "val/vesicles").rename(tree / "val/cell (1)")


def not_a_number(tree: Path) -> None:
    (tree / "train/raw/s0.png").unlink()
    pixels = np.random.default_rng(0).random((64, 64), np.float32)
    pixels[3, 4] = np.nan
    tifffile.imwrite(tree / "train/raw/s0.tif", pixels)


def truncated(tree: Path) -> None:
    path = tree / "train/raw/s2.png"
    path.write_bytes(path.read_bytes()[:200])


def not_an_image(tree: Path) -> None:
    (tree / "train/raw/s2.png").write_text("hello")


def no_validation(tree: Path) -> None:
    (tree / "val").rename(tree.parent / "aside")


def empty_validation(tree: Path) -> None:
    for path in (tree / "val").rglob("*.png"):
        path.unlink()


def in_two_splits(tree: Path) -> None:
    source, target = tree / "train/raw/s0.png", tree / "test/raw/s5.png"
    target.write_bytes(source.read_bytes())


def fractions(tree: Path) -> None:
    (tree / "train/vesicles/s0.png").unlink()
    tifffile.imwrite(tree / "train/vesicles/s0.tif", np.full((64, 64), 0.5, np.float32))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, "must hold folders {train,val,test}/{raw,<structure>...}"),
        (no_mask, "train/mitochondria, received no mask for s1"),
        (no_raw, "received no raw image for s1"),
        (other_size, "val/vesicles/s3.png must have the size of val/raw/s3.png, 64 x 64 px"),
        (colour, "train/raw/s0.png must be grey, received 3 colour channels that differ"),
        (only_background, "masks of vesicles must have foreground in train"),
        (strange_structure, "must be named after a structure: a structure's name must be a letter"),
        (not_a_number, "s0.tif must hold finite numbers, received NaN or infinity in 1 px"),
        (truncated, "s2.png must be a whole PNG or TIFF file"),
        (not_an_image, "s2.png must be a whole PNG or TIFF file"),
        (no_validation, "splits train and val must have sections, received none for val"),
        (empty_validation, "val/raw must hold raw images, received none"),
        (in_two_splits, "splits must share no image, received the same pixels in train/raw/s0.png"),
        (fractions, "s0.tif must hold whole numbers, received 0.5"),
    ],
)
def test_images_that_cannot_be_used(run_entry_point, store, write_tree, tmp_path, spoil, message):
    tree = write_tree(tmp_path / "tree")
    spoil(tree)
    output = tmp_path / "out" / "prepared"
    check_refused(run_entry_point, store, message, "--input", str(tree), "--output", str(output))
    assert not output.exists()
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--structures", "membrane"], "membrane"),
        (["--structures", "nucleus"], "class for nucleus, received the classes 'mitochondria', 'v"),
        (["--splits", "train=0-2;val=99"], "sections are numbered 0 to 7"),
        (["--splits", "train=0-2"], "received none for val"),
        (["--splits", "train=0;val=0"], "a section must be in one split, received section 0"),
        (["--pixel_size_nm", "0"], "pixel_size_nm must be at least 0.01, received 0"),
        (["--input", "no/such/folder"], "input no/such/folder must be a folder"),
    ],
)
def test_settings_that_do_not_fit(run_entry_point, store, tiny_tree, tmp_path, options, message):
    output = tmp_path / "out"
    arguments = ["--input", str(tiny_tree), "--output", str(output), *options]
    check_refused(run_entry_point, store, message, *arguments)
    assert not output.exists()


@pytest.mark.parametrize("content", ["notes.txt", "manifest.json"])
def test_a_folder_of_the_user_is_left_alone(run_entry_point, store, tiny_tree, tmp_path, content):
    output = tmp_path / "thesis"
    output.mkdir()
    (output / content).write_text('{"precious": true}')
    arguments = ["--input", str(tiny_tree), "--output", str(output), "--overwrite", "true"]
    check_refused(run_entry_point, store, "which exists and is left alone", *arguments)
    assert [path.name for path in output.iterdir()] == [content]
    assert (output / content).read_text() == '{"precious": true}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "thesis"]


def test_a_dataset_of_other_content_is_replaced_only_when_told(
    run_entry_point, store, tiny_tree, write_tree, tmp_path
):
    output = tmp_path / "prepared"
    first = ["--input", str(tiny_tree), "--output", str(output)]
    assert run_entry_point("prepare", *first)[0] == 0
    before = (output / "manifest.json").read_text()
    other = write_tree(tmp_path / "other", {"train": 1, "val": 1})
    second = ["--input", str(other), "--output", str(output)]
    status, written = run_entry_point("prepare", *second)
    assert (status, "give -P overwrite=true" in written) == (2, True)
    assert (output / "manifest.json").read_text() == before
    assert run_entry_point("prepare", *second, "--overwrite", "true")[0] == 0
    assert (output / "manifest.json").read_text() != before


def check_refused(run_entry_point, store, message, *arguments):
    status, written = run_entry_point("prepare", *arguments)
    assert status == 2
    (line,) = written.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert store.client.search_runs([store.experiment_id]) == []
