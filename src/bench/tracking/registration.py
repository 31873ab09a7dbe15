"""A recipe and its weights logged as an MLflow model, and registered."""

import contextlib
import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from bench.tracking.queries import scratch_folder
from bench.tracking.registry import SCHEME, RegisteredModel, get_registered, model_name
from bench.tracking.runs import Run
from bench.words import AUTO

PACKAGE = Path(__file__).parents[1]
MODEL_CODE = Path(__file__).with_name("champion_model.py")
# What a prediction imports; micro_sam only where a model is a SAM.
REQUIREMENTS = (
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
EXAMPLE_PX = 64


def champion_signature() -> ModelSignature:
    """What a champion takes and returns.

    The images are not in it: mlflow would fix their type and number of dimensions, and they may
    be of any depth, one or several.
    """
    maps = [("instances", "int32"), ("probability", "float32")]
    return ModelSignature(
        outputs=Schema([TensorSpec(np.dtype(kind), (-1, -1), name) for name, kind in maps]),
        params=ParamSchema([ParamSpec("pixel_size_nm", "double", None)]),
    )


def pin_requirements(*, sam: bool) -> list[str]:
    """The packages that a champion needs, at the versions that are installed here."""
    names = (*REQUIREMENTS, *(["micro_sam"] if sam else []))
    # A version such as 2.13.0+cpu says where it was built, and is on no index.
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def save_champion(
    path: Path, recipe_folder: Path, *, pixel_size_nm: float | None, sam: bool, model: Model
) -> None:
    """Writes a champion as an MLflow model that needs nothing else of this suite.

    Args:
        path: The new folder.
        recipe_folder: A recipe with its weights, named ``recipe``.
        pixel_size_nm: Of the example; that of the recipe.
        sam: Whether one of the models is a SAM.
        model: Where it is logged.
    """
    example = np.random.default_rng(0).integers(0, 256, (EXAMPLE_PX, EXAMPLE_PX), dtype=np.uint8)
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(MODEL_CODE),
        artifacts={"recipe": str(recipe_folder)},
        code_paths=[str(PACKAGE)],
        signature=champion_signature(),
        # mlflow has no type for a parameter of an example that is None.
        input_example=(example, {"pixel_size_nm": pixel_size_nm}) if pixel_size_nm else example,
        pip_requirements=pin_requirements(sam=sam),
        model_config={"device": AUTO},
        mlflow_model=model,
    )


def register_champion(
    run: Run,
    recipe_folder: Path,
    *,
    structure: str,
    pixel_size_nm: float | None,
    sam: bool,
    scores: Mapping[str, float],
    tags: Mapping[str, str],
    description: str,
) -> RegisteredModel:
    """Logs a recipe as a model of a run, and registers it as a new version.

    Args:
        run: The run.
        recipe_folder: The recipe with its weights, named ``recipe``.
        structure: What it segments.
        pixel_size_nm: Pixel size that it was chosen at; None if not known.
        sam: Whether one of the models is a SAM.
        scores: Its scores, by names such as ``val/dice``; also logged as metrics of the model.
        tags: Of the version.
        description: Of the version, for readers of the UI.
    """
    client, name = run.client, model_name(structure)
    experiment = run.client.get_run(run.id).info.experiment_id
    logged = client.create_logged_model(
        experiment, name=name, source_run_id=run.id, tags=dict(tags), model_type="recipe"
    )
    described = Model(run_id=run.id, model_uuid=logged.model_id, model_id=logged.model_id)
    with scratch_folder() as scratch:
        path = Path(scratch) / "model"
        save_champion(path, recipe_folder, pixel_size_nm=pixel_size_nm, sam=sam, model=described)
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    metrics = [Metric(n, v, now, 0, model_id=logged.model_id) for n, v in scores.items()]
    client.log_batch(run.id, metrics=metrics)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name, description=f"Segments {structure} (synapse-bench).")
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
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
