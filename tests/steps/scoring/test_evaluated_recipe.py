import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.config.data import ExportConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig
from bench.core.version import without_prose
from bench.errors import BenchError
from bench.inference.prediction_file import read_mean
from bench.inference.symmetries import SYMMETRIES
from bench.recipe.recipe import RECIPE_FILE, read_recipe
from bench.steps.export import export
from bench.steps.optimize import optimize
from bench.steps.scoring.evaluation_task import resolve_evaluation
from bench.steps.scoring.recipes import find_model, read_evaluated
from bench.steps.segment import segment
from bench.steps.serving.subject import find_segment_subject
from bench.tracking.evaluations import get_evaluation
from bench.tracking.queries import fetch_artifact, read_settings


@pytest.fixture
def use_searched(searched, use_store):
    use_store(searched.store)
    return searched


def test_the_recipe_is_what_the_evaluation_did(use_searched):
    run = use_searched.on_test[0]
    settings = read_settings(use_searched.store, run)
    recipe = find_model(run, use_searched.store).recipe
    assert recipe.augmentations == tuple(SYMMETRIES)
    assert recipe.pixel_size_nm == 5.0
    assert recipe.level == 128
    assert str(recipe.opening_radius_px) == settings["opening_radius_px"]
    assert str(recipe.min_area_px) == settings["min_area_px"]
    (member,) = recipe.members
    assert (member.trained_run, member.evaluation) == (use_searched.trained[0], run)
    assert recipe.blend.passes == 8


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_evaluation_writes_what_it_did_and_its_scores(pipeline, split):
    run_id = getattr(pipeline, f"on_{split}")
    recipe = read_recipe(fetch_artifact(pipeline.store, run_id, RECIPE_FILE))
    run = pipeline.store.client.get_run(run_id).data
    scores = {"val": recipe.validation, "test": recipe.test}
    logged = {name: run.metrics[f"{split}/{name}"] for name in scores[split]}
    assert scores.pop(split) == logged
    assert list(scores.values()) == [{}]
    assert (recipe.metric, recipe.segmentation) == ("none", "own")
    assert recipe.origin == read_settings(pipeline.store, run_id)["postprocess_origin"]
    assert recipe.members[0].evaluation == run_id
    assert read_evaluated(get_evaluation(pipeline.store, run_id), pipeline.store) == recipe


def test_the_way_of_a_package_is_in_the_recipe(pipeline):
    config = EvaluateConfig(dataset=str(pipeline.dataset), run_id=pipeline.trained)
    ways = [
        resolve_evaluation(replace(config, segmentation=way), pipeline.store).recipe
        for way in ("own", "synapse_net")
    ]
    assert ways[1] == replace(ways[0], segmentation="synapse_net")
    assert without_prose(ways[0]) != without_prose(ways[1])


@pytest.fixture
def as_earlier():
    """Within it, evaluations are as an earlier version left them: their parameters only."""

    @contextlib.contextmanager
    def hide(store, *run_ids):
        files = [fetch_artifact(store, run_id, RECIPE_FILE) for run_id in run_ids]
        hidden = [file.rename(file.parent.parent / f"{file.parent.name}.hidden") for file in files]
        try:
            yield
        finally:
            for file, elsewhere in zip(files, hidden, strict=True):
                elsewhere.rename(file)

    return hide


def test_what_an_earlier_version_left_says_the_same(use_searched, pipeline, as_earlier):
    for store, run_id in (
        *((use_searched.store, run_id) for run_id in use_searched.on_test),
        (pipeline.store, pipeline.on_val),
        (pipeline.store, pipeline.on_test),
    ):
        written = read_evaluated(get_evaluation(store, run_id), store)
        with as_earlier(store, run_id):
            found = read_evaluated(get_evaluation(store, run_id), store)
        assert found == replace(written, validation={}, test={})


def test_segment_and_export_do_the_same_with_it(
    use_searched, as_earlier, tmp_path, tiny_tree, contents
):
    """They are the same runs, too."""
    store, run_id = use_searched.store, use_searched.on_test[0]

    def apply(name):
        image, output = str(tiny_tree / "test/raw/s6.png"), str(tmp_path / name)
        segmented = segment(
            SegmentConfig(
                run_id=run_id, input=image, output=output, pixel_size_nm=5.0, device="cpu"
            )
        )
        labels = ExportConfig(
            dataset=str(use_searched.dataset), run_id=run_id, format="tiff", output=f"{output}-tiff"
        )
        return segmented, export(labels, store)

    first = apply("written")
    with as_earlier(store, run_id):
        assert apply("earlier") == first
    assert contents(tmp_path / "earlier") == contents(tmp_path / "written")
    exported = contents(tmp_path / "written-tiff")
    assert contents(tmp_path / "earlier-tiff") == exported
    assert len(exported) > 0


def test_optimize_finds_the_same_with_it(use_searched, as_earlier, tmp_path, contents):
    client = use_searched.store.client
    validations = [
        run.info.run_id
        for run in client.search_runs(
            [use_searched.store.experiment_id],
            "tags.`bench.step` = 'evaluate' AND tags.`bench.split` = 'val'",
        )
    ]

    def search(name):
        config = OptimizeConfig(
            dataset=str(use_searched.dataset),
            augmentations="all",
            ensembles="mean",
            finalists=1,
            opening_radii_px="0",
            output=str(tmp_path / name),
        )
        run_id = optimize(config)
        # Else the second would be the first.
        client.delete_run(run_id)
        return run_id

    first = search("written")
    with as_earlier(use_searched.store, *validations, *use_searched.on_test):
        assert search("earlier") != first
    found = contents(tmp_path / "written")
    assert contents(tmp_path / "earlier") == found
    assert json.loads(found["recipe.json"])["members"]


PARAMETERS = {
    "segmentation": "own",
    "rescale": "False",
    "threshold": "0.5",
    "opening_radius_px": "1",
    "min_area_px": "20",
    "watershed": "none",
    "source": "model.safetensors",
    "weights_sha256": "0" * 64,
}


@pytest.fixture
def read_recorded(evaluated, store):
    """Reads the recipe of an evaluation that left parameters only."""

    def read(parameters):
        logged = {f"cfg.{name}": value for name, value in parameters.items()}
        run_id = evaluated(0.5, logged=logged)
        return read_evaluated(get_evaluation(store, run_id), store)

    return read


def test_parameters_are_read_as_their_types(read_recorded):
    recipe = read_recorded(PARAMETERS)
    assert recipe.rescale is False
    assert (recipe.level, recipe.opening_radius_px, recipe.min_area_px) == (128, 1, 20)
    assert (recipe.pixel_size_nm, recipe.augmentations) == (None, ("identity",))
    assert recipe.members[0].source == "model.safetensors"
    more = {"rescale": "True", "dataset_pixel_size_nm": "1.5", "augmentations": "all"}
    recipe = read_recorded(PARAMETERS | more)
    assert recipe.rescale is True
    assert (recipe.pixel_size_nm, recipe.augmentations) == (1.5, tuple(SYMMETRIES))
    assert read_recorded(PARAMETERS | {"dataset_pixel_size_nm": "None"}).pixel_size_nm is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rescale": "yes"}, "parameter rescale of run .* must be of type bool, received 'yes'"),
        ({"opening_radius_px": "True"}, "must be of type int, received 'True'"),
        ({"min_area_px": "2.5"}, "must be of type int, received '2.5'"),
        ({"dataset_pixel_size_nm": "unknown"}, "of type float or NoneType, received 'unknown'"),
        ({"threshold": None}, r"has no recipe.json and no parameters threshold: evaluate the mod"),
        (dict.fromkeys(PARAMETERS), r"no parameters segmentation, rescale, threshold, opening"),
    ],
)
def test_parameters_that_do_not_say_it(read_recorded, change, message):
    given = {name: value for name, value in (PARAMETERS | change).items() if value is not None}
    with pytest.raises(BenchError, match=message) as error:
        read_recorded(given)
    assert "\n" not in str(error.value)


def test_lengths_follow_the_image_and_what_the_user_sets_does_not(use_searched):
    """At 2.5 nm a radius is twice as many px, an area four times as many."""
    given = SegmentConfig(run_id=use_searched.on_test[0], device="cpu")
    subject = find_segment_subject(given, use_searched.store)
    recipe = subject.recipe
    found = subject.recipe.postprocess(2.5, subject.sizes)
    assert found.opening_radius_px == 2 * recipe.opening_radius_px > 0
    assert found.min_area_px == 4 * recipe.min_area_px > 0
    subject = find_segment_subject(replace(given, min_area_px=7), use_searched.store)
    found = subject.recipe.postprocess(2.5, subject.sizes)
    assert (found.opening_radius_px, found.min_area_px) == (2 * recipe.opening_radius_px, 7)
    assert subject.origin.endswith("Set by the user: min_area_px.")


@pytest.mark.parametrize("choice", ["auto", "paper", "none"])
def test_segment_averages_over_the_augmentations(use_searched, tmp_path, tiny_tree, choice):
    """Those of the evaluation, unless the user wants others; bit for bit the stored mean."""
    run, out = use_searched.on_test[1], tmp_path / "out"
    image = str(tiny_tree / "test/raw/s6.png")
    given = {"augmentations": choice, "pixel_size_nm": 5.0, "device": "cpu"}
    segment(SegmentConfig(run_id=run, input=image, output=str(out), **given))
    names = {
        "auto": tuple(SYMMETRIES),
        "paper": tuple(name for name in SYMMETRIES if name != "antitranspose"),
        "none": ("identity",),
    }
    stored = fetch_artifact(use_searched.store, run, "predictions.h5")
    expected = read_mean(stored, "test-s6", names[choice]).foreground
    np.testing.assert_array_equal(tifffile.imread(out / "probability/s6.tif"), expected)
