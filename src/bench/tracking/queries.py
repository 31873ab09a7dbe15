"""Finding trained models and scores in the store."""

import functools
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from bench.core.names import run_of
from bench.errors import BenchError
from bench.methods import METHODS, Method
from bench.structures import split_structures
from bench.tracking.runs import PSEUDO_TAG, SETTINGS_FILE, WARNING_TAG, fact_tag, read_warnings
from bench.tracking.searching import PAGE, search
from bench.tracking.store import Store, without_password
from bench.words import NONE

# Steps whose runs end with a checkpoint.
TRAINING_STEPS = ("finetune", "domain_adapt", "microsam")
# The step whose runs end with one that gives images back: a source, and no row of a table.
PRETRAINING_STEP = "pretrain"
# In place of a structure: every one of a model of classes.
ALL_CLASSES = "all"
# What a method costs, by the metric or tag that has it.
SPEED = "train/seconds_per_iteration"
_COSTS = {
    "train_seconds": "bench.train_seconds",
    "seconds_per_iteration": SPEED,
    "parameters": "model/parameters",
    "peak_gpu_mib": "train/peak_gpu_mib",
    "predict_megapixels_per_s": "predict/megapixels_per_s",
}
# The curve of the seconds that a training took until a validation.
ELAPSED = "work/elapsed_s"
# The scores of an evaluation, where they fit into a tag.
# In the UI no tag is seen whose name begins as mlflow's own; earlier versions had the other name.
SCORES_TAG = "mlflow.bench.scores"
_EARLIER_SCORES_TAG = "bench.scores"
# What an evaluation says of its data, as JSON.
DATA_TAG = "mlflow.bench.data"
# The source of a training or evaluation.
SOURCE_TAG = "bench.source"
# Of an evaluation on other data than its model was trained on: what it was trained on, and what it
# was scored on, each as a dataset's name and content hash.
TRAINED_ON_TAG, SCORED_ON_TAG = "bench.trained_on", "bench.scored_on"
# What read_run reads of a run.
RUN_TAGS = (
    *("bench.method", "bench.structure", "bench.dataset", "bench.seed", "bench.labelled"),
    *("bench.augmentations", "bench.dataset_name", "bench.reason", "bench.trained_run"),
    *(WARNING_TAG, SCORES_TAG, _EARLIER_SCORES_TAG, DATA_TAG, SOURCE_TAG),
    *(TRAINED_ON_TAG, PSEUDO_TAG),
    *(*_COSTS.values(), *map(fact_tag, _COSTS.values())),
)
RUN_METRICS = tuple(_COSTS.values())
# What settings began with among the parameters of runs of earlier versions.
_EARLIER = "cfg."
RUN_PARAMS = (f"{_EARLIER}source",)
# Artifacts copied from a server at once.
_COPIES_AT_ONCE = 8


@dataclass(frozen=True)
class Cell:
    """What one number of the benchmark is about.

    Attributes:
        method: Row of METHODS.
        structure: What is segmented.
        dataset: Content hash of the prepared dataset.
        seed: Random seed.
        labelled: Annotated training sections used; None for all.
        pseudo: Which pseudo-masks the model learned from besides; empty for none.
    """

    method: str
    structure: str
    dataset: str
    seed: int
    labelled: int | None = None
    pseudo: str = ""


@dataclass(frozen=True)
class FoundRun:
    """A run of the suite, read from its tags.

    Attributes:
        id: Its id.
        status: FINISHED, FAILED, KILLED or RUNNING.
        reason: Why it failed; empty otherwise.
        cell: Method, structure, content hash of the dataset, and seed.
        dataset_label: Name and short hash of the dataset, for people.
        warnings: What a reader of its score must know.
        costs: Those of _COSTS that it has.
        trained_run: Of an evaluation, the run that made the model; empty for a source as it is.
        source_run: Of a training, the run whose model it started from; empty if none.
        augmentations: Of an evaluation, the choice of symmetries whose mean it scored.
        artifacts: Where its artifacts are.
        scores: Of an evaluation, its scores as a text; empty where they are in a file only.
        data: Of an evaluation, what it says of its data as a text; empty in earlier versions.
        trained_on: Of an evaluation on other data than its model's, that data's name and content
            hash; empty otherwise.
    """

    id: str
    status: str
    reason: str
    cell: Cell
    dataset_label: str
    warnings: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    trained_run: str = ""
    source_run: str = ""
    augmentations: str = NONE
    artifacts: str = ""
    scores: str = ""
    data: str = ""
    trained_on: str = ""


def read_run(run: MlflowRun) -> FoundRun:
    """Reads a run's tags."""
    tags = run.data.tags
    digest = tags.get("bench.dataset", "")
    # Runs of earlier versions have them as metrics.
    known: dict[str, Any] = {**run.data.metrics, **tags}
    known |= {key: tags[fact_tag(key)] for key in _COSTS.values() if fact_tag(key) in tags}
    # Runs of earlier versions have it among their parameters.
    source = tags.get(SOURCE_TAG) or run.data.params.get(*RUN_PARAMS, "")
    return FoundRun(
        id=run.info.run_id,
        status=run.info.status,
        reason=tags.get("bench.reason", ""),
        cell=Cell(
            tags["bench.method"],
            # A pretraining has none.
            tags.get("bench.structure", ""),
            digest,
            int(tags["bench.seed"]),
            int(tags["bench.labelled"]) if "bench.labelled" in tags else None,
            tags.get(PSEUDO_TAG, ""),
        ),
        dataset_label=f"{tags.get('bench.dataset_name', 'dataset')}@{digest[:8]}",
        warnings=read_warnings(run),
        costs={name: float(known[key]) for name, key in _COSTS.items() if key in known},
        trained_run=tags.get("bench.trained_run", "").removesuffix("none"),
        source_run=run_of(source),
        # Runs of an earlier version have no such tag, and no augmentation.
        augmentations=tags.get("bench.augmentations", NONE),
        artifacts=run.info.artifact_uri,
        scores=tags.get(SCORES_TAG) or tags.get(_EARLIER_SCORES_TAG, ""),
        data=tags.get(DATA_TAG, ""),
        trained_on=tags.get(TRAINED_ON_TAG, ""),
    )


def get_run(store: Store, run_id: str) -> MlflowRun:
    """Returns a run, or the one that it points to.

    Raises:
        BenchError: If it does not exist.
    """
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        raise BenchError(
            f"no run has the id {run_id!r} in {without_password(store.uri)}: look it up in the "
            "MLflow UI"
        ) from error
    see = run.data.tags.get("bench.see")
    return get_run(store, see) if see else run


def step_of(store: Store, run_id: str) -> str:
    """The step of a run; empty if it is none of this suite.

    Raises:
        BenchError: If the run does not exist.
    """
    return str(get_run(store, run_id).data.tags.get("bench.step", ""))


def get_finished(store: Store, run_id: str, steps: Collection[str], purpose: str) -> MlflowRun:
    """Returns a finished run of one of these steps, the first of which is the usual one.

    Raises:
        BenchError: If it does not exist, is not finished, or is of another step: it must then
            ``purpose``.
    """
    run = get_run(store, run_id)
    step = run.data.tags.get("bench.step", "no step of this suite")
    if step not in steps:
        raise BenchError(
            f"the run must {purpose}, {run_id} is {step}: give the id of a run of "
            f"{next(iter(steps))}"
        )
    if run.info.status != "FINISHED":
        raise BenchError(
            f"the run must be FINISHED, {run_id} is {run.info.status}: "
            "finish it by the command that started it"
        )
    return run


def get_trained(store: Store, run_id: str) -> FoundRun:
    """Returns a run that has a model.

    Raises:
        BenchError: If the run does not exist, is not finished, or trained nothing.
    """
    if step_of(store, run_id) == PRETRAINING_STEP:
        raise BenchError(
            f"the run must have trained a model that segments, {run_id} pretrained one that gives "
            f"images back: run finetune with source=runs:/{run_id}, and give the id of that run"
        )
    return read_run(get_finished(store, run_id, TRAINING_STEPS, "have trained a model"))


def find_trained(
    store: Store, *, method: str, structure: str, dataset: str, seed: int | None
) -> FoundRun:
    """Returns the newest finished training of a method, structure and dataset.

    Args:
        store: The tracking store.
        method: Row of METHODS; ``auto`` for any.
        structure: Name of a structure, which a model of classes may have among others; ``all``
            for any model of classes.
        dataset: Content hash of the dataset.
        seed: Seed of the training; None for any.

    Raises:
        BenchError: If there is none.
    """
    wanted = {"bench.structure": structure, "bench.dataset": dataset}
    if method != "auto":
        wanted["bench.method"] = method
    if seed is not None:
        wanted["bench.seed"] = str(seed)
    found = _find_newest_training(store, wanted, METHODS.get(method))
    if found:
        return read_run(found)
    described = ", ".join(f"{tag.removeprefix('bench.')} {value}" for tag, value in wanted.items())
    raise BenchError(f"no finished training has {described}: run finetune first, or give run_id")


def _find_newest_training(
    store: Store, wanted: Mapping[str, str], method: Method | None
) -> MlflowRun | None:
    """The newest training with these tags, of the structure alone or as one of several classes."""
    structure = wanted["bench.structure"]
    searches = [wanted]
    rows = [row for row in METHODS.values() if row.of_classes and method in (None, row)]
    others = {name: value for name, value in wanted.items() if name != "bench.structure"}
    searches += [others | {"bench.method": row.name} for row in rows]
    newest: list[MlflowRun] = []
    for tags in searches:
        for run in search(store, store.experiment_id, tags, finished=True):
            learned = split_structures(run.data.tags.get("bench.structure", ""))
            fits = structure in learned or (structure == ALL_CLASSES and len(learned) > 1)
            if fits and run.data.tags.get("bench.step") in TRAINING_STEPS:
                newest.append(run)
                break
    return max(newest, key=lambda run: run.info.start_time, default=None)


def fetch_artifact(store: Store, run_id: str, path: str) -> Path:
    """Returns a local path of a run's artifact, copying it here if it is kept elsewhere.

    A copy is removed when the process ends.

    Raises:
        BenchError: If the run has no such artifact.
    """
    try:
        folder = str(store.client.get_run(run_id).info.artifact_uri)
    except MlflowException as error:
        raise _missing_artifact(run_id, path, error) from error
    local = _local_path(folder, path)
    return local if local.exists() else _copy_file(store, run_id, path)


def local_artifact(store: Store, run_id: str, path: str) -> Path | None:
    """Where a run's artifact is, if it is kept on this machine; nothing is copied."""
    local = _local_path(str(store.client.get_run(run_id).info.artifact_uri), path)
    return local if local.exists() else None


def find_artifact(store: Store, run_id: str, name: str) -> Path | None:
    """As fetch_artifact, of a file that runs of earlier versions lack: None where it is not."""
    names = {item.path for item in store.client.list_artifacts(run_id)}
    return fetch_artifact(store, run_id, name) if name in names else None


def read_settings(store: Store, run_id: str) -> dict[str, str]:
    """The resolved settings of a run, as texts: of its artifact, else of its parameters.

    Runs of earlier versions have no such artifact, and all settings among their parameters.
    """
    path = find_artifact(store, run_id, SETTINGS_FILE)
    if path:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(value) for name, value in settings.items()}
    params = store.client.get_run(run_id).data.params
    return {
        name.removeprefix(_EARLIER): value
        for name, value in params.items()
        if name.startswith(_EARLIER)
    }


def _local_path(folder: str, path: str) -> Path:
    """Where an artifact is, if its folder is on this machine: mlflow would copy it even then."""
    return Path(folder.removeprefix("file://")) / path


def _copy_file(store: Store, run_id: str, path: str) -> Path:
    copies = Path(copies_folder().name) / run_id
    try:
        return Path(store.client.download_artifacts(run_id, path, str(copies)))
    except (MlflowException, OSError) as error:
        raise _missing_artifact(run_id, path, error) from error


def _missing_artifact(run_id: str, path: str, error: Exception) -> BenchError:
    return BenchError(
        f"run {run_id} must have the artifact {path}, it cannot be read ({error}): "
        "was the artifacts' folder moved or cleaned?"
    )


def fetch_files(store: Store, runs: Sequence[FoundRun], path: str) -> Iterator[Path | BenchError]:
    """Yields the local path of the same artifact of runs; copies are made side by side.

    In the place of an artifact that a run no longer has stands the error that says so.
    """
    pool = ThreadPoolExecutor(_COPIES_AT_ONCE)
    try:
        for start in range(0, len(runs), PAGE):
            found: list[Path | Future[Path]] = []
            for run in runs[start : start + PAGE]:
                local = _local_path(run.artifacts, path)
                far = not local.exists()
                found.append(pool.submit(_copy_file, store, run.id, path) if far else local)
            yield from (file if isinstance(file, Path) else _await_copy(file) for file in found)
    finally:
        pool.shutdown(cancel_futures=True)


def _await_copy(copy: "Future[Path]") -> Path | BenchError:
    try:
        return copy.result()
    except BenchError as error:
        return error


@functools.cache
def copies_folder() -> "tempfile.TemporaryDirectory[str]":
    """The folder of copied artifacts, one for the process."""
    return scratch_folder()


def scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder for files on their way to the artifacts."""
    return tempfile.TemporaryDirectory(prefix="synapse-bench-")
