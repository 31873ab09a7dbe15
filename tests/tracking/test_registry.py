import dataclasses
import re
import shutil

import pytest

from bench.errors import BenchError
from bench.tracking.registry import (
    fetch_model,
    find_champion,
    find_version,
    get_registered,
    list_champions,
    model_name,
    set_champion,
)

# As earlier versions named it: by the structure alone.
VESICLES = "synapse-bench-vesicles"


@pytest.fixture
def register(store, tmp_path):
    """Registers a version of a model whose files are in a folder."""

    def make(structure, recipe, folder=None, dataset="", dataset_name=""):
        folder = folder or tmp_path / "model"
        folder.mkdir(exist_ok=True)
        name, client = model_name(structure, dataset_name), store.client
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        tags = {"bench.recipe_sha256": recipe, "bench.structure": structure}
        if dataset:
            tags["bench.dataset"] = dataset
        if dataset_name:
            tags["bench.dataset_name"] = dataset_name
        made = client.create_model_version(name, str(folder), tags=tags)
        return get_registered(store, f"models:/{name}/{made.version}")

    return make


def test_champions_and_versions(store, register):
    assert list_champions(store) == []
    assert find_champion(store, "vesicles", "mine") is None
    assert find_version(store, VESICLES, "a") is None
    first, second = register("vesicles", "a"), register("vesicles", "b")
    again, _other = register("vesicles", "a"), register("membrane", "a")
    assert list_champions(store) == []
    assert find_version(store, VESICLES, "a") == again
    assert find_version(store, VESICLES, "b") == second
    assert find_version(store, VESICLES, "c") is None
    for model in (first, second):
        set_champion(store, model)
        assert find_champion(store, "vesicles", "mine") == model
        assert get_registered(store, model.champion_uri) == model
    assert list_champions(store) == [second]
    assert find_champion(store, "membrane", "mine") is None
    assert (second.uri, second.tags) == (
        "models:/synapse-bench-vesicles/2",
        {"bench.recipe_sha256": "b", "bench.structure": "vesicles"},
    )


def test_champions_of_data_sets_stand_side_by_side(store, register):
    """One of an earlier version is that of its data until there is another."""
    early = register("vesicles", "a", dataset="1" * 64)
    set_champion(store, early)
    assert early.name == VESICLES
    assert find_champion(store, "vesicles", "demo") is None
    assert find_champion(store, "vesicles", "demo", "2" * 64) is None
    assert find_champion(store, "vesicles", "demo", "1" * 64) == early
    mine = register("vesicles", "b", dataset="2" * 64, dataset_name="my cells/2: new")
    set_champion(store, mine)
    assert mine.name == "synapse-bench-vesicles-my-cells-2-new"
    assert list_champions(store) == [early, mine]
    assert find_champion(store, "vesicles", "my cells/2: new", "2" * 64) == mine
    # Whatever it was chosen on, it is the one that has this name.
    assert find_champion(store, "vesicles", "my cells/2: new", "3" * 64) == mine
    later = register("vesicles", "c", dataset="1" * 64, dataset_name="demo")
    set_champion(store, later)
    assert list_champions(store) == [later, mine]
    assert find_champion(store, "vesicles", "demo", "1" * 64) == later
    assert get_registered(store, "models:/synapse-bench-vesicles@champion") == early


def test_an_unknown_name_says_which_champions_there_are(store, register):
    set_champion(store, register("vesicles", "a", dataset_name="demo"))
    there = re.escape("(models:/synapse-bench-vesicles-demo@champion)")
    with pytest.raises(BenchError, match=there):
        get_registered(store, "models:/synapse-bench-vesicles@champion")


@pytest.mark.parametrize(
    "uri",
    [
        "models:/synapse-bench-vesicles@best",
        "models:/synapse-bench-vesicles/7",
        "models:/synapse-bench-vesicles/newest",
        "models:/synapse-bench-vesicles",
        "models:/",
        "models:/nobody@champion",
    ],
)
def test_a_model_that_is_not_registered(store, register, uri):
    register("vesicles", "a")
    with pytest.raises(BenchError, match="no model is registered as models:/") as caught:
        get_registered(store, uri)
    assert "\n" not in str(caught.value)
    assert "run promote first" in str(caught.value)


def test_files_that_are_gone_are_named(store, register, tmp_path):
    """A database that was copied from another machine without its artifacts."""
    model = register("vesicles", "a", tmp_path / "elsewhere")
    assert fetch_model(store, model) == tmp_path / "elsewhere"
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="the files of models:/synapse-bench-vesicles/1 must be"):
        fetch_model(store, model)


def test_files_that_are_kept_elsewhere_are_copied(store, register, tmp_path):
    """From an address that is no folder, through mlflow; once in a process."""
    model = register("vesicles", "a")
    (tmp_path / "model" / "MLmodel").write_text("here")
    remote = dataclasses.replace(model, location="proxy:/1/models")
    first = fetch_model(store, remote)
    assert (first / "MLmodel").read_text() == "here"
    assert first != tmp_path / "model"
    assert fetch_model(store, remote) == first
