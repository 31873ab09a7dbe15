"""The model registry: which version of a structure's model is its champion, and its files."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from bench.errors import BenchError
from bench.tracking.queries import copies_folder
from bench.tracking.store import Store, without_password

SCHEME = "models:/"
PREFIX = "synapse-bench-"
CHAMPION = "champion"
RECIPE_TAG = "bench.recipe_sha256"


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model.

    Attributes:
        name: The model's name.
        version: Its number.
        run_id: The run that registered it.
        tags: What it says of itself.
        location: Where its files are: an absolute path, or an address.
    """

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    location: str

    @property
    def uri(self) -> str:
        """As users write it."""
        return f"{SCHEME}{self.name}/{self.version}"


def model_name(structure: str) -> str:
    """The name under which a structure's models are registered."""
    return f"{PREFIX}{structure}"


def champion_uri(structure: str) -> str:
    """The address of a structure's champion."""
    return f"{SCHEME}{model_name(structure)}@{CHAMPION}"


def find_champion(store: Store, structure: str) -> RegisteredModel | None:
    """The champion of a structure; None without one."""
    if structure not in list_champions(store):
        return None
    found = store.client.get_model_version_by_alias(model_name(structure), CHAMPION)
    return read_version(store, found)


def list_champions(store: Store) -> list[str]:
    """The structures that have a champion."""
    found = store.client.search_registered_models(f"name LIKE '{PREFIX}%'")
    return sorted(model.name.removeprefix(PREFIX) for model in found if CHAMPION in model.aliases)


def find_version(store: Store, structure: str, recipe_sha256: str) -> RegisteredModel | None:
    """The newest version of a structure's model that has a recipe; None without one."""
    name = model_name(structure)
    found = store.client.search_model_versions(f"name = '{name}'")
    same = [version for version in found if version.tags.get(RECIPE_TAG) == recipe_sha256]
    newest = max(same, key=lambda version: int(version.version), default=None)
    return read_version(store, newest) if newest else None


def get_registered(store: Store, uri: str) -> RegisteredModel:
    """Returns the version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names.

    Raises:
        BenchError: If there is none.
    """
    name, at, alias = uri.removeprefix(SCHEME).partition("@")
    name, _, version = (name, "", "") if at else name.partition("/")
    try:
        if at:
            found = store.client.get_model_version_by_alias(name, alias)
        else:
            found = store.client.get_model_version(name, version)
    except MlflowException as error:
        raise BenchError(
            f"no model is registered as {uri} in {without_password(store.uri)}: run promote "
            f"first, or write {SCHEME}NAME@{CHAMPION} or {SCHEME}NAME/VERSION of one that is "
            "(the Models page of the MLflow UI lists them)"
        ) from error
    return read_version(store, found)


def read_version(store: Store, version: ModelVersion) -> RegisteredModel:
    """Reads a version of a model."""
    number = str(version.version)
    return RegisteredModel(
        name=version.name,
        version=number,
        run_id=version.run_id or "",
        tags=dict(version.tags),
        location=str(store.client.get_model_version_download_uri(version.name, number)),
    )


def fetch_model(store: Store, model: RegisteredModel) -> Path:
    """Returns a local folder of a model's files, copying them here if they are kept elsewhere.

    Raises:
        BenchError: If they are gone.
    """
    local = Path(model.location.removeprefix("file://"))
    if local.is_dir():
        return local
    try:
        if local.is_absolute():
            raise OSError("no such folder")
        return copy_model(store.uri, model.uri)
    except (MlflowException, OSError) as error:
        raise BenchError(
            f"the files of {model.uri} must be at {model.location}, they cannot be read "
            f"({error}): copy the artifacts along with the database, or run promote here"
        ) from error


@functools.cache
def copy_model(store_uri: str, model_uri: str) -> Path:
    """Copies a model's files here, once in a process."""
    target = Path(copies_folder().name) / model_uri.removeprefix(SCHEME)
    target.mkdir(parents=True)
    return Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=model_uri,
            dst_path=str(target),
            tracking_uri=store_uri,
            registry_uri=store_uri,
        )
    )


def set_champion(store: Store, model: RegisteredModel) -> None:
    """Makes a version the champion of its structure."""
    store.client.set_registered_model_alias(model.name, CHAMPION, model.version)
