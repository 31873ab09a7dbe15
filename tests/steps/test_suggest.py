"""What to annotate next, through the step and its entry point."""

import json

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.config.advice import SuggestConfig
from bench.config.data import PrepareConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.prepare import prepare
from bench.steps.suggest import suggest


@pytest.fixture(scope="module")
def trained(dataset, tiny, make_store, tmp_path_factory):
    """A store with models of one, two and all sections, scored on validation; and of vesicles."""
    store = make_store(tmp_path_factory.mktemp("store"))
    tiny = tiny | {"source": "random"}
    for labelled in (1, 2, None):
        run = finetune(FinetuneConfig(dataset=dataset, labelled=labelled, **tiny), store)
        evaluate(EvaluateConfig(dataset=dataset, run_id=run, device="cpu"), store)
    finetune(FinetuneConfig(dataset=dataset, structure="vesicles", **tiny), store)
    return store


@pytest.fixture(scope="module")
def images(dataset, write_tree, tmp_path_factory):
    """A montage that holds a section of the dataset, another section, and an image of noise."""
    folder, tree = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("more")
    write_tree(tree, {"train": 11})
    opened = PreparedDataset.open(dataset)
    new = [
        imagecodecs.png_decode((tree / "train" / "raw" / f"s{n}.png").read_bytes())
        for n in (8, 9, 10)
    ]
    known = opened.read_raw(opened.sections("train")[0])
    tifffile.imwrite(folder / "montage.tif", np.hstack([new[0], new[1], known, new[2]]))
    tifffile.imwrite(folder / "known.tif", known)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    tifffile.imwrite(folder / "noise.tif", noise)
    return folder


@pytest.fixture(scope="module")
def done(trained, dataset, images, tmp_path_factory):
    output = tmp_path_factory.mktemp("suggest") / "out"
    run_id = suggest(
        SuggestConfig(
            dataset=dataset,
            structure="mito",
            budget=2,
            input=str(images),
            pixel_size_nm=5.0,
            device="cpu",
            output=str(output),
        ),
        trained,
    )
    return trained, output, run_id


def test_pieces_are_ranked_and_what_is_annotated_is_left_out(done):
    table = pd.read_csv(done[1] / "suggestions.csv")
    assert len(table) == 4
    assert set(table["image"]) == {"montage", "noise"}
    assert table["suggested"].tolist() == [True, True, False, False]
    # Nothing here looks like it.
    assert table.iloc[0]["image"] == "noise"
    assert table["score"].is_monotonic_decreasing
    assert (done[1] / "suggestions.png").stat().st_size > 10_000


def test_what_is_predrawn_goes_back_into_a_dataset(done, dataset, tmp_path, monkeypatch):
    output = done[1]
    crops = sorted(path.stem for path in (output / "tiff" / "mitochondria").iterdir())
    table = pd.read_csv(output / "suggestions.csv")
    assert crops == sorted(table["crop"].dropna())
    assert (output / "trakem2" / "project.xml").is_file()
    assert (output / "rois" / "RoiSet.zip").is_file()
    piece = table[table["image"] == "montage"].iloc[0]
    drawn = tifffile.imread(output / "tiff" / "mitochondria" / f"{piece['crop']}.tif")
    raw = tifffile.imread(output / "tiff" / "raw" / f"{piece['crop']}.tif")
    assert drawn.max() == 2
    assert raw[drawn > 0].mean() < 80 < raw[drawn == 0].mean()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", done[0].uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", done[0].experiment_id)
    # What the terminal says is typed next.
    config = PrepareConfig(
        input=str(output / "tiff"), add_to=dataset, output=str(tmp_path / "more")
    )
    prepare(config)
    more = PreparedDataset.open(tmp_path / "more")
    assert len(more.sections("train")) == 3 + 2
    assert set(more.annotated("train")) == {"mitochondria", "vesicles"}


def test_the_forecast_is_of_the_validation_sections(done):
    said = json.loads((done[1] / "forecast.json").read_text())
    assert said["method"] == "scratch"
    assert said["counts"] == [1, 2, 3]
    assert (said["now"], said["more"]) == (3, 2)
    assert said["interval"][0] <= said["gain"] <= said["interval"][1]
    run = done[0].client.get_run(done[2])
    assert run.data.metrics["suggest/forecast_gain"] == pytest.approx(said["gain"])
    assert run.data.metrics["suggest/models"] == 3


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (("--structure", "golgi"), "golgi"),
        (("--models", "abc"), "abc"),
        (("--formats", "word"), "unknown format 'word'"),
        (("--input", "nowhere"), "nowhere"),
        (("--budget", "0"), "at least 1"),
        ((), "has none: give input=FOLDER of images"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    trained, dataset, images, run_entry_point, tmp_path, monkeypatch, settings, error
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", trained.experiment_id)
    given = ["--dataset", dataset, "--output", str(tmp_path / "new" / "out"), *settings]
    if settings and settings[0] != "--input":
        given += ["--input", str(images)]
    status, said = run_entry_point("suggest", *given)
    assert status == 2
    assert error in said
    assert not (tmp_path / "new").exists()


def test_all_images_are_annotated(trained, dataset, images, run_entry_point, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", trained.experiment_id)
    given = ["--dataset", dataset, "--input", str(images / "known.tif")]
    status, said = run_entry_point("suggest", *given, "--output", str(tmp_path / "out"))
    assert status == 2
    assert "an image must be left to annotate, all 1 pieces are sections" in said
