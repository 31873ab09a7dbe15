from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.correction.changes import EditCounts
from bench.correction.listing import colour_of_doubt, colours_of, list_balls, list_painted
from bench.correction.session import CHANGE_COLUMNS, Correction
from bench.export.sphere_table import read_spheres
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input


def edit(correction):
    """One removed, one resized, one added by a click two voxels off; a zone painted on."""
    balls = correction.balls["vesicles"]
    balls.remove(2)
    balls.resize(1, 0.5)
    balls.add((27.0, 35.0, 37.0))
    correction.stack.labels["active_zone"][:, 45, 4:40] = 1


def read_back(folder):
    tree = read_input(
        PrepareConfig(input=str(folder), splits="train=0-23;val=24-35;test=36-47", volumes="true")
    )
    numbers = [section.number for section in tree.sections]
    assert sorted(numbers) == numbers
    return tree, {
        key: np.stack([section.images[key].read() for section in tree.sections])
        for key in tree.sections[0].images
    }


def test_a_corrected_volume_is_prepared_as_it_was_saved(stack, truth, tmp_path):
    correction = Correction.begin(stack)
    before = {name: ids.copy() for name, ids in stack.labels.items()}
    edit(correction)
    assert correction.unsaved
    assert correction.counts() == {
        "vesicles": EditCounts(1, 1, 1),
        "active_zone": EditCounts(0, 0, 1),
    }
    correction.write(tmp_path / "out")
    correction.mark_saved()
    assert not correction.unsaved
    # What it began with is left as it is.
    assert all(np.array_equal(stack.labels[name], ids) for name, ids in before.items())
    tree, found = read_back(tmp_path / "out")
    assert (tree.pixel_size_nm, tree.section_nm) == (pytest.approx(2.2), pytest.approx(2.2))
    np.testing.assert_array_equal(found["raw"], stack.raw)
    for name, ids in correction.stack.labels.items():
        np.testing.assert_array_equal(found[f"labels/{name}"], ids)
    rows = {row.id: row for row in read_spheres(tmp_path / "out/spheres.csv")}
    assert [key for key, row in rows.items() if row.kept] == [1, 4, 10]
    assert (rows[2].reason, rows[9].reason) == ("removed by hand", "outlier")
    added, vesicle = rows[10], truth[3]
    assert added.status == "added"
    assert np.linalg.norm(np.subtract(added.centre, vesicle.centre)) < 0.4
    assert added.radius_nm == pytest.approx(2.2 * added.radius)
    assert rows[1].radius == 9.7
    painted = found["labels/vesicles"] == 10
    assert 2 * np.count_nonzero(painted) == pytest.approx(
        2 * 4 / 3 * np.pi * added.radius**3, rel=0.05
    )
    # And what is corrected once is corrected again.
    again = Correction.begin(
        replace(stack, labels=correction.stack.labels, spheres={"vesicles": list(rows.values())})
    )
    assert set(again.balls["vesicles"].rows) == {1, 4, 10}
    assert again.balls["vesicles"].rows[10] == added


@pytest.mark.parametrize("how", ["bottom_first", "origin"])
def test_a_volume_from_an_mrc_goes_back_into_one(stack, how, tmp_path):
    """Rows as they are stored there, with its origin; the table of spheres counts them alike."""
    origin = (1.5, -20.0, 30.25) if how == "origin" else None
    correction = Correction.begin(
        replace(stack, origin_nm=origin), bottom_first=how == "bottom_first"
    )
    edit(correction)
    correction.write(tmp_path)
    with mrcfile.open(tmp_path / "raw/tomo.mrc") as file:
        np.testing.assert_array_equal(file.data[:, ::-1], stack.raw)
        assert file.voxel_size.tolist() == pytest.approx((22, 22, 22), rel=1e-6)
        if origin:
            assert float(file.header.origin.z) == pytest.approx(15)
            assert float(file.header.origin.y) == pytest.approx(-200)
    with mrcfile.open(tmp_path / "vesicles/tomo.mrc") as file:
        labels = file.data.copy()
    np.testing.assert_array_equal(labels[:, ::-1], correction.stack.labels["vesicles"])
    for row in read_spheres(tmp_path / "spheres.csv"):
        if row.kept:
            z, y, x = (round(value) for value in row.centre)
            assert labels[z, y, x] == row.id
    _, found = read_back(tmp_path)
    np.testing.assert_array_equal(found["labels/vesicles"], labels)
    np.testing.assert_array_equal(found["raw"][:, ::-1], stack.raw)


def test_a_type_that_mrc_has_not_goes_into_tiff(stack, tmp_path):
    raw = np.clip(128 + 30 * stack.raw, 0, 255).astype(np.uint8)
    correction = Correction.begin(replace(stack, raw=raw), bottom_first=True)
    correction.write(tmp_path)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "raw/tomo.tif"), raw)
    _, found = read_back(tmp_path)
    np.testing.assert_array_equal(found["raw"], raw)
    np.testing.assert_array_equal(found["labels/vesicles"], correction.stack.labels["vesicles"])


def test_sections_are_painted_in(tmp_path):
    labels = np.zeros((2, 30, 40), np.uint8)
    labels[0, 3:9, 3:9] = 1
    labels[1, 3:9, 20:29] = 2
    raw = np.random.default_rng(0).integers(0, 255, labels.shape, dtype=np.uint8)
    stack = make_stack({"vesicles": labels}, raw=raw, names=("a", "b"), pixel_size_nm=5.0)
    correction = Correction.begin(stack)
    assert not correction.balls
    painted = correction.stack.labels["vesicles"]
    painted[correction.painted["vesicles"].find_pixels(1)] = 0
    painted[1, 20:25, 3:9] = 3
    assert correction.counts() == {"vesicles": EditCounts(added=1, removed=1)}
    correction.write(tmp_path)
    tree = read_input(PrepareConfig(input=str(tmp_path), splits="train=0;val=1"))
    assert [section.stem for section in tree.sections] == ["a", "b"]
    found = np.stack([section.labels["vesicles"].read() for section in tree.sections])
    np.testing.assert_array_equal(found, painted)
    assert not (tmp_path / "spheres.csv").exists()


def test_every_change_is_a_row(stack):
    correction = Correction.begin(stack)
    edit(correction)
    rows = {(row["structure"], row["id"]): row for row in correction.list_changes()}
    assert {key: row["change"] for key, row in rows.items()} == {
        ("vesicles", 1): "changed",
        ("vesicles", 2): "removed",
        ("vesicles", 10): "added",
        ("active_zone", 1): "changed",
    }
    resized = rows["vesicles", 1]
    assert (resized["radius_before"], resized["radius_after"]) == (9.2, 9.7)
    assert rows["vesicles", 2]["p"] == 0.001
    assert rows["active_zone", 1]["pixels_after"] == 2 * rows["active_zone", 1]["pixels_before"]
    assert all(set(row) <= set(CHANGE_COLUMNS) for row in rows.values())


def test_the_list_has_the_doubtful_on_top(stack):
    correction = Correction.begin(stack)
    edits = correction.balls["vesicles"]
    listed = list_balls(edits)
    assert [item.key for item in listed] == [2, 4, 1, 9]
    assert [item.there for item in listed] == [True, True, True, False]
    assert listed[0].cells == ("2", "0.001", "17.6 nm", "33", "")
    assert listed[1].cells[-1] == "shrunk"
    assert listed[3].cells == ("9", "0.002", "11.0 nm", "8", "removed: outlier")
    edits.remove(4)
    assert list_balls(edits)[-2].cells[-1] == "removed: by hand"
    added = edits.add((28, 36, 36))
    assert list_balls(edits)[2].key == added
    colours = colours_of(edits)
    assert set(colours) == {1, 2, added}
    red, green, _, _ = colours[2]
    assert red == 1
    assert green < 0.7
    (zone,) = list_painted(correction.painted["active_zone"])
    assert (zone.cells, zone.radius) == (("1", str(48 * 36), "0"), 0)


def test_red_is_doubtful_and_green_is_not():
    reds, greens = zip(
        *(colour_of_doubt(p)[:2] for p in (0, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1)), strict=True
    )
    assert list(reds) == sorted(reds, reverse=True)
    assert list(greens) == sorted(greens)
    assert (reds[0], greens[0], reds[-1], greens[-1]) == (1, 0, 0, 1)
    assert len({colour_of_doubt(0.5), colour_of_doubt(float("nan")),
                colour_of_doubt(0.5, "added, not fitted")}) == 3  # fmt: skip
