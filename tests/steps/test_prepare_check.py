"""prepare with check=true: a report, and no dataset."""

import logging
import shutil

import pytest

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.steps.prepare import prepare


@pytest.fixture
def own_store(make_store, tmp_path, monkeypatch):
    store = make_store(tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
    monkeypatch.chdir(tmp_path)
    return store


def artifacts(store, run_id):
    return {file.path for file in store.client.list_artifacts(run_id, "check")}


def test_a_check_leaves_a_report_and_no_dataset(own_store, tiny_tree, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    output = tmp_path / "prepared"
    config = PrepareConfig(input=str(tiny_tree), output=str(output), pixel_size_nm=5.0, check=True)
    run_id = prepare(config)
    assert not output.exists()
    run = own_store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["bench.step"] == "check"
    assert run.data.metrics["check/errors"] == 0
    names = artifacts(own_store, run_id)
    assert "check/findings.json" in names
    sections = len(list(tiny_tree.glob("*/raw/*")))
    assert len(names) == sections + 1
    said = capsys.readouterr().out
    assert "0 errors" in said
    # The pictures lie in a folder by name, too, and the dataset is one command away.
    assert "Pictures and findings: results/check/tiny" in said
    folder = tmp_path / "results/check/tiny"
    assert {f"check/{path.name}" for path in folder.iterdir()} == names
    *_, picture, following = [record.message for record in caplog.records]
    assert (tmp_path / picture.removeprefix("picture: ")).is_file()
    assert following.startswith("next, to write the dataset:\n  ")
    assert f"prepare.py --input {tiny_tree} --output {output} --pixel_size_nm 5.0" in following
    assert "--check" not in following


def test_pictures_of_the_check_before_are_replaced_and_others_stay(own_store, write_tree, tmp_path):
    root = write_tree(tmp_path / "mine")
    config = PrepareConfig(input=str(root), output=str(tmp_path / "out"), check=True)
    prepare(config)
    folder = tmp_path / "results/check/mine"
    (folder / "notes.txt").write_text("seen")
    for path in root.glob("test/*/s7.png"):
        path.unlink()
    prepare(config)
    names = {path.name for path in folder.iterdir()}
    assert {"notes.txt", "findings.json", "test-s6.png"} <= names
    assert "test-s7.png" not in names


def test_an_error_ends_the_command_after_the_whole_report(
    own_store, tiny_tree, tmp_path, capsys, caplog
):
    caplog.set_level(logging.INFO)
    tree = tmp_path / "tree"
    shutil.copytree(tiny_tree, tree)
    first = min((tree / "train/raw").iterdir())
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    config = PrepareConfig(input=str(tree), output=str(tmp_path / "out"), check=True)
    with pytest.raises(BenchError, match="must be free of errors, received 1 error"):
        prepare(config)
    assert first.stem in capsys.readouterr().out
    assert "to check again once what is listed is corrected" in caplog.text
    assert "--check true" in caplog.text
    assert not (tmp_path / "out").exists()
    (run,) = own_store.client.search_runs([own_store.experiment_id])
    assert run.info.status == "FAILED"
    assert "free of errors" in run.data.tags["bench.reason"]
    assert "check/findings.json" in artifacts(own_store, run.info.run_id)
