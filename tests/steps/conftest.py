import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import psutil
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.training import FinetuneConfig
from bench.inference.blends import Blend
from bench.inference.symmetries import SYMMETRIES
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.search.candidates import best_by_area, best_of
from bench.search.finalists import count_blend
from bench.search.search import search_combinations
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.optimize import optimize
from bench.steps.prepare import prepare
from bench.steps.segment import segment
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.training import loop

# Content hash of the dataset of runs that are only recorded.
RECORDED = "d" * 64

# Learns the tiny sections in seconds.
TINY = {
    "iterations": 40,
    "epoch_iterations": 20,
    "batch_size": 4,
    "patch_px": 32,
    "tile_px": 32,
    "halo_px": 16,
    "features": 4,
    "lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
}


@dataclass(frozen=True)
class Pipeline:
    """Ids of the runs of prepare, finetune, evaluate and compare on the tiny tree."""

    store: Store
    dataset: Path
    output: Path
    prepared: str
    trained: str
    on_val: str
    on_test: str
    compared: str


@pytest.fixture(scope="module")
def dataset(tiny_tree, tmp_path_factory) -> str:
    """The tiny tree, prepared."""
    root = tmp_path_factory.mktemp("dataset") / "prepared"
    write_prepared(read_input(PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)), root)
    return str(root)


@pytest.fixture
def segment_new(tmp_path) -> Callable[[np.ndarray], np.ndarray]:
    """Segments the mitochondria of a new image with the champion; returns their labels."""

    def segment_image(image: np.ndarray) -> np.ndarray:
        tifffile.imwrite(tmp_path / "new.tif", image)
        config = SegmentConfig(
            structure="mito",
            input=str(tmp_path / "new.tif"),
            output=str(tmp_path / "segmented"),
            pixel_size_nm=5.0,
            device="cpu",
        )
        segment(config)
        return tifffile.imread(tmp_path / "segmented" / "mitochondria" / "new.tif")

    return segment_image


@pytest.fixture(scope="session")
def broken_source(tmp_path_factory) -> Path:
    """A checkpoint whose description is sound and whose weights are another network's."""
    path = tmp_path_factory.mktemp("broken") / "broken.safetensors"
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": 2}
    network = build_model("unet2d", arguments)
    wrong = arguments | {"features": 4}
    info = ModelInfo("unet2d", wrong, ("foreground",), "", 5.0, "section", 32, 16)
    save_checkpoint(path, network, info)
    return path


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    return TINY


@pytest.fixture(scope="session")
def pipeline(make_store, tiny_tree, tmp_path_factory) -> Pipeline:
    folder = tmp_path_factory.mktemp("pipeline")
    store = make_store(folder / "store")
    dataset, output = folder / "prepared", folder / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        prepared = prepare(
            PrepareConfig(input=str(tiny_tree), output=str(dataset), pixel_size_nm=5.0)
        )
        trained = finetune(FinetuneConfig(dataset=str(dataset), source="random", **TINY))
        on_val = evaluate(EvaluateConfig(dataset=str(dataset), run_id=trained))
        on_test = evaluate(
            EvaluateConfig(
                dataset=str(dataset),
                structure="mito",
                method="scratch",
                seed=0,
                split="test",
                opening_radius_px=0,
                min_area_px=0,
            )
        )
        compared = compare(CompareConfig(dataset=str(dataset), output=str(output)))
    return Pipeline(store, dataset, output, prepared, trained, on_val, on_test, compared)


@dataclass(frozen=True)
class Searched:
    """Two models of mitochondria, evaluated under all symmetries, and searches over them.

    Attributes:
        store: Where their runs are.
        dataset: The prepared dataset.
        trained: The trainings.
        on_test: The evaluations on the test split.
        ensemble: The search whose recipe has both models under five symmetries.
        single: The search whose recipe is one model as it is.
    """

    store: Store
    dataset: Path
    trained: tuple[str, ...]
    on_test: tuple[str, ...]
    ensemble: str
    single: str


def let_both_win(evidence, defaults, settings, report):
    """Searches, and takes both models under five symmetries at their best threshold."""
    areas = (0, 20)
    blend = Blend(tuple(evidence.members), tuple(SYMMETRIES)[:5])
    counts = count_blend(evidence, blend, (0,), areas)[0]
    winner = best_of(best_by_area(blend, counts, 0, areas, "dice"), "dice")
    return replace(search_combinations(evidence, defaults, settings, report), winner=winner)


@pytest.fixture(scope="session")
def searched(make_store, pipeline, tmp_path_factory) -> Searched:
    folder = tmp_path_factory.mktemp("searched")
    store, dataset = make_store(folder / "store"), str(pipeline.dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        short = TINY | {"iterations": 20, "tile_px": 24, "halo_px": 4}
        trained = [
            finetune(FinetuneConfig(dataset=dataset, source="random", seed=seed, **short))
            for seed in (0, 1)
        ]
        evaluations = {
            split: [
                evaluate(
                    EvaluateConfig(
                        dataset=dataset, run_id=run, split=split, augmentations="all", device="cpu"
                    )
                )
                for run in trained
            ]
            for split in ("val", "test")
        }
        single = optimize(
            OptimizeConfig(
                dataset=dataset,
                runs=trained[0],
                augmentations="none",
                ensembles="none",
                min_areas_px="0,20",
                output=str(folder / "single"),
            )
        )
        # Which combination wins hangs on the last digits of the machine, so one is made to.
        patch.setattr("bench.steps.optimize.search_combinations", let_both_win)
        ensemble = optimize(OptimizeConfig(dataset=dataset, output=str(folder / "ensemble")))
    return Searched(
        store, pipeline.dataset, tuple(trained), tuple(evaluations["test"]), ensemble, single
    )


@pytest.fixture
def record(store):
    """Records a training, or an evaluation of a Dice, and returns its id; later is newer."""
    clock = iter(range(1, 1000))

    def make(step, *, dice=None, status="FINISHED", reason="", tags=None, logged=(), **parts):
        cell = {
            "method": "scratch",
            "structure": "vesicles",
            "dataset": RECORDED,
            "seed": 0,
        }
        now = next(clock)
        identity = Identity(step, {"now": now}, {}, **(cell | parts))
        all_tags = identity.tags() | {"bench.dataset_name": "tiny"} | (tags or {})
        if reason:
            all_tags["bench.reason"] = reason
        made = store.client.create_run(store.experiment_id, start_time=now, tags=all_tags)
        for name, value in dict(logged).items():
            is_metric = isinstance(value, float)
            log = store.client.log_metric if is_metric else store.client.log_param
            log(made.info.run_id, name, value)
        if dice is not None:
            scores = {"pooled": {"dice": dice}, "sections": {"s1": {"dice": dice}}}
            store.client.log_text(made.info.run_id, json.dumps(scores), "scores.json")
        if status != "RUNNING":
            store.client.set_terminated(made.info.run_id, status)
        return made.info.run_id

    return make


@pytest.fixture
def evaluated(record):
    def make(dice, split="test", protocol="data", **parts):
        tags = {"bench.split": split, "bench.protocol": protocol} | parts.pop("tags", {})
        return record("evaluate", dice=dice, tags=tags, **parts)

    return make


@pytest.fixture(scope="session")
def montage(tmp_path_factory):
    """A section of 700 x 660 px: 483 tiles of the tiny model."""
    path = tmp_path_factory.mktemp("montage") / "montage.tif"
    random = np.random.default_rng(0)
    raw = 120 + random.normal(0, 8, (700, 660))
    for y, x in random.integers(20, 640, (60, 2)):
        raw[y - 11 : y + 11, x - 11 : x + 11] -= 70
    tifffile.imwrite(path, raw.clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture(scope="session")
def contents():
    """Reads the bytes of every file of a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read


@pytest.fixture(scope="session")
def tasks_of():
    """Finds the processes below one that run a module of ours, as the tasks of its workers do."""

    def runs(process: psutil.Process, module: str) -> bool:
        # It may have ended since it was listed.
        with contextlib.suppress(psutil.Error):
            return module in process.cmdline()
        return False

    def find(process, module: str) -> list[psutil.Process]:
        inside = psutil.Process(process.pid).children(recursive=True)
        return [each for each in inside if runs(each, module)]

    return find


def draw_volume(seed, shape, balls=4):
    """A tomogram of dark balls in noise, and their ids."""
    rng = np.random.default_rng(seed)
    labels, grid = np.zeros(shape, np.int16), np.indices(shape)
    for number in range(1, balls + 1):
        centre = [rng.integers(3, side - 3) for side in shape]
        labels[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= 16] = number
    raw = rng.normal(100, 6, shape) - 40 * (labels > 0)
    return raw.astype(np.int16), labels


def write_mrc(path, pixels, nm=2.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels)
        file.voxel_size = 10 * nm
        file.set_volume()


@pytest.fixture(scope="session")
def prepare_volumes() -> Callable[..., str]:
    """Prepares a dataset of small tomograms in a folder; returns its path."""

    def make(folder, counts, shape=(24, 24, 24), **settings):
        seed = 0
        for split, count in counts.items():
            for number in range(count):
                raw, labels = draw_volume(seed := seed + 1, shape)
                write_mrc(folder / "in" / split / "raw" / f"tomo{number}.mrc", raw)
                write_mrc(folder / "in" / split / "vesicles" / f"tomo{number}.mrc", labels)
        write_prepared(
            read_input(PrepareConfig(input=str(folder / "in"), **settings)), folder / "prepared"
        )
        return str(folder / "prepared")

    return make


class _StopError(Exception):
    pass


@pytest.fixture
def stop_after():
    """Runs a training that ends, as if it were killed, when it has learned from so many batches."""

    def run(batches, train):
        original, calls = loop.train_batch, []

        def stop(*arguments):
            if len(calls) == batches:
                raise _StopError
            calls.append(1)
            return original(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "train_batch", stop)
            with pytest.raises(_StopError):
                train()

    return run
