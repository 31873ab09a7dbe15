"""Messages that depend on where a command is typed, and folders of the wrong kind."""

from pathlib import Path

import pytest

from bench.config.data import PrepareConfig
from bench.core import commands
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.planes import list_planes
from bench.ingest.inputs import read_input
from bench.models.foreign import convert_foreign
from bench.steps.training.source import resolve_source
from bench.tracking.store import open_store

READERS = {
    "prepare": lambda store: read_input(PrepareConfig(input="my_data")),
    "segment": lambda store: list_planes("my_data", None, "auto"),
    "a dataset": lambda store: PreparedDataset.open("my_data"),
    "a source": lambda store: resolve_source(store, "my_data"),
    "a checkpoint": lambda store: convert_foreign(Path("my_data"), folder=Path("out")),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_relative_path_to_nothing_is_said_with_its_folder(reader, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError) as error:
        READERS[reader](store)
    assert f"{tmp_path / 'my_data'}" in str(error.value)


def test_a_raw_folder_as_dataset_is_not_offered_as_output(tiny_tree):
    with pytest.raises(BenchError) as error:
        PreparedDataset.open(tiny_tree)
    assert f"output={tiny_tree}" not in str(error.value)
    assert f"run prepare with -P input={tiny_tree} -P output=NEW_FOLDER" in str(error.value)


class Started:
    """A process of `mlflow run`, as psutil shows it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.environment = folder, environment

    def cwd(self) -> str:
        return str(self.folder)

    def environ(self) -> dict[str, str]:
        return self.environment


@pytest.fixture
def started(monkeypatch, tmp_path, make_store):
    """A step that `mlflow run PROJECT` started, which was typed in another folder."""
    store = make_store(tmp_path)
    Path(store.uri.removeprefix("sqlite:///")).rename(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    def start(**environment: str) -> None:
        process = Started(tmp_path, **environment)
        monkeypatch.setattr(commands, "_started_by_mlflow", lambda: process)

    return start


def test_a_second_store_that_mlflow_made_by_itself_is_refused(started, tmp_path):
    started()
    with pytest.raises(BenchError, match="runs go to the store of the project") as error:
        open_store()
    assert f"remove {tmp_path / 'mlflow.db'}, unless" in str(error.value)


def test_a_store_that_the_user_named_is_not(started, tmp_path):
    started(MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(BenchError, match="must name a store, run and experiment"):
        open_store()  # the run of the test is in no store
