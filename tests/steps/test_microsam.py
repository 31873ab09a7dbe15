import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.config.data import PrepareConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import MicrosamConfig
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.sam import write_tiny_sam
from bench.steps.evaluate import evaluate
from bench.steps.microsam import microsam
from bench.steps.training.microsam_task import resolve_microsam
from bench.tracking.queries import read_settings

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def folder(tiny_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("microsam")
    config = PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    write_tiny_sam(folder / "tiny.pt", image_px=64, decoder_features=8)
    write_tiny_sam(folder / "bare.pt", image_px=64, decoder_features=0)
    return folder


@pytest.fixture
def base(folder):
    return MicrosamConfig(
        dataset=str(folder / "prepared"),
        source=str(folder / "tiny.pt"),
        tile_px=32,
        halo_px=8,
        points_per_side=2,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        min_area_px=1,
        patch_px=48,
        sub_iterations=2,
        objects_per_batch=2,
        lr=1e-3,
        device="cpu",
        precision="fp32",
        iterations=4,
        epoch_iterations=2,
        checkpoint_iterations=1,
    )


def checkpoint(store, run_id):
    return Path(store.client.get_run(run_id).info.artifact_uri) / "checkpoint"


@pytest.mark.parametrize(("file", "segmentation"), [("tiny.pt", "ais"), ("bare.pt", "amg")])
def test_zero_shot_ends_with_a_model_like_any_other(store, base, folder, file, segmentation):
    config = replace(base, source=str(folder / file))
    run_id = microsam(config, store)
    run = store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["bench.method"] == "microsam_zero_shot"
    assert {"val/dice", "val/instance_f1", "best/dice"} <= run.data.metrics.keys()
    assert read_settings(store, run_id)["segmentation"] == segmentation
    assert "lr" not in read_settings(store, run_id)
    best = checkpoint(store, run_id) / "best.safetensors"
    predict, info = open_predictor(best, CPU, "mitochondria")
    assert (info.inference["segmentation"], info.architecture) == (segmentation, "sam")
    assert info.input_pixel_size_nm == 5.0
    raw = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    assert predict(raw, 5.0).instances.shape == raw.shape
    # The same command is the same run, and settings of training do not matter to it.
    assert microsam(replace(config, iterations=9), store) == run_id
    scored = evaluate(EvaluateConfig(dataset=config.dataset, run_id=run_id, device="cpu"), store)
    assert "val/instance_f1" in store.client.get_run(scored).data.metrics
    augmented = EvaluateConfig(dataset=config.dataset, run_id=run_id, augmentations="paper")
    with pytest.raises(BenchError, match=r"averaged as probabilities, .*for microsam_zero_shot"):
        evaluate(augmented, store)


def test_a_stopped_training_goes_on_to_the_same_end(store, make_store, base, tmp_path, stop_after):
    config = replace(base, mode="finetune")
    straight = make_store(tmp_path / "other")
    expected = checkpoint(straight, microsam(config, straight))
    stop_after(3, lambda: microsam(config, store))
    (stopped,) = store.client.search_runs([store.experiment_id])
    resumed = microsam(config, store)
    assert resumed == stopped.info.run_id
    run = store.client.get_run(resumed)
    assert run.data.tags["bench.method"] == "microsam_finetuned"
    steps = [m.step for m in store.client.get_metric_history(resumed, "train/decoder_loss")]
    assert steps == [1, 2, 3, 4]
    for name in ("best", "last"):
        ours, theirs = (
            load_file(f / f"{name}.safetensors") for f in (checkpoint(store, resumed), expected)
        )
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    # It starts from the source, and its frozen encoder is the source's.
    source = torch.load(config.source, weights_only=True)["model_state"]
    learned = load_file(expected / "last.safetensors")
    same = {name: torch.equal(learned[name], tensor) for name, tensor in source.items()}
    assert all(equal for name, equal in same.items() if "image_encoder" in name)
    assert not same["sam.mask_decoder.iou_token.weight"]


def test_lora_is_saved_merged_and_can_be_a_source(store, base, folder):
    config = replace(
        base, mode="finetune", lora_rank=2, iterations=2, source=str(folder / "bare.pt")
    )
    run_id = microsam(config, store)
    weights = load_file(checkpoint(store, run_id) / "last.safetensors")
    assert not any("linear_" in name for name in weights)
    source = torch.load(config.source, weights_only=True)["model_state"]
    assert weights.keys() == source.keys()
    qkv = "sam.image_encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(weights[qkv], source[qkv])
    again = microsam(replace(base, source=f"runs:/{run_id}"), store)
    assert read_settings(store, again)["segmentation"] == "amg"


def test_areas_follow_annotations_the_paper_or_the_user(store, base, folder):
    def areas(**settings):
        run_id = microsam(replace(base, **settings), store)
        info = json.loads((checkpoint(store, run_id) / "best.json").read_text())
        return info["inference"]["min_area_px"], info["inference"]["max_area_px"]

    # Discs of radius 11 have 377 px.
    assert areas(min_area_px=None) == (188, 565)
    assert areas(min_area_px=None, size_filter="paper") == (5000, None)
    assert areas(min_area_px=10, max_area_px=20) == (10, 20)
    with pytest.raises(BenchError, match="max_area_px must be at least min_area_px, received 5"):
        areas(min_area_px=10, max_area_px=5)


def test_nothing_found_is_said(store, base, caplog):
    run_id = microsam(replace(base, min_area_px=4000, max_area_px=4001), store)
    toy, warning = store.client.get_run(run_id).data.tags["bench.warning"].splitlines()
    assert toy.startswith("this SAM has 1 transformer block")
    assert warning.startswith("no instance of 4000 to 4001 px was found on validation: lower")
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "vit_t_em_organelles"}, "MobileSAM"),
        ({"source": "vit_x"}, "unknown SAM 'vit_x': choose one of"),
        ({"source": "/no/such.pt"}, "received '/no/such.pt': check the path"),
        ({"source": "runs:/0"}, "no run has the id '0'"),
        ({"structure": "nucleus"}, "unknown structure 'nucleus'"),
        ({"structure": "membrane"}, "membrane"),
        ({"device": "cuda:99"}, "device must be auto, cpu or a GPU"),
        ({"labelled": 99}, "labelled must be at most"),
        ({"method": "microsam_finetuned"}, "made with mode=finetune, received mode=zero_shot"),
        ({"method": "scratch"}, "microsam runs methods of its own .* run finetune with it"),
    ],
)
def test_settings_that_cannot_be_meant(store, base, settings, message):
    with pytest.raises(BenchError, match=message):
        resolve_microsam(replace(base, **settings), store)


def test_a_source_that_is_no_sam(pipeline, base):
    with pytest.raises(BenchError, match=r"starts from a SAM, source runs:/.* is a unet2d"):
        resolve_microsam(replace(base, source=f"runs:/{pipeline.trained}"), pipeline.store)


def test_ais_without_a_decoder_fails_the_run(store, base, folder):
    config = replace(base, source=str(folder / "bare.pt"), segmentation="ais")
    with pytest.raises(BenchError, match="needs a checkpoint with micro_sam's decoder"):
        microsam(config, store)
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.status == "FAILED"


def test_patches_used_again_are_embedded_once(store, base, monkeypatch, tmp_path):
    """With embeddings kept the same model comes out as without, and it says what does not fit."""
    config = replace(base, mode="finetune", patches=3, iterations=6, epoch_iterations=6)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = {}
    for space in ("0", "1"):
        monkeypatch.setenv("BENCH_EMBEDDINGS_GB", space)
        run_id = microsam(config, store)
        weights[space] = load_file(checkpoint(store, run_id) / "last.safetensors")
        warnings = store.client.get_run(run_id).data.tags["bench.warning"]
        assert ("cannot all be kept" in warnings) == (space == "0")
        store.client.delete_run(run_id)
    assert all(torch.equal(tensor, weights["1"][key]) for key, tensor in weights["0"].items())
    kept = list((tmp_path / "cache" / "synapse-bench" / "embeddings").iterdir())
    # Three patches, and the windows of validation.
    assert len(kept) > 3


def test_runs_of_before_there_were_patches_are_the_same(base):
    assert "patches" not in base.identity()
    assert replace(base, patches=3).identity()["patches"] == 3
