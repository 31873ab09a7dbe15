"""What commands end with: scores, a picture that is there, and a next command that can be typed."""

import logging
import shlex
from pathlib import Path

import pytest

from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig
from bench.config.training import FinetuneConfig
from bench.metrics.table import HEADLINE
from bench.steps.ending import end_command
from bench.steps.scoring.saying import describe_scores


@pytest.fixture
def said(pipeline, monkeypatch, caplog):
    """The lines of an ending, by the store of the pipeline."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", pipeline.store.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", pipeline.store.experiment_id)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    caplog.set_level(logging.INFO)
    return lambda: [record.message for record in caplog.records]


def options_of(line: str) -> tuple[str, dict[str, str]]:
    """The entry point and the options of a next command, which stands on a line of its own."""
    _, _, command = line.partition(":\n  ")
    _, script, *words = shlex.split(command)
    return Path(script).stem, dict(zip(words[::2], words[1::2], strict=True))


def check_picture(line: str) -> Path:
    path = Path(line.removeprefix("picture: "))
    assert path.suffix == ".png"
    assert path.is_file()
    return path


def test_a_training_shows_what_it_sees_at_last_and_how_to_score_it(said, pipeline):
    end_command("finetune", FinetuneConfig(dataset=str(pipeline.dataset)), pipeline.trained)
    picture, following = said()
    assert "step" in check_picture(picture).name
    assert "40" in check_picture(picture).name
    expected = {"--dataset": str(pipeline.dataset), "--run_id": pipeline.trained}
    assert options_of(following) == ("evaluate", expected)


def test_an_evaluation_says_its_scores_with_their_interval_and_of_what(said, pipeline):
    config = EvaluateConfig(dataset=str(pipeline.dataset), run_id=pipeline.trained)
    end_command("evaluate", config, pipeline.on_val)
    scores, picture, following = said()
    assert scores.startswith("mitochondria by scratch, val sections of prepared@")
    assert "2 sections, worth 1.5, 95 % interval of their mean Dice 0." in scores
    metrics = pipeline.store.client.get_run(pipeline.on_val).data.metrics
    assert f"Dice {metrics[f'val/{HEADLINE}']:.3f}, IoU {metrics['val/iou']:.3f}, " in scores
    check_picture(picture)
    step, options = options_of(following)
    assert (step, options["--split"], options["--run_id"]) == ("evaluate", "test", pipeline.trained)


def test_after_the_test_split_comes_the_table(said, pipeline):
    config = EvaluateConfig(dataset=str(pipeline.dataset), split="test")
    end_command("evaluate", config, pipeline.on_test)
    assert options_of(said()[-1]) == ("compare", {"--dataset": str(pipeline.dataset)})


def test_one_section_has_no_interval():
    line = describe_scores({"dice": 0.5}, {"s1": {"dice": 0.5}})
    assert line == "Dice 0.500 (one section, which cannot say how sure Dice is)"


def test_a_search_ends_with_the_model_that_it_may_become(said, searched, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", searched.store.uri)
    end_command("optimize", OptimizeConfig(structure="mito"), searched.single)
    picture, following = said()
    check_picture(picture)
    assert options_of(following) == (
        "promote",
        {"--structure": "mito", "--run_id": searched.single},
    )


def test_a_segmentation_ends_with_a_picture(said, tmp_path):
    folder = tmp_path / "out" / "overlays"
    folder.mkdir(parents=True)
    (folder / "s1.png").write_bytes(b"")
    end_command("segment", SegmentConfig(output=str(tmp_path / "out")), "run7")
    picture, measuring, following = said()
    check_picture(picture)
    named = {"--input": str(tmp_path / "out"), "--output": str(tmp_path / "out_measured")}
    assert options_of(measuring) == ("measure", named)
    expected = {"--run_id": "run7", "--output": str(tmp_path / "out_to_correct")}
    assert options_of(following) == ("export", expected)
