import dataclasses
import shutil

import pytest

from bench.errors import BenchError
from bench.tracking.registry import (
    champion_uri,
    fetch_model,
    find_champion,
    find_version,
    get_registered,
    list_champions,
    set_champion,
)


@pytest.fixture
def register(store, tmp_path):
    """Registers a version of a model whose files are in a folder."""

    def make(structure, recipe, folder=None):
        folder = folder or tmp_path / "model"
        folder.mkdir(exist_ok=True)
        name, client = f"synapse-bench-{structure}", store.client
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        made = client.create_model_version(name, str(folder), tags={"bench.recipe_sha256": recipe})
        return get_registered(store, f"models:/{name}/{made.version}")

    return make


def test_champions_and_versions(store, register):
    assert list_champions(store) == []
    assert find_champion(store, "vesicles") is None
    assert find_version(store, "vesicles", "a") is None
    first, second = register("vesicles", "a"), register("vesicles", "b")
    again, _other = register("vesicles", "a"), register("membrane", "a")
    assert list_champions(store) == []
    assert find_version(store, "vesicles", "a") == again
    assert find_version(store, "vesicles", "b") == second
    assert find_version(store, "vesicles", "c") is None
    for model in (first, second):
        set_champion(store, model)
        assert find_champion(store, "vesicles") == model
        assert get_registered(store, champion_uri("vesicles")) == model
    assert list_champions(store) == ["vesicles"]
    assert find_champion(store, "membrane") is None
    assert (second.uri, second.tags) == (
        "models:/synapse-bench-vesicles/2",
        {"bench.recipe_sha256": "b"},
    )


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
