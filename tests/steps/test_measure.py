import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.config.measuring import MeasureConfig
from bench.config.running import SegmentConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.export.image_files import ImageGeometry, write_image_file
from bench.metrics.instances import match_instances
from bench.report.measured.estimates import Measured
from bench.steps.measure import measure
from bench.steps.measuring.held_out import find_error
from bench.steps.measuring.subject import find_measured
from bench.steps.segment import segment


@pytest.fixture(scope="module")
def segmented(pipeline, tiny_tree, tmp_path_factory):
    """The test sections of the tiny tree, segmented as they were evaluated."""
    output = tmp_path_factory.mktemp("measured") / "segmented"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", pipeline.store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", pipeline.store.experiment_id)
        config = SegmentConfig(
            run_id=pipeline.on_test,
            input=str(tiny_tree / "test/raw"),
            output=str(output),
            pixel_size_nm=5.0,
            device="cpu",
        )
        segment(config)
    return output


@pytest.fixture
def use_pipeline(pipeline, use_store):
    use_store(pipeline.store)
    return pipeline


def write_other(segmented, folder, structure="membrane", images_sha256=None):
    """A segmentation of the same images, in which a line of another structure was found."""
    (folder / structure).mkdir(parents=True)
    (folder / "raw").mkdir()
    for path in (segmented / "raw").iterdir():
        (folder / "raw" / path.name).write_bytes(path.read_bytes())
        line = np.zeros((64, 64), np.uint16)
        line[32] = 1
        tifffile.imwrite(folder / structure / path.name, line)
    said = json.loads((segmented / "segmentation.json").read_text())
    said |= {"structure": structure, "images_sha256": images_sha256 or said["images_sha256"]}
    (folder / "segmentation.json").write_text(json.dumps(said))
    return folder


def values(folder, level="all"):
    summary = pd.read_csv(folder / "summary.csv")
    return summary[summary["level"] == level].set_index("quantity")


def test_sections_are_corrected_by_what_was_annotated_in_them(
    use_pipeline, segmented, tmp_path, monkeypatch
):
    """Those that are held out themselves: their corrected number is the annotated one."""
    for module in ("report.measured.study", "steps.measuring.held_out"):
        monkeypatch.setattr(f"bench.{module}.FEWEST_MATCHED", 3)
    out = tmp_path / "out"
    config = MeasureConfig(
        input=str(segmented), held_out=use_pipeline.on_test, device="cpu", output=str(out)
    )
    run_id = measure(config)
    dataset = PreparedDataset.open(use_pipeline.dataset)
    names = dataset.sections("test")
    truths = [dataset.read_labels(name, "mitochondria") for name in names]
    found = [
        tifffile.imread(segmented / f"mitochondria/{name.removeprefix('test-')}.tif").astype(int)
        for name in names
    ]
    annotated, counted = (
        sum(len(np.unique(each)) - 1 for each in labels) for labels in (truths, found)
    )
    count = values(out).loc["count"]
    assert count["raw"] == counted / 3
    assert count["corrected"] == pytest.approx(annotated / 3)
    assert count["corrected_low"] <= count["corrected"] <= count["corrected_high"]
    matched = sum(
        match_instances(truth=a, prediction=b).true_positive
        for a, b in zip(truths, found, strict=True)
    )
    held_out = pd.read_csv(out / "held_out.csv")
    assert held_out[["annotated", "missed", "found", "extra"]].to_numpy().tolist() == [
        [annotated, annotated - matched, counted, counted - matched]
    ]
    objects = pd.read_csv(out / "objects.csv")
    assert len(objects) == counted
    assert objects["area_nm2"].sum() == 25 * sum((each > 0).sum() for each in found)
    sections = pd.read_csv(out / "sections.csv")
    assert sections[sections["quantity"] == "count"]["raw"].tolist() == [
        len(np.unique(each)) - 1 for each in found
    ]
    run = use_pipeline.store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["measure/count_corrected"] == pytest.approx(annotated / 3)
    page = (out / "measurements.html").read_text()
    assert "test of data set prepared" in page
    for name in ("groups.png", "distributions.png"):
        assert (out / name).stat().st_size > 5000


def test_what_has_too_few_held_out_objects_is_raw_alone_and_says_so(
    use_pipeline, segmented, tmp_path, caplog
):
    out = tmp_path / "out"
    measure(MeasureConfig(input=str(segmented), held_out=use_pipeline.on_test, output=str(out)))
    assert any("warning: raw values alone, as a correction needs 10" in m for m in caplog.messages)
    corrected = values(out)["corrected"]
    assert corrected.drop("area_fraction").isna().all()
    assert corrected["area_fraction"] > 0
    assert values(out)["raw"].notna().all()
    assert "No corrected values: a correction needs 10" in (out / "measurements.html").read_text()


def test_groups_animals_and_distances_to_another_structure(use_pipeline, segmented, tmp_path):
    out, other = tmp_path / "out", write_other(segmented, tmp_path / "other")
    config = MeasureConfig(
        input=str(segmented),
        second=str(other),
        held_out="none",
        groups="a:s5;b:s6-s7",
        animals="m1:s5;m2:s6;m3:s7",
        output=str(out),
    )
    measure(config)
    objects = pd.read_csv(out / "objects.csv")
    assert set(objects["group"]) == {"a", "b"}
    assert objects.set_index("section")["animal"].to_dict() == {"s5": "m1", "s6": "m2", "s7": "m3"}
    found = tifffile.imread(segmented / "mitochondria/s5.tif")
    rows = np.argwhere(found == 1)[:, 0]
    nearest = 5 * np.abs(rows - 32).min()
    assert objects[objects["section"] == "s5"]["distance_nm"].iloc[0] == pytest.approx(nearest)
    compared = pd.read_csv(out / "comparisons.csv").set_index("quantity")
    row = compared.loc["count"]
    assert (row["of"], row["n_first"], row["n_second"]) == ("animal", 1, 2)
    summary = values(out, "group").reset_index().set_index(["name", "quantity"])["raw"]
    difference = summary["a", "count"] - summary["b", "count"]
    assert row["raw_difference"] == difference
    # One animal says nothing of others.
    assert np.isnan(row["raw_p"])


def test_bad_input_is_one_line(run_entry_point, use_pipeline, segmented, tmp_path):
    given = {"input": str(segmented), "output": str(tmp_path / "out")}
    cases = {
        "must be an output of segment": {"input": str(tmp_path)},
        "second must be of another structure": {"second": str(segmented)},
        "of the same images": {
            "second": str(write_other(segmented, tmp_path / "x", images_sha256="0"))
        },
        "which none of s5, s6, s7 is": {"groups": "a:s9"},
        "NAME:SECTIONS": {"groups": "s5,s6"},
        "must be a new folder": {"output": str(segmented)},
        "no run has the id": {"held_out": "f" * 32},
        "contact_nm must be at least 0": {"contact_nm": "-1"},
    }
    for said, wrong in cases.items():
        options = [word for key, value in (given | wrong).items() for word in (f"--{key}", value)]
        status, text = run_entry_point("measure", *options)
        assert status == 2, said
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert said in errors[0]
        assert "Traceback" not in text
        assert not (tmp_path / "out").exists()


def test_a_segmentation_of_other_settings_is_not_corrected(use_pipeline, segmented, tmp_path):
    said = json.loads((segmented / "segmentation.json").read_text())
    other = write_other(segmented, tmp_path / "other", structure="mitochondria")
    (other / "segmentation.json").write_text(json.dumps(said | {"threshold": 0.25}))
    config = MeasureConfig(
        input=str(other), held_out=use_pipeline.on_test, output=str(tmp_path / "out")
    )
    with pytest.raises(BenchError, match=r"the segmentation has threshold 0\.25"):
        measure(config)
    assert not (tmp_path / "out").exists()


def test_labels_that_were_changed_since_are_not_corrected(
    use_pipeline, segmented, tmp_path, monkeypatch
):
    """By hand, say: what the model misses is then no longer missing."""
    monkeypatch.setattr("bench.steps.measuring.held_out.FEWEST_MATCHED", 3)
    config = MeasureConfig(input=str(segmented), held_out=use_pipeline.on_test)
    measured = find_measured(config)
    tables, extents = zip(
        *(unit.measure(measured.subject, "mitochondria", None, 0.0) for unit in measured.units),
        strict=True,
    )
    names = tuple(unit.name for unit in measured.units)
    found = Measured(names, tables, extents, serial=True)
    assert find_error(config, measured, found, use_pipeline.store)[1] == {}
    corrected = replace(found, tables=(tables[0][:-1], *tables[1:]))
    held_out, reasons = find_error(config, measured, corrected, use_pipeline.store)
    assert held_out is None
    assert reasons[""].startswith("the labels of s5 were changed since")


def test_volumes_are_measured_in_three_dimensions(store, tmp_path):
    """Two balls in voxels of 10 x 5 x 5 nm, each one object through its planes."""
    z, y, x = np.ogrid[:12, :24, :40]
    labels = np.zeros((12, 24, 40), np.uint16)
    for number, middle in ((1, 10), (2, 28)):
        ball = (2 * (z - 6)) ** 2 + (y - 12) ** 2 + (x - middle) ** 2 <= 64
        labels[ball] = number
    folder, geometry = tmp_path / "segmented", ImageGeometry(labels.shape, 5.0, 10.0)
    for kind, pixels in (("raw", labels.astype(np.uint8)), ("vesicles", labels)):
        (folder / kind).mkdir(parents=True)
        write_image_file("tiff", folder / kind / "tomo", pixels, pixels.dtype, geometry)
    said = {"structure": "vesicles", "run_id": "r", "volumes": ["tomo"], "section_nm": None}
    said |= {"voxel_size_nm": [[10.0, 5.0, 5.0]], "images_sha256": "0"}
    (folder / "segmentation.json").write_text(json.dumps(said))
    out = tmp_path / "out"
    measure(MeasureConfig(input=str(folder), held_out="none", output=str(out)))
    objects = pd.read_csv(out / "objects.csv")
    voxels = np.bincount(labels.ravel())[1:]
    assert objects["volume_nm3"].tolist() == (250 * voxels).tolist()
    assert objects["neighbour_nm"].tolist() == pytest.approx([90.0, 90.0])
    assert objects["equivalent_diameter_nm"].tolist() == pytest.approx([80, 80], rel=0.03)
    volumes = pd.read_csv(out / "volumes.csv").set_index("quantity")["raw"]
    assert volumes["count"] == 2
    assert volumes["volume_fraction"] == pytest.approx(voxels.sum() / labels.size)
    assert volumes["density_per_um3"] == pytest.approx(2 / (labels.size * 250e-9))
