"""Sections added to a prepared dataset: its judged sections stay, whatever comes."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.adding.adding import add_to_dataset
from bench.ingest.inputs import read_input
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.writing import write_prepared


@pytest.fixture
def dataset(make_tree, read_tree, tmp_path):
    return write_prepared(read_tree(make_tree(), pixel_size_nm=5.0), tmp_path / "dataset")


@pytest.fixture
def add(dataset, tmp_path):
    """Reads a folder as sections of 5 nm and adds them to the dataset, in another folder."""

    def run(folder, **settings):
        output = tmp_path / settings.pop("output", "version2")
        base = PreparedDataset.open(settings.pop("add_to", dataset.root))
        given = {"input": str(folder), "add_to": str(base.root), "pixel_size_nm": 5.0} | settings
        return write_prepared(add_to_dataset(read_input(PrepareConfig(**given)), base), output)

    return run


def entry_of(dataset, name):
    return {key: value for key, value in dataset.find(name).items() if key != "file"}


def rewrite(folder, change):
    """Changes the pixels of every PNG of a folder."""
    for path in folder.glob("*.png"):
        pixels = change(imagecodecs.png_decode(path.read_bytes()))
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def test_what_is_added_trains_and_what_was_there_stays(dataset, make_tree, add):
    new = add(make_tree("new", splits={"": 2}, seed=100))
    new.verify()
    added = ("train-s0_2", "train-s1_2")
    assert new.sections("train") == (*dataset.sections("train"), *added)
    for split in ("val", "test"):
        assert new.sections(split) == dataset.sections(split)
    for entry in dataset.entries:
        assert entry_of(new, entry["name"]) == entry_of(dataset, entry["name"])
        old_file, new_file = (one.root / entry["file"] for one in (dataset, new))
        assert old_file.read_bytes() == new_file.read_bytes()
    assert new.content_hash != dataset.content_hash
    step = {"to": dataset.content_hash, "sections": list(added), "annotated_anew": []}
    assert new.manifest["additions"] == [step]
    assert new.instances("train", "vesicles") == dataset.instances("train", "vesicles") + 4
    assert new.instances("test", "vesicles") == dataset.instances("test", "vesicles")


def test_a_version_of_a_version_knows_both(dataset, make_tree, add):
    second = add(make_tree("new", splits={"": 1}, seed=100))
    third = add(make_tree("newer", splits={"": 1}, seed=200), add_to=second.root, output="version3")
    assert [step["to"] for step in third.manifest["additions"]] == [
        dataset.content_hash,
        second.content_hash,
    ]
    assert third.sections("train")[-2:] == ("train-s0_2", "train-s0_3")


def test_nothing_new_is_the_same_dataset(dataset, make_tree, add):
    """The training sections once more, under their names and with their annotation."""
    again = add(make_tree("again", splits={"": 3}))
    assert again.content_hash == dataset.content_hash
    assert again.manifest["additions"][0]["annotated_anew"] == list(dataset.sections("train"))


@pytest.mark.parametrize("turned", [False, True])
def test_a_training_section_is_annotated_anew(dataset, make_tree, add, turned):
    """Under another name and with rows from the other end, as an exported MRC has them."""
    tree = make_tree("again", splits={"": 1})
    rewrite(tree / "vesicles", lambda mask: np.where(np.arange(48)[:, None] < 18, mask, 0))
    if turned:
        for kind in ("raw", "vesicles", "mitochondria"):
            rewrite(tree / kind, lambda pixels: pixels[::-1])
    for path in tree.glob("*/s0.png"):
        path.rename(path.with_name("corrected.png"))
    new = add(tree)
    assert new.sections("train") == dataset.sections("train")
    old = dataset.read_labels("train-s0", "vesicles")
    found = new.read_labels("train-s0", "vesicles")
    np.testing.assert_array_equal(found > 0, (old > 0) & (np.arange(48)[:, None] < 18))
    np.testing.assert_array_equal(new.read_raw("train-s0"), dataset.read_raw("train-s0"))
    assert new.manifest["additions"][0]["annotated_anew"] == ["train-s0"]


@pytest.mark.parametrize(("number", "name"), [(3, "val-s3"), (4, "test-s4")])
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_judged_section_is_refused(dataset, make_tree, add, tmp_path, number, name, part, turned):
    tree = make_tree("seen", splits={"": 1}, seed=number)

    def change(pixels):
        pixels = pixels[::-1] if turned else pixels
        return pixels[2:40, 3:60] if part else pixels

    for folder in tree.iterdir():
        rewrite(folder, change)
    what = "has pixels of" if part else "is"
    with pytest.raises(BenchError, match=rf"received raw/s0.png, which {what} {name}: leave it ou"):
        add(tree)
    assert not (tmp_path / "version2").exists()


def test_a_part_of_a_training_section_is_said(make_tree, add):
    tree = make_tree("part", splits={"": 1})
    for folder in tree.iterdir():
        rewrite(folder, lambda pixels: pixels[:40, 3:60])
    warnings = add(tree).manifest["warnings"]
    assert any("share pixels with training sections" in line for line in warnings)
    assert any("s0_2 / train-s0" in line or "s0 / train-s0" in line for line in warnings)


def test_the_user_may_place_what_is_new_but_not_what_is_old(dataset, make_tree, add):
    new = add(make_tree("new", splits={"": 3}, seed=100), splits="train=0;test=1")
    assert new.sections("test") == (*dataset.sections("test"), "test-s1")
    assert new.sections("train") == (*dataset.sections("train"), "train-s0_2")
    assert any("1 sections are in no split: s2" in line for line in new.manifest["warnings"])
    with pytest.raises(BenchError, match=r"received raw/s0\.png, which is train-s0: add it to tr"):
        add(make_tree("old", splits={"": 1}), splits="test=0")


def test_folders_of_splits_are_kept(dataset, make_tree, add):
    new = add(make_tree("new", splits={"train": 1, "val": 1}, seed=100))
    assert new.sections("val") == (*dataset.sections("val"), "val-s1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_size_nm": 4.0}, r"pixel size of .*dataset, 5 nm, received 4 nm: resample them"),
        ({"pixel_size_nm": None}, r"received files that state none: give -P pixel_size_nm=5 if"),
        ({"structures": "vesicles"}, r"annotated for mitochondria as those of .* no masks of it f"),
    ],
)
def test_what_does_not_fit_is_one_line(make_tree, add, settings, message):
    with pytest.raises(BenchError, match=message) as raised:
        add(make_tree("new", splits={"": 1}, seed=100), **settings)
    assert "\n" not in str(raised.value)


def test_a_structure_of_the_new_ones_alone_is_left_out(dataset, make_tree, add):
    structures = ("mitochondria", "vesicles", "nucleus")
    new = add(make_tree("new", structures, splits={"": 1}, seed=100))
    assert new.structures == dataset.structures
    assert (
        "nucleus: left out, because the dataset has no such structure" in new.manifest["warnings"]
    )


def test_an_image_is_added_once(make_tree, add):
    tree = make_tree("twice", splits={"": 1})
    for path in list(tree.glob("*/s0.png")):
        path.with_name("s9.png").write_bytes(path.read_bytes())
    with pytest.raises(BenchError, match=r"added once, received several of train-s0: remove all"):
        add(tree)


def test_warnings_of_counts_are_counted_anew(make_tree, read_tree, add, tmp_path):
    tree = make_tree("large")
    for path in (tree / "train/vesicles").glob("s0.png"):
        mask = np.zeros((48, 64), np.uint8)
        mask[1:40, 1:62] = 255
        path.write_bytes(imagecodecs.png_encode(mask))
    old = write_prepared(read_tree(tree, pixel_size_nm=5.0), tmp_path / "old")
    counted = [line for line in old.manifest["warnings"] if "instances are larger" in line]
    new = add(make_tree("new", splits={"": 1}, seed=100), add_to=old.root)
    anew = [line for line in new.manifest["warnings"] if "instances are larger" in line]
    assert len(counted) == len(anew) == 1
    assert counted != anew


def test_the_check_is_of_what_is_new(dataset, make_tree, read_tree):
    """No word on splits that it lacks, nor on what the dataset said before."""
    manifest = dataset.manifest | {"warnings": ["said before"]}
    new = make_tree("new", splits={"": 2}, seed=100)
    tree = read_tree(new, add_to=str(dataset.root), pixel_size_nm=5.0)
    report = inspect_tree(add_to_dataset(tree, PreparedDataset(dataset.root, manifest)))
    assert {section.name for section in report.sections} == {"train-s0_2", "train-s1_2"}
    found = {finding.fact for finding in report.findings}
    assert not any("splits train and val" in text or "said before" in text for text in found)


def test_a_damaged_dataset_takes_nothing(dataset, make_tree, add):
    entry = dataset.find("test-s4")
    (dataset.root / entry["file"]).write_bytes(b"torn")
    with pytest.raises(BenchError, match="must be as prepare wrote it"):
        add(make_tree("new", splits={"": 1}, seed=100))


def test_the_output_may_be_the_dataset_itself(dataset, make_tree, read_tree, tmp_path):
    tree = read_tree(
        make_tree("new", splits={"": 1}, seed=100), add_to=str(dataset.root), pixel_size_nm=5.0
    )
    tree = add_to_dataset(tree, dataset)
    with pytest.raises(BenchError, match=r"must be free or hold the same content"):
        write_prepared(tree, dataset.root)
    new = write_prepared(tree, dataset.root, overwrite=True)
    new.verify()
    assert len(new.sections("train")) == 4
    with pytest.raises(BenchError, match="output must lie outside of input"):
        write_prepared(tree, dataset.root / "sections" / "new")


def test_sections_of_a_stack_without_splits(dataset, add, tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    raw = np.random.default_rng(7).integers(0, 255, (2, 48, 64)).astype(np.uint8)
    mask = np.zeros(raw.shape, np.uint8)
    mask[:, 4:14, 4:14], mask[:, 20:30, 30:40] = 1, 2
    for name, pixels in (("a", raw), ("a_mitochondria", mask), ("a_vesicles", mask)):
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack")
    assert add(folder).sections("train")[-2:] == ("train-a_z00", "train-a_z01")
