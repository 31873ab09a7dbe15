"""A published folder: whole, the same whenever it is written, without paths, and checkable."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.config.scoring import PromoteConfig, PublishConfig
from bench.errors import BenchError
from bench.recipe.recipe import read_recipe_folder
from bench.steps.promote import promote
from bench.steps.publish import publish
from bench.tracking.queries import fetch_artifact
from bench.tracking.registry import CARD_FILE, fetch_model, find_champion

FILES = {
    *("README.md", "MODEL_CARD.md", "SHA256SUMS", "ro-crate-metadata.json"),
    *("dataset.json", "runs.json", "environment.json", "requirements.txt"),
    *("recipe/recipe.json", "scores/val.json", "scores/val.csv"),
    *("scores/test.json", "scores/test.csv"),
}


@pytest.fixture(autouse=True)
def use_searched(searched, use_store):
    use_store(searched.store)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def published(searched, tmp_path_factory):
    """That of the search of two models; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("published") / "result"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", searched.store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", searched.store.experiment_id)
        publish(PublishConfig(run_id=searched.ensemble, output=str(folder)))
    return folder


def test_it_has_all_that_a_check_needs_and_no_images(published, searched):
    content = files_of(published)
    weights = {name for name in content if name.startswith("recipe/member")}
    assert set(content) - weights == FILES
    assert len(weights) == 4
    recipe, _ = read_recipe_folder(published / "recipe")
    data = json.loads(content["dataset.json"])
    assert data["content_hash"] == data["manifest"]["content_hash"] == recipe.dataset
    runs = {run["id"] for run in json.loads(content["runs.json"])["runs"]}
    assert runs >= {searched.ensemble, *searched.trained}
    assert json.loads(content["environment.json"])["runs_of_this_code"] is True
    assert b"torch==" in content["requirements.txt"]
    entities = {e["@id"]: e for e in json.loads(content["ro-crate-metadata.json"])["@graph"]}
    made = [entities[f"#{run}"]["result"] for run in searched.trained]
    assert {each["@id"] for each in made} == {name for name in weights if "safe" in name}


def test_others_programs_agree_that_nothing_was_changed(published):
    command = ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"]
    subprocess.run(command, cwd=published, check=True)
    named = (published / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in named} == set(files_of(published)) - {"SHA256SUMS"}


def test_no_path_of_this_machine_is_in_it(published, searched):
    home = str(searched.dataset.parents[1])
    for name, content in files_of(published).items():
        assert home.encode() not in content, name


def test_scores_by_section_are_those_of_the_search(published, searched):
    scores = json.loads((published / "scores" / "test.json").read_text())
    kept = json.loads(fetch_artifact(searched.store, searched.ensemble, "scores.json").read_text())
    assert scores["sections"] == kept["sections"]
    card = (published / "MODEL_CARD.md").read_text()
    assert "| val | Dice | " in card
    assert "not kept" not in card, "scores of validation sections are kept, too"


def test_it_is_the_same_whenever_it_is_written(published, searched, tmp_path):
    again = tmp_path / "again"
    first = publish(PublishConfig(run_id=searched.ensemble, output=str(again)))
    assert files_of(again) == files_of(published)
    assert searched.store.client.get_run(first).info.status == "FINISHED"
    with pytest.raises(BenchError, match=r"must be a new folder, received .* which exists"):
        publish(PublishConfig(run_id=searched.ensemble, output=str(again)))
    assert files_of(again) == files_of(published)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_checked_on_the_data_its_scores_come_out_to_the_last_digit(published, searched):
    config = PublishConfig(check=str(published), dataset=str(searched.dataset), device="cpu")
    run = searched.store.client.get_run(publish(config))
    assert run.data.metrics["val/largest_difference"] == 0
    assert run.data.metrics["test/largest_difference"] == 0


@pytest.mark.parametrize("name", ["recipe/recipe.json", "scores/test.csv"])
def test_a_file_that_was_changed_is_named(published, tmp_path, name):
    copy = shutil.copytree(published, tmp_path / "copy")
    (copy / name).write_text((copy / name).read_text() + " ")
    with pytest.raises(BenchError, match=f"received others for {name}"):
        publish(PublishConfig(check=str(copy)))


def test_a_score_that_does_not_come_out_is_named(published, searched, tmp_path):
    copy = shutil.copytree(published, tmp_path / "copy")
    scores = json.loads((copy / "scores" / "test.json").read_text())
    scores["pooled"]["dice"] += 0.01
    (copy / "scores" / "test.json").write_text(json.dumps(scores))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files_of(copy).items()}
    del sums["SHA256SUMS"]
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (copy / "SHA256SUMS").write_text(text)
    config = PublishConfig(check=str(copy), dataset=str(searched.dataset), device="cpu")
    with pytest.raises(BenchError, match=r"received dice of test that differs by 0\.0100"):
        publish(config)


def test_images_only_where_they_are_asked_for(searched, tmp_path):
    output = tmp_path / "with"
    publish(PublishConfig(run_id=searched.single, output=str(output), images=True, weights=False))
    content = files_of(output)
    assert not any(name.endswith(".safetensors") for name in content)
    copied = {name.removeprefix("dataset/") for name in content if name.startswith("dataset/")}
    assert copied == set(files_of(searched.dataset))
    # What it lacks is said, what it has is compared.
    run = searched.store.client.get_run(publish(PublishConfig(check=str(output))))
    assert "test/largest_difference" not in run.data.metrics


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"run_id": "0" * 32}, "no run has the id"),
        ({"run_id": "models:/none@champion"}, "no model is registered as"),
        ({"dataset": "nowhere"}, "dataset must be the one that the model was scored on"),
        ({"check": "nowhere"}, "check must be a folder that publish wrote"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(searched, tmp_path, settings, words):
    given = {"run_id": searched.single, "output": str(tmp_path / "out")} | settings
    with pytest.raises(BenchError, match=words):
        publish(PublishConfig(**given))
    assert list(tmp_path.iterdir()) == []


def test_a_champion_has_a_card_and_is_published_by_its_structure(searched, tmp_path):
    run = promote(PromoteConfig(structure="mito", run_id=searched.single, replace=True))
    champion = find_champion(searched.store, "mitochondria", "prepared")
    card = (fetch_model(searched.store, champion) / CARD_FILE).read_text()
    assert card == fetch_artifact(searched.store, run, CARD_FILE).read_text()
    assert champion.champion_uri in card
    assert "| train (learned from) | " in card
    publish(PublishConfig(structure="mito", output=str(tmp_path / "out")))
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())["runs"]
    assert {run, searched.single} <= {each["id"] for each in runs}
    assert runs[-1]["step"] == "promote"


def test_an_evaluated_training_is_published_with_both_splits(searched, tmp_path):
    publish(PublishConfig(run_id=searched.trained[0], output=str(tmp_path / "out")))
    assert {path.stem for path in (tmp_path / "out" / "scores").iterdir()} == {"val", "test"}
    steps = [each["step"] for each in json.loads((tmp_path / "out/runs.json").read_text())["runs"]]
    assert steps == ["finetune", "evaluate", "evaluate"]
