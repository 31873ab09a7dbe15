"""What every step comes to on the tiny sections: other numbers are another version of it.

Their parts are in tests/core/test_stored_results.py. Models have the weights of a seed here, as
what was trained differs between machines.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from bench.config.data import ExportConfig
from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import SegmentConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import DomainAdaptConfig, MicrosamConfig
from bench.core.version import VERSIONS
from bench.dataset.prepared import PreparedDataset
from bench.inference import device
from bench.models.checkpoint import load_checkpoint, save_checkpoint
from bench.models.networks import GEOMETRIES
from bench.models.sam import write_tiny_sam
from bench.steps.detect import detect
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.export import export
from bench.steps.microsam import microsam
from bench.steps.optimize import optimize
from bench.steps.pretrain import pretrain
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.steps.training.choices import pick_geometry
from bench.steps.training.data import TrainingData
from bench.tracking.descriptions import RUNS
from bench.tracking.queries import read_settings
from bench.tracking.registry import find_champion
from bench.tracking.runs import fact_tag

# Scores that a pixel more or less hardly changes.
OF_PIXELS = ("dice", "iou", "precision", "recall", "average_precision")
# Every run of these is new, or (publish) named by the content of what it writes.
NEVER_REUSED = {
    *("check", "benchmark", "compare", "measure", "correct", "annotate", "suggest", "suspects"),
    *("export_model", "publish", "publish_check"),
}


@pytest.fixture(scope="module", autouse=True)
def in_fp32():
    """The precision that every CPU has: with another, pixels near a threshold are others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "default_precision", lambda _: "fp32")
        yield


@pytest.fixture(scope="module")
def own_store(make_store, tmp_path_factory):
    """A store for all of this file: searches would find what other files evaluated."""
    store = make_store(tmp_path_factory.mktemp("stored") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        yield store


@pytest.fixture(scope="module")
def source(two_models, tmp_path_factory):
    """A checkpoint of random weights whose foreground is where sections are dark."""
    network, info = load_checkpoint(two_models[0])
    with torch.no_grad():
        network.out_conv.weight.mul_(-10)
        network.out_conv.bias.sub_(1)
    path = tmp_path_factory.mktemp("source") / "best.safetensors"
    save_checkpoint(path, network, info)
    return str(path)


@pytest.fixture(scope="module")
def evaluated_source(own_store, pipeline, source):
    """The evaluation of a source as it is."""
    return evaluate(
        EvaluateConfig(
            dataset=str(pipeline.dataset),
            method="unadapted",
            structure="mito",
            source=source,
            augmentations="paper",
            device="cpu",
        ),
        own_store,
    )


@pytest.fixture(scope="module")
def found(own_store, pipeline, evaluated_source, tmp_path_factory):
    """The search over it."""
    output = tmp_path_factory.mktemp("found") / "recipe"
    config = OptimizeConfig(
        dataset=str(pipeline.dataset), runs=evaluated_source, metric="dice", output=str(output)
    )
    return optimize(config, own_store)


def read(store, run_id, *names):
    """Metrics of a run by name, and settings that it resolved."""
    data, settings = store.client.get_run(run_id).data, read_settings(store, run_id)
    tags = {name: data.tags.get(fact_tag(name)) for name in names}
    facts = {name: float(value) for name, value in tags.items() if value}
    known = settings | facts | data.metrics
    return {name: known[name] for name in names}


def curve(store, run_id, name, iterations=2):
    """A metric of the first iterations."""
    history = store.client.get_metric_history(run_id, name)
    return [point.value for point in sorted(history, key=lambda p: p.step)[:iterations]]


def test_every_step_whose_runs_are_reused_has_a_version():
    assert set(RUNS) - NEVER_REUSED <= VERSIONS.keys()


def test_prepare(pipeline, same_as_stored):
    metrics = pipeline.store.client.get_run(pipeline.prepared).data.metrics
    same_as_stored("prepare", {name: metrics[name] for name in sorted(metrics)})


def test_finetune(pipeline, same_as_stored):
    names = ("train/loss", "train/lr")
    curves = {name: curve(pipeline.store, pipeline.trained, name) for name in names}
    settings = ("foreground_weight", "epoch_iterations", "loss", "model/parameters")
    dataset = PreparedDataset.open(pipeline.dataset)
    few = TrainingData.choose(dataset, "mitochondria", labelled=2, seed=1, fed_nm=5.0)
    geometries = tuple((tile, halo) for tile in (384, 512) for halo in (64, 128))
    chosen = {
        "labelled": list(few.names),
        "geometries": [list(geometry) for geometry in GEOMETRIES],
        "geometry": list(pick_geometry(geometries, [0.77, 0.7731, 0.7735, 0.774])),
    }
    curves |= read(pipeline.store, pipeline.trained, *settings)
    same_as_stored("finetune", curves | chosen)


def test_pretrain(own_store, pipeline, same_as_stored):
    config = PretrainConfig(
        dataset=str(pipeline.dataset),
        iterations=2,
        batch_size=2,
        patch_px=32,
        features=4,
        device="cpu",
        precision="fp32",
    )
    run_id = pretrain(config, own_store)
    curves = {name: curve(own_store, run_id, name) for name in ("train/loss", "train/lr")}
    names = ("val/mean_mse", "val/view_mse", "images", "images_held_out", "normalisation")
    same_as_stored("pretrain", curves | read(own_store, run_id, *names))


def test_domain_adapt(own_store, pipeline, source, same_as_stored):
    config = DomainAdaptConfig(
        dataset=str(pipeline.dataset),
        structure="mito",
        source=source,
        confidence=None,
        iterations=2,
        batch_size=2,
        patch_px=32,
        device="cpu",
        precision="fp32",
    )
    run_id = domain_adapt(config, own_store)
    names = ("train/loss", "train/accepted", "train/lr")
    curves = {name: curve(own_store, run_id, name) for name in names}
    settings = ("source/dice", "threshold/upper", "threshold/lower", "epoch_iterations")
    same_as_stored("domain_adapt", curves | read(own_store, run_id, *settings))


def test_microsam(own_store, pipeline, same_as_stored, tmp_path):
    write_tiny_sam(tmp_path / "tiny.pt", image_px=64, decoder_features=8)
    config = MicrosamConfig(
        dataset=str(pipeline.dataset),
        structure="mito",
        mode="finetune",
        source=str(tmp_path / "tiny.pt"),
        tile_px=48,
        halo_px=8,
        patch_px=48,
        sub_iterations=1,
        objects_per_batch=2,
        iterations=2,
        device="cpu",
        precision="fp32",
    )
    run_id = microsam(config, own_store)
    names = ("train/loss", "train/mask_loss", "train/lr")
    curves = {name: curve(own_store, run_id, name) for name in names}
    settings = ("min_area_px", "max_area_px", "segmentation", "epoch_iterations")
    same_as_stored("microsam", curves | read(own_store, run_id, *settings))


def test_detect(own_store, pipeline, same_as_stored):
    config = DetectConfig(
        dataset=str(pipeline.dataset),
        features=8,
        patch_px=64,
        batch_size=2,
        tile_px=48,
        halo_px=8,
        iterations=2,
        device="cpu",
    )
    run_id = detect(config, own_store)
    names = ("train/loss", "train/classification_loss", "train/lr")
    curves = {name: curve(own_store, run_id, name) for name in names}
    same_as_stored("detect", curves | read(own_store, run_id, "epoch_iterations"))


def test_evaluate(own_store, evaluated_source, same_as_stored):
    scores = read(own_store, evaluated_source, *(f"val/{name}" for name in OF_PIXELS))
    settings = ("opening_radius_px", "min_area_px", "model/parameters")
    same_as_stored("evaluate", scores | read(own_store, evaluated_source, *settings))


def test_optimize(own_store, found, same_as_stored):
    names = ("val/dice", "val/iou", "search/combinations", "search/blends")
    settings = ("opening_radii_px", "min_areas_px")
    same_as_stored("optimize", read(own_store, found, *names, *settings))


def test_promote(own_store, found, same_as_stored):
    promote(PromoteConfig(structure="mito", run_id=found), own_store)
    champion = find_champion(own_store, "mitochondria", "prepared")
    same_as_stored(
        "promote", {"tags": sorted(champion.tags), "dice": float(champion.tags["val/dice"])}
    )


def test_segment(own_store, evaluated_source, tiny_tree, same_as_stored, tmp_path):
    output = tmp_path / "out"
    config = SegmentConfig(
        run_id=evaluated_source,
        input=str(tiny_tree / "val/raw"),
        pixel_size_nm=5.0,
        output=str(output),
        device="cpu",
    )
    segment(config, own_store)
    sections = pd.read_csv(output / "sections.csv", index_col="section")
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    labels = [tifffile.imread(path) for path in sorted(output.glob("mitochondria/*.tif"))]
    same_as_stored(
        "segment",
        {
            "files": files,
            "columns": list(sections.columns),
            "area": sections["area_um2"].to_numpy(),
            "labelled": [(image > 0).mean() for image in labels],
        },
    )


def test_export(own_store, pipeline, same_as_stored, tmp_path):
    results = {}
    for kind in ("tiff", "trakem2", "rois"):
        output = tmp_path / kind
        config = ExportConfig(dataset=str(pipeline.dataset), output=str(output), format=kind)
        metrics = own_store.client.get_run(export(config, own_store)).data.metrics
        results[kind] = {name: int(value) for name, value in sorted(metrics.items())}
        results[f"{kind}, files"] = sorted(path.name for path in output.rglob("*.*"))
    for path in sorted(Path(tmp_path / "tiff").rglob("*.tif")):
        results[path.name] = np.bincount(tifffile.imread(path).ravel()).tolist()
    same_as_stored("export", results)


def test_every_version_has_stored_results(request):
    stored = request.config.rootpath / "tests" / "stored_results.json"
    assert VERSIONS.keys() == json.loads(stored.read_text()).keys()
