"""The engine of an evaluation: in its identity, its predictions and its recipe, and followed."""

import json
from dataclasses import replace

import h5py
import pytest
import torch

from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig
from bench.errors import BenchError
from bench.inference import engines
from bench.recipe.recipe import RECIPE_FILE, read_recipe
from bench.steps.evaluate import evaluate
from bench.steps.scoring import int8
from bench.steps.scoring.evaluation_task import identify_evaluation, resolve_evaluation
from bench.steps.segment import segment
from bench.tracking.queries import fetch_artifact, read_settings
from bench.words import INT8, OPENVINO

RECORD = f"{INT8} 2026.4.1 0:1"


@pytest.fixture
def pretended(monkeypatch):
    """OpenVINO as if it were installed; it is torch's network."""
    monkeypatch.setattr(engines, "check_engine", lambda compute: None)
    monkeypatch.setattr(engines, "convert", lambda network, info, compute: network)


def test_what_was_evaluated_is_what_segments(pipeline, use_store, pretended, tmp_path, tiny_tree):
    use_store(pipeline.store)
    config = EvaluateConfig(
        dataset=str(pipeline.dataset), run_id=pipeline.trained, device="cpu", engine=OPENVINO
    )
    run_id = evaluate(config, pipeline.store)
    recipe = read_recipe(fetch_artifact(pipeline.store, run_id, RECIPE_FILE))
    assert [member.engine for member in recipe.members] == [OPENVINO]
    assert read_settings(pipeline.store, run_id)["engine"] == OPENVINO
    with h5py.File(fetch_artifact(pipeline.store, run_id, "predictions.h5")) as file:
        assert file.attrs["engine"] == OPENVINO
    runs = []
    for number, settings in enumerate(({}, {"engine": "torch"}, {"engine": OPENVINO})):
        output = tmp_path / str(number)
        given = {"input": str(tiny_tree / "test/raw/s6.png"), "output": str(output)}
        given |= {"run_id": run_id, "pixel_size_nm": 5.0, "device": "cpu"} | settings
        runs.append(segment(SegmentConfig(**given)))
        said = json.loads((output / "segmentation.json").read_text())["engine"]
        assert said == [settings.get("engine", OPENVINO)]
    assert runs[0] == runs[2] != runs[1]


def test_auto_follows_the_newest_evaluation_of_the_model(pipeline, pretended, monkeypatch):
    """A search takes validation and test of one engine together, and a tile is timed by chance."""
    monkeypatch.setattr(engines, "_is_installed", lambda: True)
    monkeypatch.setattr(engines, "_measure", lambda compute, path: {"torch": 1.0, OPENVINO: 2.0})
    config = EvaluateConfig(
        dataset=str(pipeline.dataset), run_id=pipeline.trained, device="cpu", threshold=0.4
    )
    runs = [evaluate(replace(config, engine=OPENVINO), pipeline.store)]
    runs.append(evaluate(replace(config, split="test"), pipeline.store))
    said = [read_settings(pipeline.store, run_id)["engine"] for run_id in runs]
    # Other tests ask the same store for the newest evaluation.
    for run_id in runs:
        pipeline.store.client.delete_run(run_id)
    assert said == [OPENVINO, OPENVINO]


def test_predictions_of_engines_are_of_different_runs(pipeline, pretended):
    config = EvaluateConfig(dataset=str(pipeline.dataset), run_id=pipeline.trained)
    found = {
        engine: identify_evaluation(
            resolve_evaluation(replace(config, engine=engine), pipeline.store)
        )
        for engine in ("auto", "torch", OPENVINO)
    }
    assert len({each.fingerprint() for each in found.values()}) == 3
    # Runs of before there was a choice are those of auto.
    assert "engine" not in found["auto"].settings


class Moved(torch.nn.Module):
    """A network whose logits are larger by so much."""

    def __init__(self, network, moved):
        super().__init__()
        self.network, self.moved = network, moved

    def forward(self, tiles):
        return self.network(tiles) + self.moved


@pytest.fixture
def eight_bits(pretended, monkeypatch):
    """Eight bits as if they moved every logit by so much."""

    def pretend(moved):
        def convert(network, info, compute):
            return Moved(network, moved if compute.engine == RECORD else 0.0)

        monkeypatch.setattr(engines, "convert", convert)
        monkeypatch.setattr(engines, "check_recorded", lambda compute, engine: None)
        monkeypatch.setattr(
            int8, "measure_limits", lambda compute, *_: replace(compute, engine=RECORD)
        )

    return pretend


def test_eight_bits_are_said_in_the_recipe_and_followed(
    pipeline, use_store, eight_bits, tmp_path, tiny_tree
):
    use_store(pipeline.store)
    eight_bits(0.0)
    config = EvaluateConfig(
        dataset=str(pipeline.dataset), run_id=pipeline.trained, device="cpu", engine=INT8
    )
    runs = [evaluate(config, pipeline.store)]
    runs.append(evaluate(replace(config, engine="auto", split="test"), pipeline.store))
    given = {"input": str(tiny_tree / "test/raw/s6.png"), "output": str(tmp_path / "out")}
    segment(SegmentConfig(run_id=runs[0], pixel_size_nm=5.0, device="cpu", **given))
    recipes = [read_recipe(fetch_artifact(pipeline.store, run, RECIPE_FILE)) for run in runs]
    for run_id in runs:
        pipeline.store.client.delete_run(run_id)
    assert [recipe.members[0].engine for recipe in recipes] == [RECORD, RECORD]
    assert json.loads((tmp_path / "out/segmentation.json").read_text())["engine"] == [RECORD]


def test_eight_bits_that_change_the_validation_dice_are_refused(pipeline, eight_bits):
    eight_bits(30.0)
    config = EvaluateConfig(
        dataset=str(pipeline.dataset),
        run_id=pipeline.trained,
        device="cpu",
        engine=INT8,
        split="test",
        threshold=0.3,
    )
    with pytest.raises(BenchError, match=r"by at most 0.002, received .*: use engine=openvino$"):
        evaluate(config, pipeline.store)


@pytest.mark.usefixtures("needs_openvino")
def test_eight_bits_of_openvino_itself(pipeline, monkeypatch):
    # So small a network loses more than is allowed.
    monkeypatch.setattr(int8, "_MOST_APART", 0.1)
    config = EvaluateConfig(
        dataset=str(pipeline.dataset),
        run_id=pipeline.trained,
        device="cpu",
        engine=INT8,
        threshold=0.6,
    )
    run_id = evaluate(config, pipeline.store)
    recipe = read_recipe(fetch_artifact(pipeline.store, run_id, RECIPE_FILE))
    pipeline.store.client.delete_run(run_id)
    assert recipe.members[0].engine.startswith(f"{INT8} ")


def test_a_package_that_applies_models_itself_has_no_engine(pipeline, pretended):
    settings = {"segmentation": "synapse_net", "engine": OPENVINO, "metrics": "dice"}
    config = EvaluateConfig(dataset=str(pipeline.dataset), run_id=pipeline.trained, **settings)
    with pytest.raises(BenchError, match="by its own package, received engine=openvino: leave one"):
        evaluate(config, pipeline.store)
