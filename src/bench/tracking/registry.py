"""The model registry: champions, their files, and how a recipe becomes a registered model."""

import contextlib
import functools
import importlib.metadata
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking._tracking_service.utils import _use_tracking_uri
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from bench.errors import BenchError
from bench.models.plugins import Plugin
from bench.tracking.queries import copies_folder, scratch_folder
from bench.tracking.runs import Run
from bench.tracking.store import Store, without_password
from bench.words import AUTO

SCHEME = "models:/"
_PREFIX = "synapse-bench-"
CHAMPION = "champion"
# Says, among the files of a model, what it is and is worth.
CARD_FILE = "MODEL_CARD.md"
RECIPE_TAG = "bench.recipe_sha256"
DATASET_NAME_TAG = "bench.dataset_name"
_PACKAGE = Path(__file__).parents[1]
_MODEL_CODE = Path(__file__).with_name("champion_model.py")
# What a prediction imports, whatever its networks.
_REQUIREMENTS = (
    "h5py",
    "mlflow",
    "numba",
    "numpy",
    "pooch",
    "psutil",
    "safetensors",
    "scikit-image",
    "scipy",
    "torch",
    "torch_em",
    "zarr",
)
_EXAMPLE_PX = 64


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

    @property
    def champion_uri(self) -> str:
        """As users write it, of whichever version is the champion."""
        return f"{SCHEME}{self.name}@{CHAMPION}"

    @property
    def structure(self) -> str:
        """What it segments."""
        return self.tags.get("bench.structure") or self.name.removeprefix(_PREFIX)

    @property
    def dataset(self) -> str:
        """Content hash of the data set that it was chosen on; empty if it does not say."""
        return self.tags.get("bench.dataset", "")

    @property
    def dataset_name(self) -> str:
        """Name of that data set; empty in models of earlier versions, named by structure only."""
        return self.tags.get(DATASET_NAME_TAG, "")

    def describe(self) -> str:
        """What it was made on and how good it is, in a few words."""
        made_on = self.dataset_name or f"the data set {self.dataset[:8] or 'of an early version'}"
        dice = self.tags.get("test/dice")
        return f"made on {made_on}, test Dice {float(dice):.3f}" if dice else f"made on {made_on}"


def model_name(structure: str, dataset_name: str) -> str:
    """The name of the model of a structure and a data set; mlflow takes no / and no : in it."""
    parts = (re.sub(r"[^\w.-]+", "-", part).strip("-") for part in (structure, dataset_name))
    return _PREFIX + "-".join(filter(None, parts))


def list_champions(store: Store) -> list[RegisteredModel]:
    """The champions, by structure and data set.

    One of an earlier version, whose name is of the structure only, is left out once there is
    another of the same structure and data.
    """
    found, token = [], None
    while True:
        page = store.client.search_registered_models(
            f"name LIKE '{_PREFIX}%'", order_by=["name ASC"], page_token=token
        )
        found += [model.name for model in page if CHAMPION in model.aliases]
        token = page.token
        if not token:
            break
    champions = [
        _read_version(store, store.client.get_model_version_by_alias(name, CHAMPION))
        for name in found
    ]
    named = {(each.structure, each.dataset) for each in champions if each.dataset_name}
    kept = [e for e in champions if e.dataset_name or (e.structure, e.dataset) not in named]
    return sorted(kept, key=lambda each: (each.structure, each.dataset_name, each.name))


def find_champion(
    store: Store, structure: str, dataset_name: str, dataset: str = ""
) -> RegisteredModel | None:
    """The champion of a structure and a data set; None without one.

    Args:
        store: The tracking store.
        structure: Name of the structure.
        dataset_name: Name of the data set.
        dataset: Its content hash, by which that of an earlier version is found, whose name is of
            the structure only.
    """
    name = model_name(structure, dataset_name)
    for champion in list_champions(store):
        of_old = not champion.dataset_name and champion.structure == structure
        if champion.name == name or (of_old and champion.dataset == dataset):
            return champion
    return None


def find_version(store: Store, name: str, recipe_sha256: str) -> RegisteredModel | None:
    """The newest version of a registered model that has a recipe; None without one."""
    found = store.client.search_model_versions(f"name = '{name}'")
    same = [version for version in found if version.tags.get(RECIPE_TAG) == recipe_sha256]
    newest = max(same, key=lambda version: int(version.version), default=None)
    return _read_version(store, newest) if newest else None


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
        there = [champion.champion_uri for champion in list_champions(store)]
        which = f"of one that is ({', '.join(there)})" if there else "of one that is"
        raise BenchError(
            f"no model is registered as {uri} in {without_password(store.uri)}: run promote "
            f"first, or write {SCHEME}NAME@{CHAMPION} or {SCHEME}NAME/VERSION {which}"
        ) from error
    return _read_version(store, found)


def _read_version(store: Store, version: ModelVersion) -> RegisteredModel:
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
        return _copy_model(store.uri, model.uri)
    except (MlflowException, OSError) as error:
        raise BenchError(
            f"the files of {model.uri} must be at {model.location}, they cannot be read "
            f"({error}): copy the artifacts along with the database, or run promote here"
        ) from error


@functools.cache
def _copy_model(store_uri: str, model_uri: str) -> Path:
    target = Path(copies_folder().name) / model_uri.removeprefix(SCHEME)
    target.mkdir(parents=True)
    copied = mlflow.artifacts.download_artifacts(
        artifact_uri=model_uri, dst_path=str(target), tracking_uri=store_uri, registry_uri=store_uri
    )
    return Path(copied)


def set_champion(store: Store, model: RegisteredModel) -> None:
    """Makes a version the champion of its structure and data set."""
    store.client.set_registered_model_alias(model.name, CHAMPION, model.version)


def _champion_signature() -> ModelSignature:
    """What a champion takes and returns.

    The images are not in it: mlflow would fix their type and number of dimensions, and they may
    be of any depth, one or several.
    """
    maps = [("instances", "int32"), ("probability", "float32")]
    return ModelSignature(
        outputs=Schema([TensorSpec(np.dtype(kind), (-1, -1), name) for name, kind in maps]),
        params=ParamSchema([ParamSpec("pixel_size_nm", "double", None)]),
    )


def pin_requirements(packages: Collection[str]) -> list[str]:
    """The packages that a champion needs, at the versions that are installed here.

    Args:
        packages: Those of its networks.

    Raises:
        BenchError: If one of them is not installed.
    """
    names = (*_REQUIREMENTS, *sorted(set(packages) - set(_REQUIREMENTS)))
    try:
        # A version such as 2.13.0+cpu says where it was built, and is on no index.
        return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    except importlib.metadata.PackageNotFoundError as error:
        raise BenchError(
            f"the packages of a network must be installed distributions, {error.name} is none: "
            "correct its row of NETWORKS"
        ) from error


def _save_champion(
    path: Path,
    recipe_folder: Path,
    *,
    pixel_size_nm: float | None,
    packages: Collection[str],
    plugins: Sequence[Plugin],
    model: Model,
) -> None:
    """Writes a champion as an MLflow model that needs nothing else of this suite.

    The arguments are as for ``register_champion``. The code of plugins that are no installed
    distribution goes along.
    """
    installed = [plugin.distribution for plugin in plugins]
    example = np.random.default_rng(0).integers(0, 256, (_EXAMPLE_PX, _EXAMPLE_PX), dtype=np.uint8)
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(_MODEL_CODE),
        artifacts={"recipe": str(recipe_folder)},
        code_paths=[str(_PACKAGE), *(str(each.files) for each in plugins if not each.distribution)],
        signature=_champion_signature(),
        # mlflow has no type for a parameter of an example that is None.
        input_example=(example, {"pixel_size_nm": pixel_size_nm}) if pixel_size_nm else example,
        pip_requirements=pin_requirements({*packages, *filter(None, installed)}),
        model_config={
            "device": AUTO,
            "plugins": {plugin.module: plugin.version for plugin in plugins},
        },
        mlflow_model=model,
    )


def register_champion(
    run: Run,
    recipe_folder: Path,
    *,
    structure: str,
    dataset_name: str,
    pixel_size_nm: float | None,
    packages: Collection[str],
    plugins: Sequence[Plugin],
    scores: Mapping[str, float],
    tags: Mapping[str, str],
    description: str,
    card: str,
) -> RegisteredModel:
    """Logs a recipe as a model of a run, and registers it as a new version.

    Args:
        run: The run.
        recipe_folder: The recipe with its weights, named ``recipe``.
        structure: What it segments.
        dataset_name: Name of the data set that it was chosen on.
        pixel_size_nm: Pixel size that it was chosen at; None if not known.
        packages: What its networks need beside what every network does.
        plugins: What its networks come from, if not from this suite.
        scores: Its scores, by names such as ``val/dice``; also logged as metrics of the model.
        tags: Of the version.
        description: Of the version, for readers of the UI.
        card: The model's card, which goes among its files.
    """
    client, name = run.client, model_name(structure, dataset_name)
    experiment = run.client.get_run(run.id).info.experiment_id
    logged = client.create_logged_model(
        experiment, name=name, source_run_id=run.id, tags=dict(tags), model_type="recipe"
    )
    described = Model(run_id=run.id, model_uuid=logged.model_id, model_id=logged.model_id)
    with scratch_folder() as scratch:
        path = Path(scratch) / "model"
        _save_champion(
            path,
            recipe_folder,
            pixel_size_nm=pixel_size_nm,
            packages=packages,
            plugins=plugins,
            model=described,
        )
        (path / CARD_FILE).write_text(card, encoding="utf-8")
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    metrics = [Metric(n, v, now, 0, model_id=logged.model_id) for n, v in scores.items()]
    client.log_batch(run.id, metrics=metrics)
    try:
        client.get_registered_model(name)
    except MlflowException:
        described_as = f"Segments {structure} as in {dataset_name} (synapse-bench)."
        client.create_registered_model(name, description=described_as)
    with default_store(run.store.uri):
        version = client.create_model_version(
            name,
            source=f"{SCHEME}{logged.model_id}",
            run_id=run.id,
            tags=dict(tags),
            description=description,
            model_id=logged.model_id,
        )
    return get_registered(run.store, f"{SCHEME}{name}/{version.version}")


@contextlib.contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Makes a store mlflow's default: there it looks up a logged model, whatever its client's."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        # One that was set in this process goes before the variable.
        with _use_tracking_uri(uri):
            yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
