import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from bench.tracking.database import moved_path, relocate_artifacts
from bench.tracking.registry import default_store

BUCKET = "s3://bucket/mlruns/7"


@pytest.fixture
def project(tmp_path, empty_database) -> tuple[Path, str, str]:
    """A project in tmp/a with one run in its store and one whose artifacts are in a bucket."""
    home = tmp_path / "a" / "mlruns"
    home.mkdir(parents=True)
    shutil.copy(empty_database, home / "mlflow.db")
    relocate_artifacts(home / "mlflow.db", home)  # experiment 0 was made elsewhere
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    local = client.create_experiment("local", artifact_location=f"{home}/1")
    remote = client.create_experiment("remote", artifact_location=BUCKET)
    run = client.create_run(local).info.run_id
    client.log_text(run, "hello", "notes/text.txt")
    return tmp_path / "a", run, client.create_run(remote).info.run_id


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def download(folder: Path, run: str) -> str:
    return Path(
        client_of(folder).download_artifacts(run, "notes/text.txt", str(folder / "download"))
    ).read_text()


def relocate(folder: Path) -> int:
    return relocate_artifacts(folder / "mlruns" / "mlflow.db", folder / "mlruns")


def test_artifacts_of_a_moved_project_are_found_again(project, tmp_path, caplog):
    old, run, _ = project
    new = old.rename(tmp_path / "b")
    assert client_of(new).list_artifacts(run, "notes") == []
    with caplog.at_level("INFO"):
        rewritten = relocate(new)
    assert f"{rewritten} paths of artifacts now follow it" in caplog.text
    assert [file.path for file in client_of(new).list_artifacts(run, "notes")] == ["notes/text.txt"]
    assert download(new, run) == "hello"
    assert client_of(new).get_experiment_by_name("local").artifact_location == f"{new}/mlruns/1"


def test_a_copy_uses_its_own_artifacts_and_leaves_the_original_alone(project, tmp_path):
    old, run, _ = project
    new = Path(shutil.copytree(old, tmp_path / "b"))
    assert relocate(new) > 0
    (old / "mlruns" / "1" / run / "artifacts" / "notes" / "text.txt").write_text("of the original")
    assert download(new, run) == "hello"
    assert download(old, run) == "of the original"
    assert relocate(old) == 0


@pytest.mark.parametrize("copied", [False, True])
def test_a_registered_model_follows(project, tmp_path, copied):
    """Where its version points to, as a logged model and as a folder."""
    old, run, _ = project
    client, name = client_of(old), "model"
    logged = client.create_logged_model(client.get_run(run).info.experiment_id, name)
    files = tmp_path / "files"
    files.mkdir()
    (files / "MLmodel").write_text("hello")
    client.log_model_artifacts(logged.model_id, str(files))
    client.create_registered_model(name)
    for source in (f"models:/{logged.model_id}", f"{old}/mlruns/1/{run}/artifacts/notes"):
        with default_store(f"sqlite:///{old}/mlruns/mlflow.db"):
            client.create_model_version(name, source, run_id=run)
    client.set_registered_model_alias(name, "champion", "1")
    new = tmp_path / "b"
    if copied:
        shutil.copytree(old, new)
    else:
        old.rename(new)
    relocate(new)
    for version, file in (("1", "MLmodel"), ("2", "text.txt")):
        place = Path(client_of(new).get_model_version_download_uri(name, version))
        assert (place / file).read_text() == "hello"
        assert place.is_relative_to(new)
    assert client_of(new).get_model_version_by_alias(name, "champion").source.startswith("models:/")
    assert client_of(new).get_model_version(name, "2").source.startswith(f"{new}/mlruns/")


def test_nothing_is_rewritten_twice(project, tmp_path):
    old, *_ = project
    assert relocate(old) == 0
    new = old.rename(tmp_path / "b")
    assert relocate(new) > 0
    assert relocate(new) == 0


def test_a_bucket_is_left_alone(project, tmp_path):
    old, _, remote_run = project
    new = old.rename(tmp_path / "b")
    relocate(new)
    client = client_of(new)
    assert client.get_experiment_by_name("remote").artifact_location == BUCKET
    assert client.get_run(remote_run).info.artifact_uri.startswith(BUCKET)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("b/a", "a"),
        ("my-data", "my_data"),
        ("Bench", "bench"),
        ("host{tmp_path}/places/a", "a"),  # as a container sees it
        ("a", "a/b/mlruns/c"),
        ("my data (new), 100 nm", "µm/it's #1"),
    ],
)
def test_places_that_look_alike_are_not_confused(project, tmp_path, first, second):
    folder, run, _ = project
    for place in (first, second):
        target = tmp_path / "places" / place.format(tmp_path=tmp_path)
        aside = folder.rename(tmp_path / "aside")
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = aside.rename(target)
        assert relocate(folder) > 0
        assert download(folder, run) == "hello"
        assert client_of(folder).get_run(run).info.artifact_uri.startswith(f"{folder}/mlruns/")


def test_a_locked_database_is_waited_for_and_left_whole(project, tmp_path):
    old, run, _ = project
    new = old.rename(tmp_path / "b")
    with sqlite3.connect(new / "mlruns" / "mlflow.db") as reader:
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        relocate(new)
    reader.close()
    assert download(new, run) == "hello"


@pytest.mark.parametrize(
    ("old", "exists_old", "exists_new", "moves"),
    [
        ("{old}/mlruns/1/run", False, True, True),
        ("file://{old}/mlruns/1/run", False, True, True),
        ("{old}/mlruns/1/run", True, True, True),  # a copy
        ("{old}/mlruns/1/run", False, False, True),  # nothing was logged
        ("{old}/mlruns/1/run", True, False, False),  # kept elsewhere on purpose
        ("{old}/artifacts/1/run", False, False, False),
        ("s3://bucket/mlruns/1/run", False, True, False),
        ("mlflow-artifacts:/mlruns/1/run", False, True, False),
        ("", False, False, False),
    ],
)
def test_which_paths_move(tmp_path, old, exists_old, exists_new, moves):
    before, home = tmp_path / "before", tmp_path / "after" / "mlruns"
    for folder, exists in ((before / "mlruns", exists_old), (home, exists_new)):
        if exists:
            (folder / "1" / "run").mkdir(parents=True)
    expected = str(home / "1" / "run") if moves else None
    assert moved_path(old.format(old=before), home) == expected
