"""Prompts from the annotation, from a SAM to the table: an oracle is shown, and wins nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.config.data import PrepareConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig
from bench.config.training import MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.sam import write_tiny_sam
from bench.models.sam_weights import read_torch_file
from bench.steps.benchmark import benchmark
from bench.steps.compare import compare
from bench.steps.evaluate import evaluate
from bench.steps.microsam import microsam
from bench.steps.optimize import optimize
from bench.steps.scoring import prompted
from bench.steps.segment import segment
from bench.steps.training.microsam_task import resolve_microsam
from bench.tracking.queries import fetch_artifact, read_settings

ORACLES = ("microsam_prompted", "microsam_prompted_finetuned")
MARK = "(oracle)"


@pytest.fixture(scope="module")
def folder(tiny_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted")
    config = PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    write_tiny_sam(folder / "tiny.pt", image_px=64, decoder_features=0)
    return folder


@pytest.fixture
def base(folder):
    return MicrosamConfig(
        dataset=str(folder / "prepared"),
        source=str(folder / "tiny.pt"),
        mode="prompted",
        box_distortions_px="0,3",
        tile_px=32,
        halo_px=8,
        device="cpu",
    )


@pytest.fixture
def perfect(monkeypatch):
    """Every prompt gives the very object that it was made from."""

    def prompt(encoder, raw, labels, settings, **sizes):
        from bench.inference.prompts.masks import PromptedMask
        from bench.inference.sam.windows import Mask

        for number in np.unique(labels[labels > 0]):
            mask = labels == number
            for kind, distortion in settings.rounds:
                first = (kind, distortion) == settings.rounds[0]
                packed = Mask.pack(mask, 0, 0, 1.0) if first else None
                yield PromptedMask(int(number), int(mask.sum()), kind, distortion, 1.0, packed)

    monkeypatch.setattr(prompted, "prompt_objects", prompt)


def artifact(store, run_id, name):
    return fetch_artifact(store, run_id, name)


def test_every_object_is_scored_by_every_prompt(store, base):
    model = microsam(base, store)
    assert store.client.get_run(model).data.tags["bench.method"] == "microsam_prompted"
    run_id = evaluate(EvaluateConfig(dataset=base.dataset, run_id=model, split="test"), store)
    run = store.client.get_run(run_id)
    assert run.data.tags["bench.oracle"] == "true"
    assert "oracle: prompts are made from the annotation" in run.data.tags["bench.warning"]
    objects = pd.read_csv(artifact(store, run_id, "prompted_objects.csv"))
    dataset = PreparedDataset.open(base.dataset)
    truth = {name: dataset.read_labels(name, "mitochondria") for name in dataset.sections("test")}
    number = sum(len(np.unique(labels[labels > 0])) for labels in truth.values())
    table = pd.read_csv(artifact(store, run_id, "prompts.csv"))
    rounds = [("box", 0), ("box", 3), ("point", 0), ("point_box", 0), ("point_box", 3)]
    assert list(zip(table["prompt"], table["distortion_px"], strict=True)) == [
        *rounds,
        ("points", 0),
    ]
    assert (table["objects"] == number).all()
    assert len(objects) == number * len(table)
    # Metrics are of boxes as they are annotated.
    for kind in ("box", "point", "point_box", "points"):
        ious = objects[(objects["prompt"] == kind) & (objects["distortion_px"] == 0)]["iou"]
        assert run.data.metrics[f"test/{kind}_iou"] == pytest.approx(ious.mean())
        assert run.data.metrics[f"test/{kind}_above_050"] == pytest.approx((ious > 0.5).mean())
    files = {item.path for item in store.client.list_artifacts(run_id)}
    assert "box_distortion.png" in files
    # Nothing that could be searched, applied or exported.
    assert not files & {"predictions.h5", "recipe.json", "precision_recall.csv"}
    # Of other settings of automatic segmentation or training it is the same model.
    assert microsam(replace(base, points_per_side=3, iterations=5), store) == model
    assert microsam(replace(base, box_distortions_px="0,4"), store) != model
    settings = read_settings(store, model)
    assert settings["prompts"] == base.prompts
    assert not settings.keys() & {"points_per_side", "lr"}


def test_a_fine_tuned_model_has_a_row_of_its_own(store, base):
    automatic = replace(
        base,
        mode="finetune",
        iterations=2,
        epoch_iterations=2,
        patch_px=48,
        sub_iterations=1,
        points_per_side=2,
        min_area_px=1,
    )
    trained = microsam(automatic, store)
    by_source = microsam(replace(base, source=f"runs:/{trained}"), store)
    named = replace(base, source="auto", method="microsam_prompted_finetuned")
    assert microsam(named, store) == by_source
    assert store.client.get_run(by_source).data.tags["bench.method"] == named.method


@pytest.fixture
def honest(store, pipeline, use_store):
    """An honest model's evaluations, far from perfect, in the store of the oracle."""
    use_store(store)
    weights = fetch_artifact(pipeline.store, pipeline.trained, "checkpoint") / "best.safetensors"

    def score(dataset, split):
        given = {"method": "unadapted", "structure": "mito", "source": str(weights)}
        config = EvaluateConfig(dataset=dataset, split=split, **given, device="cpu", threshold=0.6)
        return evaluate(config, store)

    return score


def test_an_oracle_of_perfect_scores_wins_nothing(store, base, perfect, honest, tmp_path):
    model = microsam(base, store)
    runs = {}
    for split in ("val", "test"):
        config = EvaluateConfig(dataset=base.dataset, run_id=model, split=split)
        runs[split] = evaluate(config, store)
        honest(base.dataset, split)
    assert store.client.get_run(runs["test"]).data.metrics["test/dice"] == 1
    out = tmp_path / "tables"
    compare(CompareConfig(dataset=base.dataset, output=str(out)), store)
    whole = json.loads((out / "benchmark.json").read_text())
    rows = {row["method"]: row for row in whole["rows"]}
    oracle, other = rows["microsam_prompted"], rows["unadapted"]
    assert oracle["oracle"]
    assert not other["oracle"]
    assert (oracle["scores"]["dice"], oracle["best"]) == (1, [])
    assert oracle["label"].endswith(MARK)
    assert other["scores"]["dice"] < 1
    assert whole["comparisons"] == whole["ranks"][1:] == []
    assert whole["ranks"][0]["method"] == "unadapted"
    assert {each["method"] for each in whole["prompts"]} == {"microsam_prompted"}
    for name in ("benchmark.md", "benchmark.csv", "benchmark.tex", "benchmark.html"):
        text = (out / name).read_text()
        assert f"micro-SAM, prompted {MARK}" in text, name
        assert "micro-SAM, prompted" not in text.replace(f"micro-SAM, prompted {MARK}", ""), name
    page = (out / "benchmark.html").read_text()
    verdict = page[page.index('id="verdict"') : page.index('id="scores"')]
    assert "Unadapted" in verdict
    assert MARK not in verdict
    assert "microsam_prompted" not in (out / "comparisons.csv").read_text()
    # A search reads the honest model alone, whatever it is asked for.
    search = OptimizeConfig(dataset=base.dataset, output=str(tmp_path / "best"))
    best = optimize(search, store)
    recipe = json.loads(artifact(store, best, "recipe.json").read_text())
    assert {member["method"] for member in recipe["members"]} == {"unadapted"}
    for config in (
        replace(search, runs=model),
        replace(search, runs=runs["val"]),
        replace(search, methods="microsam_prompted"),
    ):
        with pytest.raises(BenchError, match=r"microsam_prompted is prompted by annotated objects"):
            optimize(config, store)
    for run_id in (model, runs["test"]):
        images = SegmentConfig(run_id=run_id, input=str(tmp_path), output=str(tmp_path / "seg"))
        with pytest.raises(BenchError, match=r"\(oracle\), received it to segment"):
            segment(images, store)
    assert not (tmp_path / "seg").exists()


def test_a_benchmark_has_both_rows(store, use_store, base, folder, tmp_path):
    use_store(store)
    out = tmp_path / "results"
    benchmark(
        BenchmarkConfig(
            dataset=base.dataset,
            output=str(out),
            methods=",".join(ORACLES),
            structures="mito",
            microsam=f"source={folder / 'tiny.pt'};tile_px=32;halo_px=8;iterations=2;"
            "epoch_iterations=2;patch_px=48;sub_iterations=1;points_per_side=2;min_area_px=1;"
            "prompts=box;box_distortions_px=0,2",
            device="cpu",
        )
    )
    whole = json.loads((out / "benchmark.json").read_text())
    assert [row["method"] for row in whole["rows"] if row["scores"]] == list(ORACLES)
    (run,) = store.client.search_runs([store.experiment_id], "tags.`bench.step` = 'benchmark'")
    assert "no best combination" not in run.data.tags.get("bench.warning", "")
    first, second = whole["prompts"]
    assert first["change_percent"] is None
    assert second["change_percent"] == pytest.approx(100 * (second["iou"] / first["iou"] - 1))
    assert whole["ranks"] == whole["comparisons"] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "box,scribble"}, "unknown prompt 'scribble'"),
        ({"prompts": ","}, "prompts must be some of box, point"),
        ({"box_distortions_px": "0,-2"}, "numbers of at least 0, .* received '0,-2'"),
        ({"box_distortions_px": "few"}, "received 'few'"),
        ({"method": "microsam_zero_shot"}, "made with mode=zero_shot, received mode=prompted"),
    ],
)
def test_settings_that_cannot_be_meant(store, base, settings, message):
    with pytest.raises(BenchError, match=message):
        resolve_microsam(replace(base, **settings), store)


def test_a_structure_that_is_a_network_has_no_objects(store, base, monkeypatch):
    dataset = PreparedDataset.open(base.dataset)
    net = np.ones(dataset.shape(dataset.sections("train")[0]), np.uint8)
    net[5:9, 5:9] = 0
    net[6:8, 6:8] = 2
    net[20:24, 5:9] = 0
    net[21, 6] = 3
    monkeypatch.setattr(PreparedDataset, "read_labels", lambda self, name, structure: net)
    with pytest.raises(BenchError, match="choose a structure of instances"):
        resolve_microsam(base, store)


def test_a_checkpoint_whose_parts_are_of_two_sizes(store, base, folder, tmp_path):
    weights = read_torch_file(folder / "tiny.pt", trust=False)
    name = "sam.image_encoder.patch_embed.proj.weight"
    weights[name] = weights[name][:384]
    path = Path(tmp_path / "other.pt")
    torch.save({"model_state": weights}, path)
    with pytest.raises(BenchError, match="a SAM must have the tensors of Segment Anything's ViT"):
        microsam(replace(base, source=str(path)), store)


def test_a_split_without_objects(store, base, monkeypatch):
    model = microsam(base, store)
    monkeypatch.setattr(PreparedDataset, "instances", lambda self, split, structure: 0)
    with pytest.raises(BenchError, match="the split test has none of mitochondria"):
        evaluate(EvaluateConfig(dataset=base.dataset, run_id=model, split="test"), store)
