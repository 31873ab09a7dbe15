"""From a segmentation to a corrected one, into the dataset, and to what it brought."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile

from bench.config.data import ExportConfig, PrepareConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import CompareConfig, PromoteConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.adding.adding import add_to_dataset
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.steps.compare import compare
from bench.steps.export import export
from bench.steps.prepare import prepare
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.tracking.store import open_store

NEW = ("s8", "s9")


@dataclass(frozen=True)
class Segmented:
    """Two images that no dataset has, and what was segmented in them: by their format.

    Attributes:
        raw: Their pixels (z, y, x) as people see them.
        labels: The ids (z, y, x) that were found, with rows in this order; a network sees an MRC
            as it is stored, and finds a little else.
        runs: The runs.
        folders: The outputs.
    """

    raw: np.ndarray
    labels: dict[str, np.ndarray]
    runs: dict[str, str]
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def segmented(pipeline, write_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmented")
    tree = write_tree(folder / "tree", {"train": 8, "val": 2})
    raw = np.stack([read_png(tree / f"val/raw/{name}.png") for name in NEW])
    for name, pixels in zip(NEW, raw, strict=True):
        (folder / "mrc").mkdir(exist_ok=True)
        with mrcfile.new(folder / f"mrc/{name}.mrc") as file:
            file.set_data(pixels[::-1].astype(np.uint16))
            file.voxel_size = 50.0
    images = {"tif": tree / "val/raw", "mrc": folder / "mrc", "ome_zarr": tree / "val/raw"}
    runs = {}
    for kind, given in images.items():
        runs[kind] = segment(
            SegmentConfig(
                run_id=pipeline.on_val,
                input=str(given),
                output=str(folder / f"out_{kind}"),
                pixel_size_nm=5.0,
                format="ome_zarr" if kind == "ome_zarr" else "tiff",
                device="cpu",
            ),
            pipeline.store,
        )
    folders = {kind: folder / f"out_{kind}" for kind in images}
    labels = {
        kind: np.stack(
            [tifffile.imread(folders[kind] / f"mitochondria/{name}.tif") for name in NEW]
        )
        for kind in ("tif", "mrc")
    }
    for found in labels.values():
        # Mitochondria are dark, and not where they would be from the other end.
        assert raw[found > 0].mean() < raw[:, ::-1][found > 0].mean() - 20
    return Segmented(raw, labels | {"ome_zarr": labels["tif"]}, runs, folders)


def read_png(path):
    return imagecodecs.png_decode(path.read_bytes())


@pytest.fixture(scope="module")
def mitochondria(tiny_tree, tmp_path_factory):
    """The tiny dataset with what the model segments alone."""
    given = PrepareConfig(input=str(tiny_tree), structures="mitochondria", pixel_size_nm=5.0)
    return write_prepared(read_input(given), tmp_path_factory.mktemp("one") / "mitochondria")


def add(folder, dataset, output):
    tree = read_input(PrepareConfig(input=str(folder), add_to=str(dataset.root), margin_px=0))
    return write_prepared(add_to_dataset(tree, dataset), output)


def added_sections(dataset):
    names = dataset.manifest["additions"][-1]["sections"]
    return [(dataset.read_raw(name), dataset.read_labels(name, "mitochondria")) for name in names]


def holds(found, raw, mask):
    """Whether a section, or a crop of it, has the labels that lie on its pixels."""
    pixels, labels = found
    height, width = pixels.shape
    for top in range(raw.shape[0] - height + 1):
        for left in range(raw.shape[1] - width + 1):
            part = slice(top, top + height), slice(left, left + width)
            if np.array_equal(raw[part], pixels):
                return np.array_equal(mask[part] > 0, labels > 0)
    return False


@pytest.mark.parametrize("kind", ["tif", "mrc", "ome_zarr"])
def test_the_folder_of_segment_is_prepared_as_it_is(segmented, mitochondria, kind, tmp_path):
    """Rows of an MRC as well: labels lie on the image, and both as people see it."""
    new = add(segmented.folders[kind], mitochondria, tmp_path / "new")
    assert new.sections("train")[-2:] == ("train-s8", "train-s9")
    assert new.sections("test") == mitochondria.sections("test")
    for section, raw, labels in zip(
        added_sections(new), segmented.raw, segmented.labels[kind], strict=True
    ):
        np.testing.assert_array_equal(section[0], raw)
        np.testing.assert_array_equal(section[1] > 0, labels > 0)


def test_the_folder_of_segment_may_be_a_dataset_of_its_own(segmented, tmp_path):
    given = {"input": str(segmented.folders["mrc"]), "splits": "train=0;val=1"}
    dataset = write_prepared(read_input(PrepareConfig(**given)), tmp_path / "own")
    assert (dataset.structures, dataset.pixel_size_nm) == (("mitochondria",), 5.0)
    assert dataset.sections("val") == ("val-s9",)
    assert "additions" not in dataset.manifest


@pytest.mark.parametrize("kind", ["tif", "mrc", "ome_zarr"])
@pytest.mark.parametrize("format", ["trakem2", "imod", "rois", "tiff", "ome_zarr"])
def test_a_segmentation_comes_back_through_every_program(
    pipeline, segmented, mitochondria, kind, format, tmp_path
):
    out = tmp_path / "out"
    run = export(
        ExportConfig(run_id=segmented.runs[kind], format=format, output=str(out)), pipeline.store
    )
    logged = pipeline.store.client.get_run(run)
    found = sum(len(np.unique(section)) - 1 for section in segmented.labels[kind])
    assert logged.data.metrics["segmented/mitochondria/instances"] == found
    sections = added_sections(add(out, mitochondria, tmp_path / "new"))
    assert len(sections) >= 2
    for raw, labels in zip(segmented.raw, segmented.labels[kind], strict=True):
        # 3dmod counts rows from the last one, of the image as of the model.
        end = -1 if format == "imod" else 1
        assert any(holds(section, raw[::end], labels[::end]) for section in sections)


def test_several_structures_of_the_same_images_are_exported_together(pipeline, segmented, tmp_path):
    second = tmp_path / "vesicles"
    shutil.copytree(segmented.folders["tif"], second)
    (second / "mitochondria").rename(second / "vesicles")
    folders = f"{segmented.folders['tif']},{second}"
    export(ExportConfig(input=folders, format="tiff", output=str(tmp_path / "a")), pipeline.store)
    kinds = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert kinds == ["mitochondria", "raw", "vesicles"]
    other = f"{segmented.folders['mrc']},{second}"
    with pytest.raises(BenchError, match=r"must be of the same images, received others in"):
        export(ExportConfig(input=other, output=str(tmp_path / "b")), pipeline.store)
    twice = f"{segmented.folders['tif']},{segmented.folders['tif']}/"
    export(ExportConfig(input=twice, format="tiff", output=str(tmp_path / "c")), pipeline.store)
    assert not (tmp_path / "b").exists()


def test_what_was_corrected_in_the_folder_is_exported(pipeline, segmented, tmp_path):
    """Another export than before the correction."""
    folder = tmp_path / "mine"
    shutil.copytree(segmented.folders["tif"], folder)
    runs = []
    for name in "ab":
        given = ExportConfig(input=str(folder), format="tiff", output=str(tmp_path / name))
        runs.append(export(given, pipeline.store))
        labels = tifffile.imread(folder / "mitochondria/s8.tif")
        labels[:4, :4] = labels.max() + 1
        tifffile.imwrite(folder / "mitochondria/s8.tif", labels, photometric="minisblack")
    assert runs[0] != runs[1]
    assert tifffile.imread(tmp_path / "b/mitochondria/s8.tif")[0, 0]


@pytest.fixture
def use_copy(searched, monkeypatch, tmp_path):
    """The store of the searches with a registry of this test's own."""
    database = shutil.copy(searched.store.uri.removeprefix("sqlite:///"), tmp_path / "copy.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", searched.store.experiment_id)
    return searched


@pytest.mark.parametrize("which", ["ensemble", "single", "champion"])
def test_a_search_is_exported_as_it_segments(use_copy, which, tmp_path, tiny_tree):
    searched = use_copy
    model = searched.ensemble if which == "ensemble" else searched.single
    if which == "champion":
        promote(PromoteConfig(structure="mito", run_id=model, replace=True))
        (registered,) = open_store().client.search_registered_models()
        model = f"models:/{registered.name}@champion"
    dataset = PreparedDataset.open(searched.dataset)
    export(
        ExportConfig(
            dataset=str(dataset.root), run_id=model, split="test", format="tiff", device="cpu",
            output=str(tmp_path / "exported"),
        )
    )  # fmt: skip
    segment(
        SegmentConfig(
            run_id=model, input=str(tiny_tree / "test/raw"), output=str(tmp_path / "segmented"),
            pixel_size_nm=5.0, device="cpu",
        )
    )  # fmt: skip
    for name in dataset.sections("test"):
        path = f"mitochondria/{name.removeprefix('test-')}.tif"
        expected = tifffile.imread(tmp_path / "segmented" / path)
        found = tifffile.imread(tmp_path / f"exported/mitochondria/{name}.tif")
        np.testing.assert_array_equal(found > 0, expected > 0)
        assert len(np.unique(found)) == len(np.unique(expected))
        raw = tifffile.imread(tmp_path / f"exported/raw/{name}.tif")
        np.testing.assert_array_equal(raw, dataset.read_raw(name))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "nowhere"}, r"nowhere must be an output of segment .* no such folder: corr"),
        ({"input": "{tif}", "run_id": "{run}"}, r"labels come from one place, received input="),
        ({"run_id": "{run},{trained}"}, r"must have segmented images, .* is finetune"),
        ({"run_id": "{run}", "structure": "vesicles"}, r"unknown structure 'vesicles': choose"),
    ],
)
def test_what_cannot_be_meant(pipeline, segmented, settings, message, tmp_path):
    ids = {
        "tif": segmented.folders["tif"],
        "run": segmented.runs["tif"],
        "trained": pipeline.trained,
    }
    given = {name: value.format(**ids) for name, value in settings.items()}
    with pytest.raises(BenchError, match=message):
        export(ExportConfig(output=str(tmp_path / "out"), **given), pipeline.store)
    assert not (tmp_path / "out").exists()


def test_a_segmentation_without_its_images_says_so(segmented, mitochondria, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(segmented.folders["tif"], earlier, ignore=shutil.ignore_patterns("raw"))
    with pytest.raises(BenchError, match=r"must hold the images beside the labels .* segment ag"):
        add(earlier, mitochondria, tmp_path / "new")


def test_the_whole_loop(pipeline, use_store, segmented, tmp_path, caplog):
    """Segmented, exported, corrected, added; and the table says what that brought."""
    use_store(pipeline.store)
    out, new_root = tmp_path / "out", tmp_path / "new"
    export(ExportConfig(run_id=segmented.runs["mrc"], format="tiff", output=str(out)))
    for name in NEW:
        path = out / f"mitochondria/{name}.tif"
        labels = tifffile.imread(path)
        labels[2:6, 3:9] = labels.max() + 1
        tifffile.imwrite(path, labels, photometric="minisblack")
        (out / "vesicles").mkdir(exist_ok=True)
        vesicles = np.zeros(labels.shape, np.uint8)
        vesicles[50:55, 50:55] = 1
        tifffile.imwrite(out / f"vesicles/{name}.tif", vesicles, photometric="minisblack")
    old = PreparedDataset.open(pipeline.dataset)
    given = {"input": str(out), "add_to": str(old.root)}
    with pytest.raises(BenchError, match=r"folder for the new version, received .* that is added"):
        prepare(PrepareConfig(output=str(old.root), **given))
    caplog.set_level(logging.INFO)
    run = prepare(PrepareConfig(output=str(new_root), **given))
    assert "2 sections added: train-s8, train-s9" in caplog.text
    new = PreparedDataset.open(new_root)
    for split in ("val", "test"):
        assert new.sections(split) == old.sections(split)
        for name in old.sections(split):
            assert new.find(name) == old.find(name)
    for (raw, labels), image, found in zip(
        added_sections(new), segmented.raw, segmented.labels["mrc"], strict=True
    ):
        np.testing.assert_array_equal(raw, image)
        corrected = found > 0
        corrected[2:6, 3:9] = True
        np.testing.assert_array_equal(labels > 0, corrected)
    assert prepare(PrepareConfig(output=str(tmp_path / "once more"), **given)) == run
    assert PreparedDataset.open(old.root).content_hash == old.content_hash


def test_the_table_says_what_new_sections_brought(dataset_pair, evaluated, store, tmp_path, capsys):
    """Paired on the sections that both versions test, over the seeds that both have."""
    old, new = (one.content_hash for one in dataset_pair)
    sections = dict(zip("abcdef", (0.01, 0.02, 0.03, 0.02, 0.02, 0.02), strict=True))
    before = {name: {"dice": 0.6} for name in sections}
    since = {name: {"dice": 0.6 + gain} for name, gain in sections.items()}
    since["new"] = {"dice": 0.1}
    score(store, evaluated(0.6, dataset=old, method="finetuned"), before)
    score(store, evaluated(0.1, dataset=old, method="finetuned", seed=1), {"a": {"dice": 0.1}})
    score(store, evaluated(0.5, dataset=old, method="unadapted"), before)
    score(store, evaluated(0.6, dataset=new, method="finetuned"), since)
    score(store, evaluated(0.5, dataset=new, method="unadapted"), before)
    for dataset in (new, "auto", str(dataset_pair[1].root)):
        output = tmp_path / dataset[:6].strip("/")
        capsys.readouterr()
        compare(CompareConfig(dataset=dataset, output=str(output), reference="none"))
        text = (output / "benchmark.md").read_text()
        assert "Vesicles, Fine-tuned (focal-Dice): Dice +0.020 (95 % interval +0.01" in text
        assert "on the same 6 test sections since 2 sections were added" in text
        assert text.count("were added") == 1
        assert "+0.020" in " ".join(capsys.readouterr().out.split())
        (gain,) = json.loads((output / "benchmark.json").read_text())["gains"]
        assert gain["difference"] == pytest.approx(0.02)
        assert 0 < gain["interval"][0] < 0.02 < gain["interval"][1]
        assert (gain["seeds"], gain["sections"]) == ([0], 6)
    compare(CompareConfig(dataset=old, output=str(tmp_path / "old"), reference="none"))
    assert "were added" not in (tmp_path / "old/benchmark.md").read_text()


def score(store, run_id, sections):
    scores = {"pooled": {"dice": 0.5}, "sections": sections}
    store.client.log_text(run_id, json.dumps(scores), "scores.json")


@pytest.fixture
def dataset_pair(store, make_tree, tmp_path):
    """A dataset, and the one to which two sections were added; prepared in the store."""
    given = {"pixel_size_nm": 5.0, "output": str(tmp_path / "old")}
    prepare(PrepareConfig(input=str(make_tree()), **given))
    more = make_tree("more", splits={"": 2}, seed=50)
    given = {"add_to": given["output"], "pixel_size_nm": 5.0, "output": str(tmp_path / "new")}
    prepare(PrepareConfig(input=str(more), **given))
    return PreparedDataset.open(tmp_path / "old"), PreparedDataset.open(tmp_path / "new")
