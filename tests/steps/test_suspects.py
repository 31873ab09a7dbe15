"""Doubtful objects through the step and its entry point: planted, listed, shown, written."""

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.config.advice import SuspectsConfig
from bench.config.data import PrepareConfig
from bench.ingest.annotations.fiji_rois import read_rois
from bench.ingest.annotations.trakem2.project import read_project
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.steps import finetune as training
from bench.steps import suspects as step
from bench.steps.suspects import suspects
from bench.tracking.newest import newest_trainings

SPOILED = "s1"


@pytest.fixture(scope="module")
def spoiled(write_tree, tmp_path_factory):
    """The tiny sections, one mitochondrion of one of them deleted; and where that was."""
    root = tmp_path_factory.mktemp("spoiled")
    tree = write_tree(root / "tree")
    path = tree / "train" / "mitochondria" / f"{SPOILED}.png"
    mask = imagecodecs.png_decode(path.read_bytes())
    rows, columns = np.nonzero(mask)
    of_first = (np.abs(np.arange(64)[:, None] - rows[0] - 11) < 13) & (
        np.abs(np.arange(64) - columns[0]) < 13
    )
    centre = np.argwhere(of_first & (mask > 0)).mean(axis=0)
    path.write_bytes(imagecodecs.png_encode(np.where(of_first, 0, mask)))
    write_prepared(read_input(PrepareConfig(input=str(tree), pixel_size_nm=5.0)), root / "prepared")
    return str(root / "prepared"), centre


@pytest.fixture(scope="module")
def done(spoiled, tiny, make_store, tmp_path_factory):
    """A store, the output, and the run of a step that was killed in between and began again."""
    folder = tmp_path_factory.mktemp("suspects")
    store = make_store(folder / "store")
    settings = {name: value for name, value in tiny.items() if name != "device"}
    config = SuspectsConfig(
        dataset=spoiled[0],
        structure="mito",
        folds=3,
        method="scratch",
        training=",".join(f"{name}={value}" for name, value in settings.items()),
        device="cpu",
        output=str(folder / "out"),
    )
    with pytest.MonkeyPatch.context() as patch:

        def die(*arguments, **named):
            raise KeyboardInterrupt

        judge = step.judge_section
        patch.setattr(step, "judge_section", die)
        with pytest.raises(KeyboardInterrupt):
            suspects(config, store)
        assert not (folder / "out").exists()
        patch.setattr(step, "judge_section", judge)
        # Nothing is trained or predicted again.
        patch.setattr(training, "_train", die)
        run_id = suspects(config, store)
    return store, folder / "out", run_id


def test_the_deleted_object_is_first(done, spoiled):
    table = pd.read_csv(done[1] / "suspects.csv")
    first = table.iloc[0]
    assert (first["kind"], first["rank"]) == ("missing", 1)
    assert first["section"].endswith(SPOILED)
    assert np.allclose((first["y_px"], first["x_px"]), spoiled[1], atol=3)
    assert len(table) >= 10
    assert table["doubt"].is_monotonic_decreasing
    # Those of train and val.
    assert table["section"].nunique() == 5


def test_pictures_and_files_to_correct(done):
    output = done[1]
    pictures = sorted(path.name for path in (output / "pictures").iterdir())
    table = pd.read_csv(output / "suspects.csv")
    assert len(pictures) == len(table)
    assert pictures[0].startswith("0001_missing_")
    assert (output / "suspects.png").stat().st_size > 10_000
    project = read_project(output / "trakem2" / "project.xml")
    assert project is not None
    rois = read_rois(output / "rois" / "RoiSet.zip")
    assert rois
    raw = tifffile.imread(output / "rois" / "raw.tif")
    assert raw.shape[-2:] == (64, 64)


def test_its_run_has_the_trainings_as_children(done):
    store, output, run_id = done
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["suspects/objects"] == len(pd.read_csv(output / "suspects.csv"))
    trained = store.client.search_runs([store.experiment_id], "tags.`bench.step` = 'fold'")
    assert len(trained) == 3
    # No table has a row of them.
    assert newest_trainings(store, store.experiment_id) == []
    assert all(each.data.tags["mlflow.parentRunId"] for each in trained)
    assert not [path for path in output.parent.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (("--structure", "golgi"), "golgi"),
        (("--formats", "word"), "unknown format 'word'"),
        (("--method", "unadapted"), "method must be one that finetune trains"),
        (("--training", "seed=3"), "training must not name seed"),
        (("--training", "speed=3"), "speed"),
        (("--folds", "2"), "at least 3"),
        (("--dataset", "nowhere"), "nowhere must be a prepared dataset"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    spoiled, store, run_entry_point, tmp_path, settings, error
):
    given = ["--dataset", spoiled[0], "--output", str(tmp_path / "new" / "out"), *settings]
    status, said = run_entry_point("suspects", *given)
    assert status == 2
    assert error in said
    assert said.strip().count("\n") == 0
    assert not (tmp_path / "new").exists()


def test_an_output_that_exists_is_left_alone(spoiled, store, run_entry_point, tmp_path):
    (tmp_path / "mine").write_text("mine")
    status, said = run_entry_point(
        "suspects", "--dataset", spoiled[0], "--output", str(tmp_path / "mine")
    )
    assert status == 2
    assert "output must be a new folder" in said
    assert (tmp_path / "mine").read_text() == "mine"
