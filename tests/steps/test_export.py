"""Labels written by the step: an evaluation's instances, and a dataset's annotation."""

import json
import logging
from dataclasses import asdict, replace

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
import torch
import zarr
from imodmodel import ImodModel

from bench.config.data import ExportConfig, PrepareConfig
from bench.config.scoring import EvaluateConfig
from bench.core.files import write_json
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.prediction_file import read_prediction
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.annotations.trakem2.project import read_project
from bench.ingest.inputs import read_input
from bench.ingest.layouts.folders import read_folder
from bench.ingest.writing import write_prepared
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.postprocess.instances import Instances
from bench.postprocess.watershed import WatershedSettings
from bench.recipe.recipe import RECIPE_FILE, read_recipe, recipe_to_json
from bench.recipe.scores import SplitResult
from bench.recipe.sections import segment_by_recipe
from bench.steps.evaluate import evaluate
from bench.steps.export import export
from bench.steps.scoring.evaluation_task import resolve_evaluation
from bench.steps.scoring.recipes import find_model
from bench.steps.serving.export_subject import number_instances
from bench.tracking.queries import fetch_artifact, read_settings

FORMATS = ("trakem2", "imod", "imod_spheres", "rois", "tiff", "ome_zarr")


@pytest.fixture
def export_as(pipeline, tmp_path):
    def run(**settings):
        defaults = {"dataset": str(pipeline.dataset), "output": str(tmp_path / "out")}
        return export(ExportConfig(**{**defaults, **settings}), pipeline.store)

    return run


def drawn(objects, kind, sections, shape):
    """Ids (z, y, x) of the objects of a class."""
    chosen = [item for item in objects if item.kind == kind]
    return np.stack([draw_labels(chosen, section, shape).labels for section in range(sections)])


def read_back(folder, format):
    """The pixels of both structures in val as each program's format gives them."""
    if format == "tiff":
        return {
            name: np.stack([tifffile.imread(p) for p in sorted((folder / name).iterdir())])
            for name in ("mitochondria", "vesicles")
        }
    if format == "ome_zarr":
        root = zarr.open(folder / "image.ome.zarr", mode="r")
        return {name: root[f"labels/{name}/0"][:] for name in ("mitochondria", "vesicles")}
    if format == "trakem2":
        objects = read_project(folder / "project.xml").objects
    else:
        objects, _ = read_rois(folder / "RoiSet.zip")
    return {
        name: drawn(objects, kind, 2, (64, 64))
        for name, kind in (("mitochondria", "mitochondria"), ("vesicles", "vesicle"))
    }


@pytest.mark.parametrize("format", ["trakem2", "rois", "tiff", "ome_zarr"])
def test_annotation_comes_back(pipeline, export_as, format, tmp_path):
    export_as(format=format, run_id="none")
    dataset = PreparedDataset.open(pipeline.dataset)
    for structure, found in read_back(tmp_path / "out", format).items():
        for name, section in zip(dataset.sections("val"), found, strict=True):
            truth = dataset.read_labels(name, structure)
            assert np.array_equal(section > 0, truth > 0)
            pairs = set(zip(truth[truth > 0].tolist(), section[truth > 0].tolist(), strict=True))
            assert len(pairs) == len(np.unique(truth)) - 1 == 2
        # Masks have numbers of their own in each section: no disc goes on into the next.
        assert len(np.unique(found)) == 5


@pytest.mark.parametrize("format", ["imod", "imod_spheres"])
def test_annotation_as_a_model(export_as, format, tmp_path):
    export_as(format=format)
    mitochondria, vesicles = ImodModel.from_file(tmp_path / "out" / "labels.mod").objects
    assert (tmp_path / "out" / "raw.mrc").is_file()
    if format == "imod":
        assert {c.header.surf for c in mitochondria.contours} == {1, 2, 3, 4}
    else:
        # Discs of 11 and 5 px, as the tree has them.
        assert mitochondria.contours[0].point_sizes == pytest.approx([11] * 4, rel=0.01)
        assert vesicles.contours[0].point_sizes == pytest.approx([5] * 4, rel=0.02)


def test_a_model_lies_on_the_images_in_3dmod(pipeline, export_as, tmp_path):
    """Over raw.mrc as 3dmod shows that, and over the images themselves."""
    export_as(format="imod")
    dataset = PreparedDataset.open(pipeline.dataset)
    names = dataset.sections("val")
    raw = np.stack([dataset.read_raw(name) for name in names])
    with mrcfile.open(tmp_path / "out/raw.mrc") as file:
        # 3dmod shows the last row of an MRC on top.
        np.testing.assert_array_equal(file.data[:, ::-1], raw)
    tifffile.imwrite(tmp_path / "out/raw.tif", raw, photometric="minisblack")
    (tmp_path / "out/raw.mrc").unlink()
    (tmp_path / "out/labels.mod").rename(tmp_path / "out/raw.mod")
    tree = read_input(
        PrepareConfig(input=str(tmp_path / "out"), splits="train=0;val=1", pixel_size_nm=5.0)
    )
    for name, section in zip(names, tree.sections, strict=True):
        for structure, image in section.labels.items():
            truth = dataset.read_labels(name, structure)
            np.testing.assert_array_equal(image.read() > 0, truth > 0)


def test_labels_of_mrc_lie_on_it_in_3dmod_and_fiji(export_as, tmp_path, caplog):
    raw = noise((3, 40, 48), "val")
    labels = np.zeros(raw.shape, np.uint8)
    labels[:, 3:9, 5:20] = 1
    labels[:, 12:18, 5:9] = 2
    for name, pixels in (("a.mrc", raw), ("a_mito.mrc", labels)):
        (tmp_path / "in").mkdir(exist_ok=True)
        with mrcfile.new(tmp_path / "in" / name) as file:
            file.set_data(pixels.astype(np.uint16))
    given = {"input": str(tmp_path / "in"), "splits": "train=0;val=1;test=2", "pixel_size_nm": 5.0}
    tree = read_input(PrepareConfig(**given))
    dataset = write_prepared(tree, tmp_path / "prepared")
    np.testing.assert_array_equal(dataset.read_raw("val-a_z01"), raw[1])
    caplog.set_level(logging.INFO)
    settings = {"dataset": str(dataset.root), "split": "val"}
    export_as(format="tiff", output=str(tmp_path / "tiff"), **settings)
    assert "written as 3dmod and Fiji show the MRC" in caplog.text
    for kind, stored in (("raw", raw), ("mitochondria", labels)):
        found = tifffile.imread(tmp_path / "tiff" / kind / "val-a_z01.tif")
        np.testing.assert_array_equal(found, stored[1, ::-1])
    export_as(format="rois", output=str(tmp_path / "rois"), **settings)
    objects, _ = read_rois(tmp_path / "rois/RoiSet.zip")
    np.testing.assert_array_equal(draw_labels(objects, 0, (40, 48)).labels, labels[1, ::-1])
    export_as(format="imod", output=str(tmp_path / "imod"), **settings)
    with mrcfile.open(tmp_path / "imod/raw.mrc") as file:
        np.testing.assert_array_equal(file.data[0], raw[1])


def test_instances_have_the_scores_of_their_evaluation(pipeline, export_as, tmp_path):
    export_as(format="tiff", run_id=pipeline.on_val)
    dataset, result = PreparedDataset.open(pipeline.dataset), SplitResult()
    for name in dataset.sections("val"):
        labels = tifffile.imread(tmp_path / "out" / "mitochondria" / f"{name}.tif").astype(np.int32)
        truth = dataset.read_labels(name, "mitochondria")
        result.add(
            name,
            truth=truth,
            probability=np.zeros(truth.shape, np.uint8),
            instances=Instances(labels, 0, 0),
        )
        raw = tifffile.imread(tmp_path / "out" / "raw" / f"{name}.tif")
        assert np.array_equal(raw, dataset.read_raw(name))
    assert not (tmp_path / "out" / "vesicles").exists()
    logged = pipeline.store.client.get_run(pipeline.on_val).data.metrics
    for name, value in result.scores().items():
        assert logged[f"val/{name}"] == pytest.approx(value), name
    assert logged["val/instance_f1"] > 0


def test_touching_instances_are_separated_as_the_evaluation_did(
    pipeline, export_as, tmp_path, contents
):
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 4}
    rule = WatershedSettings(0.2, 0.5, 0, 0, "Chosen for this test.")
    info = ModelInfo(
        "unet2d", arguments, ("foreground", "boundary"), "mitochondria", 5.0, "section", 32, 16,
        inference={"watershed": asdict(rule)},
    )  # fmt: skip
    weights = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    save_checkpoint(weights, build_model("unet2d", arguments), info)
    config = EvaluateConfig(
        dataset=str(pipeline.dataset), method="unadapted", structure="mito", source=str(weights),
        threshold=0.3, opening_radius_px=0, min_area_px=0, device="cpu",
    )  # fmt: skip
    run_id = evaluate(config, pipeline.store)
    export_as(format="tiff", run_id=run_id)
    task = resolve_evaluation(config, pipeline.store)
    assert task.recipe.watershed == rule
    predictions = fetch_artifact(pipeline.store, run_id, "predictions.h5")
    for name in task.dataset.sections("val"):
        maps = read_prediction(predictions, name)
        expected = segment_by_recipe(task.recipe, maps, 5.0, lambda: pytest.fail("read")).labels
        found = tifffile.imread(tmp_path / "out" / "mitochondria" / f"{name}.tif")
        pairs = np.unique(np.stack([expected.ravel(), found.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(expected)) == len(np.unique(found)) > 2
    # An earlier version left the rule in the checkpoint alone, which must then be the same.
    recipe = fetch_artifact(pipeline.store, run_id, RECIPE_FILE)
    written = read_recipe(recipe)
    assert find_model(run_id, pipeline.store).recipe == written
    recipe.unlink()
    assert find_model(run_id, pipeline.store).recipe == replace(written, validation={})
    export_as(format="tiff", run_id=run_id, output=str(tmp_path / "earlier"))
    assert contents(tmp_path / "earlier") == contents(tmp_path / "out")
    save_checkpoint(weights, build_model("unet2d", arguments), info)
    with pytest.raises(BenchError, match=r"evaluated the model that is applied, .* has changed s"):
        export_as(format="tiff", run_id=run_id, output=str(tmp_path / "again"))
    write_json(recipe, recipe_to_json(written))
    export_as(format="tiff", run_id=run_id, output=str(tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_the_run_describes_the_export(pipeline, export_as, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = export_as(format="rois", run_id=pipeline.on_val, structure="mito")
    assert f"to correct them, in Fiji open {tmp_path}/out/raw.tif, then" in caplog.text
    run = pipeline.store.client.get_run(first)
    assert run.info.status == "FINISHED"
    tags = {key.removeprefix("bench."): value for key, value in run.data.tags.items()}
    assert (tags["step"], tags["method"], tags["structure"]) == (
        "export",
        "scratch",
        "mitochondria",
    )
    params = read_settings(pipeline.store, run.info.run_id)
    assert (params["run_id"], params["split"]) == (pipeline.on_val, "val")
    assert run.data.metrics["val/mitochondria/instances"] > 0
    for name in ("RoiSet.zip", "raw.tif"):
        kept = fetch_artifact(pipeline.store, first, f"export/{name}")
        assert kept.read_bytes() == (tmp_path / "out" / name).read_bytes()
    # The same labels in another folder: written again, one run describes them.
    again = export_as(format="rois", run_id=pipeline.on_val, output=str(tmp_path / "other"))
    assert again == first
    assert (tmp_path / "other" / "RoiSet.zip").is_file()


def test_sections_of_other_sizes_get_folders(export_as, write_tree, tmp_path):
    tree = write_tree(tmp_path / "tree", {"train": 2, "val": 2})
    for path in (tree / "val").glob("*/s3.png"):
        pixels = imagecodecs.png_decode(path.read_bytes())[:40]
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    dataset = write_prepared(read_folder(PrepareConfig(input=str(tree))), tmp_path / "small")
    export_as(format="tiff", dataset=str(dataset.root))
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/raw/*")}
    assert found == {"64x64/raw/val-s2.tif", "64x40/raw/val-s3.tif"}


def test_what_exists_is_left_alone(export_as, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(
        BenchError, match=r"output must be a new folder, received .*out, which exis"
    ):
        export_as()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_cannot_be_a_folder(export_as, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=r"file must be a folder that can be written, received"):
        export_as(output=str(tmp_path / "file" / "out"))


def test_a_failure_leaves_nothing(export_as, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("bench.export.trakem2.write_text", fail)
    with pytest.raises(RuntimeError, match="broken"):
        export_as(format="trakem2")
    assert list(tmp_path.glob("*out*")) + list(tmp_path.glob(".*out*")) == []


def test_what_the_store_lacks_is_not_said_of_the_output(export_as, tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "work")

    monkeypatch.setattr("bench.steps.export.open_run", fail)
    with pytest.raises(PermissionError):
        export_as(format="imod")
    assert not (tmp_path / "out").exists()


def test_what_ends_before_the_folder_appears_can_be_repeated(
    pipeline, export_as, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.steps.export.move_to_free", stop)
        with pytest.raises(KeyboardInterrupt):
            export_as(format="trakem2", split="val")
    assert not (tmp_path / "out").exists()
    run_id = export_as(format="trakem2", split="val")
    assert pipeline.store.client.get_run(run_id).info.status == "FINISHED"
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run_id": "0" * 32}, "no run has the id '0{32}'"),
        ({"run_id": "{trained}"}, "must hold predictions, {trained} is finetune: give the id of"),
        ({"run_id": "{on_val}", "split": "test"}, "run {on_val} predicted val, received split=t"),
        ({"run_id": "{on_val}", "structure": "sv"}, "run {on_val} segmented mitochondria, rec"),
        ({"structure": "membrane"}, "unknown structure 'membrane': choose one of mitochondria, v"),
        ({"structure": "nucleus"}, "unknown structure 'nucleus'"),
        ({"dataset": "nowhere"}, "nowhere must be a prepared dataset"),
    ],
)
def test_labels_that_cannot_be_meant(pipeline, export_as, settings, message, tmp_path):
    ids = {"trained": pipeline.trained, "on_val": pipeline.on_val}
    filled = {key: value.format(**ids) for key, value in settings.items()}
    for name, value in ids.items():
        message = message.replace(f"{{{name}}}", value)
    with pytest.raises(BenchError, match=message):
        export_as(**filled)
    assert not (tmp_path / "out").exists()


def test_another_dataset_than_the_runs(pipeline, export_as, write_tree, tmp_path):
    tree = write_tree(tmp_path / "tree", {"train": 2, "val": 1})
    other = write_prepared(read_folder(PrepareConfig(input=str(tree))), tmp_path / "other")
    with pytest.raises(BenchError, match=r"evaluated a dataset of content .* give the dataset of"):
        export_as(dataset=str(other.root), run_id=pipeline.on_val)


def test_numbers_of_several_files_become_different():
    first = np.array([[0, 5, 9]], np.uint8)
    second = np.array([[5, 0, 2**31]], np.uint32)
    together = number_instances([first, second], ["a", "a"])
    assert np.array_equal(together, [first, second])
    apart = number_instances([first, second], ["a", "b"])
    assert apart.tolist() == [[[0, 1, 2]], [[3, 0, 4]]]
    # The first and third are one file's: 5 goes through both.
    mixed = number_instances([first, second, first], ["a", "b", "a"])
    assert mixed.tolist() == [[[0, 1, 2]], [[3, 0, 4]], [[0, 1, 2]]]


def test_the_ids_of_a_stack_go_through_its_sections(export_as, tmp_path):
    tree = tmp_path / "tree"
    ids = np.zeros((3, 16, 16), np.uint16)
    ids[:, 2:6, 2:6], ids[:, 9:12, 2:5], ids[1:, 9:12, 9:12] = 40, 9, 7
    for split in ("train", "val"):
        for kind, pixels in (("raw", noise(ids.shape, split)), ("vesicles", ids)):
            (tree / split / kind).mkdir(parents=True)
            tifffile.imwrite(tree / split / kind / "s.tif", pixels, photometric="minisblack")
    dataset = write_prepared(read_folder(PrepareConfig(input=str(tree))), tmp_path / "stack")
    export_as(format="trakem2", dataset=str(dataset.root))
    objects = read_project(tmp_path / "out" / "project.xml").objects
    assert [sorted(item.shapes) for item in objects] == [[1, 2], [0, 1, 2], [0, 1, 2]]


def noise(shape, split):
    return np.random.default_rng(len(split)).integers(0, 255, shape).astype(np.uint8)


@pytest.mark.parametrize("format", FORMATS)
def test_the_entry_point_writes_every_format(
    pipeline, use_store, run_entry_point, format, tmp_path
):
    use_store(pipeline.store)
    status, said = run_entry_point(
        "export", "--dataset", str(pipeline.dataset), "--run_id", pipeline.on_test,
        "--format", format, "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert status == 0, said
    assert any((tmp_path / "out").iterdir())


def test_an_error_is_one_line(pipeline, use_store, run_entry_point, tmp_path):
    use_store(pipeline.store)
    arguments = ("--dataset", str(pipeline.dataset), "--output", str(tmp_path))
    status, said = run_entry_point("export", *arguments)
    assert status == 2
    assert said.startswith("error: output must be a new folder")
    assert said.count("\n") == 1


def test_all_splits_are_one_data_set_of_nnunet(export_as, pipeline, tmp_path):
    run_id = export_as(format="nnunet")
    dataset, out = PreparedDataset.open(pipeline.dataset), tmp_path / "out"
    learned = [name for split in ("train", "val") for name in dataset.sections(split)]
    described = json.loads((out / "dataset.json").read_text())
    assert described["numTraining"] == len(learned)
    assert described["labels"] == {
        "background": 0,
        **{name: number for number, name in enumerate(dataset.structures, start=1)},
    }
    (fold,) = json.loads((out / "splits_final.json").read_text())
    assert fold == {split: list(dataset.sections(split)) for split in ("train", "val")}
    for part, names in (("Tr", learned), ("Ts", dataset.sections("test"))):
        images = {path.name for path in (out / f"images{part}").iterdir()}
        assert images == {f"{name}_0000.tif" for name in names}
        assert {path.stem for path in (out / f"labels{part}").iterdir()} == set(names)
    assert read_settings(pipeline.store, run_id)["split"] == "train, val, test"
