import csv
import hashlib
import json
import time

import mrcfile
import numpy as np
import pytest

from bench.config.data import PhantomConfig, PrepareConfig
from bench.errors import BenchError
from bench.ingest.annotations.annotations import read_annotation
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.images.mrc import read_geometry
from bench.ingest.inputs import read_input
from bench.phantom.write import write_phantom

SETTINGS = {"domain": "tomogram", "tomograms": 1, "planes": 32, "size_px": 128, "seed": 4}
SHAPE = (32, 128, 128)
SPLITS = ("train", "val", "test")
STRUCTURES = ("vesicles", "mitochondria", "active_zone")


def configure(output, **settings):
    return PhantomConfig(output=str(output), **{**SETTINGS, **settings})


def hash_files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def truth_of(folder, split):
    with (folder / "truth.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(configure(tmp_path_factory.mktemp("tomograms") / "data"))


def test_the_tree_is_the_one_that_is_promised(phantom):
    volumes = [f"{split}/{kind}/tomo1.mrc" for split in SPLITS for kind in ("raw", *STRUCTURES)]
    models = [f"models/{split}/tomo1.mod" for split in SPLITS]
    assert set(hash_files(phantom)) == {*volumes, *models, "truth.csv", "phantom.json"}


def test_volumes_carry_their_type_size_and_voxel_size(phantom):
    for path in phantom.rglob("*.mrc"):
        with mrcfile.open(path) as file:
            raw = path.parent.name == "raw"
            assert file.data.dtype == (np.int16 if raw else np.uint16)
            assert file.data.shape == SHAPE
            assert [float(file.voxel_size[axis]) for axis in "xyz"] == pytest.approx([22.0] * 3)
            assert file.is_volume()
        assert mrcfile.validate(path)
        geometry = read_geometry(path)
        assert geometry.size == SHAPE[::-1]
        assert geometry.inverted is False


def test_splits_hold_different_tomograms(phantom):
    raw = [mrcfile.read(phantom / split / "raw" / "tomo1.mrc") for split in SPLITS]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(raw[first].ravel(), raw[second].ravel())[0, 1]) < 0.2


def test_the_table_is_about_the_label_volumes(phantom):
    for split in SPLITS:
        ids = mrcfile.read(phantom / split / "vesicles" / "tomo1.mrc")
        rows = truth_of(phantom, split)
        assert [int(row["id"]) for row in rows] == np.unique(ids)[1:].tolist()
        for row in rows:
            assert float(row["radius_nm"]) == pytest.approx(2.2 * float(row["radius"]), abs=1e-3)
            if row["cut"] == "0":
                places = np.argwhere(ids == int(row["id"]))
                centre = [float(row[axis]) for axis in "zyx"]
                assert places.mean(axis=0) == pytest.approx(centre, abs=0.15)
                volume = 4 / 3 * np.pi * float(row["radius"]) ** 3
                assert len(places) == pytest.approx(volume, rel=0.05)
        assert {row["volume"] for row in rows} == {"tomo1"}
        assert {row[flag] for row in rows for flag in ("docked", "touching", "cut")} == {"0", "1"}


def test_models_lie_on_the_labels(phantom):
    for split in SPLITS:
        image = phantom / split / "raw" / "tomo1.mrc"
        annotation = read_annotation(phantom / "models" / split / "tomo1.mod", image)
        assert annotation.warnings == ()
        for structure in ("vesicles", "active_zone"):
            objects = [item for item in annotation.objects if item.kind == structure]
            drawn = np.stack([draw_labels(objects, z, SHAPE[1:]).labels for z in range(SHAPE[0])])
            ids = mrcfile.read(phantom / split / structure / "tomo1.mrc")
            if structure == "active_zone":
                drawn = drawn > 0
            # Single precision of the model decides the side of few voxels.
            assert np.count_nonzero(drawn != ids) <= 3


def test_prepare_takes_raw_and_labels_as_they_are_stored(phantom):
    tree = read_input(PrepareConfig(input=str(phantom)))
    assert set(tree.structures) == set(STRUCTURES)
    assert (tree.pixel_size_nm, tree.section_nm) == (pytest.approx(2.2), pytest.approx(2.2))
    for split in SPLITS:
        sections = [section for section in tree.sections if section.split == split]
        stored = mrcfile.read(phantom / split / "raw" / "tomo1.mrc")
        assert np.array_equal(np.stack([section.raw.read() for section in sections]), stored)
        for structure in STRUCTURES:
            stored = mrcfile.read(phantom / split / structure / "tomo1.mrc")
            read = np.stack([section.labels[structure].read() for section in sections])
            assert np.array_equal(read, stored)


def test_the_same_settings_give_the_same_files_and_are_reused(phantom, tmp_path):
    time.sleep(1.1)  # headers of MRC hold seconds, if they are let
    again = write_phantom(configure(tmp_path / "again", pixel_size_nm=2.2))
    assert hash_files(again) == hash_files(phantom)
    calls = []
    assert write_phantom(configure(again), progress=lambda *done: calls.append(done)) == again
    assert calls == []
    with pytest.raises(BenchError, match="choose another output or delete it"):
        write_phantom(configure(again, noise=0.5))


def test_grey_values_may_be_floats(phantom, tmp_path):
    calls = []
    floats = write_phantom(
        configure(tmp_path / "data", voxel_type="float32"),
        progress=lambda *done: calls.append(done),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    raw = mrcfile.read(floats / "val" / "raw" / "tomo1.mrc")
    assert raw.dtype == np.float32
    whole = mrcfile.read(phantom / "val" / "raw" / "tomo1.mrc")
    assert np.abs(1000 * raw - whole).max() <= 0.51


def test_the_mark_of_sections_is_that_of_earlier_releases(tmp_path):
    settings = {"regions": 1, "sections": 3, "size_px": 128, "montage_px": 128, "seed": 1}
    folder = write_phantom(PhantomConfig(output=str(tmp_path / "data"), **settings))
    assert json.loads((folder / "phantom.json").read_text()) == {
        "version": 1,
        "settings": settings | {"domain": "resin", "pixel_size_nm": 5.0},
    }


def test_settings_of_the_other_kind_are_named(tmp_path, caplog):
    write_phantom(configure(tmp_path / "data", vesicles=3, sections=4, regions=1))
    assert "regions, sections change nothing where domain is tomogram" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_diameter_nm": 50.0}, "min_diameter_nm must be at most max_diameter_nm, received 50"),
        ({"min_diameter_nm": 10.0}, "min_diameter_nm must be 6 voxels or more, 13.2 nm"),
        ({"max_diameter_nm": 80.0}, "received 128 px and 32 planes of 2.2 nm for 80 nm"),
        ({"vesicles": 2000}, "received 2000 of which"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, message, tmp_path):
    with pytest.raises(BenchError, match=message):
        write_phantom(configure(tmp_path / "data", **settings))
    assert list(tmp_path.iterdir()) == []
