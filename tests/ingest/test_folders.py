import shutil
import unicodedata

import numpy as np
import pytest
import tifffile

from bench.errors import BenchError
from bench.ingest.sources import source_hashes


def test_sections_pair_by_stem(make_tree, read_tree):
    root = make_tree(structures=("mito", "SV"))
    tree = read_tree(root)
    assert [s.name for s in tree.sections] == [
        "train-s0",
        "train-s1",
        "train-s2",
        "val-s3",
        "test-s4",
    ]
    assert tree.structures == ("vesicles", "mitochondria")
    assert tree.sections[1].raw.file == "train/raw/s1.png"
    assert tree.sections[1].labels["mitochondria"].file == "train/mito/s1.png"
    assert tree.splits_rule == "folders"
    assert tree.pixel_size_nm is None


def test_endings_may_differ(make_tree, read_tree):
    root = make_tree()
    (root / "train/raw/s0.png").unlink()
    tifffile.imwrite(
        root / "train/raw/s0.TIFF", np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    )
    assert read_tree(root).sections[0].raw.file == "train/raw/s0.TIFF"


def test_names_pair_in_both_forms_of_unicode(make_tree, read_tree):
    root = make_tree()
    composed, apart = (unicodedata.normalize(f, "Pr\u00e4parat 1.png") for f in ("NFC", "NFD"))
    (root / "train/raw/s0.png").rename(root / "train/raw" / apart)
    (root / "train/vesicles/s0.png").rename(root / "train/vesicles" / composed)
    (root / "train/mitochondria/s0.png").rename(root / "train/mitochondria" / apart)
    section = read_tree(root).sections[0]
    assert section.raw.file == f"train/raw/{apart}"
    assert section.labels["vesicles"].file == f"train/vesicles/{composed}"
    shutil.copy(root / "train/raw" / apart, root / "train/raw" / composed)
    with pytest.raises(BenchError, match="must hold one file per name"):
        read_tree(root)


def test_what_is_beside_the_data_is_ignored(make_tree, read_tree):
    root = make_tree()
    for name in ("montages", ".hidden", "__MACOSX"):
        (root / name).mkdir()
        (root / "train" / name).mkdir()
    for name in ("project.xml", "phantom.json", ".DS_Store"):
        (root / name).touch()
    for name in (".DS_Store", "Thumbs.db", "._s0.png"):
        (root / "train/raw" / name).touch()
    assert len(read_tree(root).sections) == 5


def test_only_the_structures_asked_for(make_tree, read_tree):
    root = make_tree()
    shutil.rmtree(root / "val/vesicles")
    assert read_tree(root, structures="mito").structures == ("mitochondria",)


def test_folders_of_any_name_are_structures(make_tree, read_tree):
    root = make_tree(structures=("SV", "ribbon", "Synaptic cleft", "PSD-95"))
    tree = read_tree(root)
    assert tree.structures == ("vesicles", "psd_95", "ribbon", "synaptic_cleft")
    labels = tree.sections[0].labels
    assert labels["synaptic_cleft"].file == "train/Synaptic cleft/s0.png"
    assert not any("structure of its own" in warning for warning in tree.warnings)
    assert read_tree(root, structures="Ribbon,psd 95").structures == ("psd_95", "ribbon")
    mapped = read_tree(root, structures="syn*=cleft,psd*=psd")
    assert mapped.structures == ("cleft", "psd")
    with pytest.raises(BenchError, match=r"class for ribon, .* \(did you mean ribbon\?\)"):
        read_tree(root, structures="ribon")


def test_two_spellings_of_a_name_are_one_structure(make_tree, read_tree):
    root = make_tree(structures=("synaptic cleft", "synaptic_cleft"))
    with pytest.raises(BenchError, match="must hold one folder of synaptic_cleft, received"):
        read_tree(root)


def test_a_slip_in_the_name_of_a_folder_is_said(make_tree, read_tree):
    tree = read_tree(make_tree(structures=("vesicels", "ribbon")))
    assert tree.structures == ("ribbon", "vesicels")
    (slip,) = [warning for warning in tree.warnings if "structure of its own" in warning]
    assert slip.startswith("folder vesicels is a structure of its own: if vesicles is meant")
    assert slip.endswith("-P structures=all,vesicels=vesicles")


def test_sections_of_stacks(tmp_path, read_tree):
    root = tmp_path / "input"
    for folder in ("raw", "membrane"):
        (root / folder).mkdir(parents=True)
        stack = np.random.default_rng(0).integers(0, 2, (11, 8, 9), dtype=np.uint8)
        tifffile.imwrite(root / folder / "a.tif", stack, photometric="minisblack")
    tree = read_tree(root, splits="train=0-8;val=9,10")
    assert [s.name for s in tree.sections[:2]] == ["train-a_z00", "train-a_z01"]
    assert tree.sections[-1].name == "val-a_z10"
    assert tree.sections[-1].raw.page == tree.sections[-1].labels["membrane"].page == 10
    tifffile.imwrite(root / "membrane/a.tif", stack[:5], photometric="minisblack")
    with pytest.raises(BenchError, match=r"raw/a.tif, 8 x 9 .* in 11 sections, received .* in 5"):
        read_tree(root, splits="train=0-8;val=9,10")


def test_hashes_are_of_every_file(make_tree, read_tree):
    tree = read_tree(make_tree())
    hashes = source_hashes(tree)
    assert len(hashes) == 15
    assert hashes["train/raw/s0.png"] != hashes["train/raw/s1.png"]
    assert hashes["train/vesicles/s0.png"] == hashes["val/vesicles/s3.png"]


def small(path):
    tifffile.imwrite(path.with_suffix(".tif"), np.ones((40, 64), np.uint8))
    path.unlink()


BROKEN = {
    "no input": (lambda root: shutil.rmtree(root), "must be a folder .*nothing there: correct"),
    "empty input": (
        lambda root: [shutil.rmtree(p) for p in root.iterdir()],
        "must hold folders .*received none",
    ),
    "no val": (lambda root: shutil.rmtree(root / "val"), "received none for val: add a folder"),
    "no raw": (lambda root: shutil.rmtree(root / "val/raw"), "a folder raw beside .*mitochondria"),
    "raw only": (
        lambda root: [shutil.rmtree(p) for p in root.glob("*/[mv]*")],
        "a folder of masks for a structure",
    ),
    "empty raw": (
        lambda root: [p.unlink() for p in (root / "val/raw").iterdir()],
        "val/raw must hold raw images, received none",
    ),
    "no mask": (
        lambda root: (root / "train/vesicles/s1.png").unlink(),
        "train/vesicles, received no mask for s1: add the files",
    ),
    "no raw image": (
        lambda root: [(root / f"train/raw/s{i}.png").unlink() for i in (0, 2)],
        "no raw image for s0, s2: add",
    ),
    "names differ": (
        lambda root: (root / "val/vesicles/s3.png").rename(root / "val/vesicles/s3_mask.png"),
        "no mask for s3 and no raw image for s3_mask",
    ),
    "size": (
        lambda root: small(root / "val/vesicles/s3.png"),
        r"val/vesicles/s3.tif must have the size of val/raw/s3.png, 48 x 64 .* 40 x 64",
    ),
    "folder without masks": (
        lambda root: (root / "train/golgi").mkdir(),
        "train/golgi must hold masks, received none: add or remove it",
    ),
    "no name of a structure": (
        lambda root: (root / "train/labels").mkdir(),
        "train/labels must be named after a structure: .*-P 'structures=all,labels=vesicles'",
    ),
    "structure of another name in train only": (
        lambda root: shutil.copytree(root / "train/vesicles", root / "train/ribbon"),
        "every section of val must have a mask of ribbon, received none for s3",
    ),
    "alias twice": (
        lambda root: (root / "train/mito").mkdir(),
        "received mito and mitochondria: remove",
    ),
    "unknown split": (lambda root: (root / "training").mkdir(), "none but .*received training"),
    "raw beside splits": (lambda root: (root / "raw").mkdir(), "none but .*received raw"),
    "two files": (
        lambda root: shutil.copy(root / "val/raw/s3.png", root / "val/raw/s3.tif"),
        r"one file per name, received s3.png and s3.tif",
    ),
    "other file": (
        lambda root: (root / "val/raw/s4.gif").touch(),
        "known formats .* only, received s4.gif: convert",
    ),
    "corrupt": (
        lambda root: (root / "val/raw/s3.png").write_bytes(b"nothing"),
        "val/raw/s3.png must be a whole PNG",
    ),
    "structure in train only": (
        lambda root: shutil.rmtree(root / "val/vesicles"),
        "every section of val must have a mask of vesicles, received none for s3",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tree_is_an_error_of_one_line(make_tree, read_tree, case):
    damage, message = BROKEN[case]
    root = make_tree()
    damage(root)
    with pytest.raises(BenchError, match=message) as caught:
        read_tree(root)
    assert "\n" not in str(caught.value)


def test_folder_that_may_not_be_read(make_tree, read_tree, public_folder, as_ordinary_user):
    root = shutil.copytree(make_tree(), public_folder / "input")
    (root / "val/raw").chmod(0)
    with as_ordinary_user(), pytest.raises(BenchError, match="val/raw must be readable, received"):
        read_tree(root)


def test_long_lists_are_shortened(make_tree, read_tree):
    root = make_tree(splits={"train": 12, "val": 1})
    for path in (root / "train/vesicles").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(BenchError, match=r"for s0, s1, s2 and 9 more and .* xs0, xs1, xs2 and 9"):
        read_tree(root)


def test_structure_asked_for_must_be_there(make_tree, read_tree):
    with pytest.raises(BenchError, match="class for membrane, received the classes 'mitochondria'"):
        read_tree(make_tree(), structures="mito,membrane")


def test_test_split_may_be_absent_or_lack_a_structure(make_tree, read_tree):
    root = make_tree()
    shutil.rmtree(root / "test/vesicles")
    assert any("vesicles is not annotated in test" in line for line in read_tree(root).warnings)
    shutil.rmtree(root / "test")
    assert any("no test split" in line for line in read_tree(root).warnings)


def set_size(path, size_nm):
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64), dtype=np.uint8)
    path.unlink(missing_ok=True)
    options = {"resolution": (1e7 / size_nm,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path.with_suffix(".tif"), pixels, **(options if size_nm else {}))


def test_pixel_size_of_the_files(make_tree, read_tree):
    root = make_tree()
    for path in list(root.glob("*/raw/*.png")):
        set_size(path, 1.35)
    assert read_tree(root).pixel_size_nm == 1.35
    assert read_tree(root, pixel_size_nm=1.35).warnings == ()
    assert any("5 files state another" in w for w in read_tree(root, pixel_size_nm=2.0).warnings)
    set_size(root / "val/vesicles/s3.png", 2.7)
    with pytest.raises(BenchError, match=r"1\.35 nm in .* and 2\.7 nm in val/vesicles/s3.tif"):
        read_tree(root)
    assert read_tree(root, pixel_size_nm=5.0).pixel_size_nm == 5.0


def test_pixel_size_that_some_raw_images_lack_is_unknown(make_tree, read_tree):
    root = make_tree()
    set_size(root / "train/raw/s0.png", 5.0)
    tree = read_tree(root)
    assert tree.pixel_size_nm is None
    assert any("4 of 5 raw images state none" in line for line in tree.warnings)


def test_pixels_that_are_not_square_are_an_error(make_tree, read_tree):
    root = make_tree()
    raw = np.random.default_rng(1).integers(0, 255, (48, 64), dtype=np.uint8)
    for path in list(root.glob("*/raw/*.png")):
        path.unlink()
        tifffile.imwrite(
            path.with_suffix(".tif"), raw, resolution=(2e6, 1e6), resolutionunit="CENTIMETER"
        )
    with pytest.raises(BenchError, match="must be square, received 10 x 5 nm"):
        read_tree(root)
    assert read_tree(root, pixel_size_nm=5.0).pixel_size_nm == 5.0
