import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from bench.config.data import PrepareConfig
from bench.config.scoring import EvaluateConfig
from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.steps.evaluate import evaluate
from bench.tracking.opening import open_run
from bench.tracking.queries import read_settings
from bench.tracking.runs import Identity


@pytest.fixture
def evaluate_as(pipeline):
    base = EvaluateConfig(dataset=str(pipeline.dataset))
    return lambda **settings: evaluate(replace(base, **settings), pipeline.store)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "evaluate needs a model: give run_id, or structure"),
        ({"run_id": "0" * 32}, "no run has the id '0{32}'"),
        ({"run_id": "{prepared}"}, "must have trained a model, {prepared} is prepare"),
        ({"run_id": "{on_val}"}, "must have trained a model, {on_val} is evaluate"),
        ({"run_id": "{trained}", "structure": "vesicles"}, "{trained} trained mitochondria, rec"),
        ({"run_id": "{trained}", "method": "finetuned"}, "{trained} is of method scratch, rec"),
        ({"structure": "nucleus"}, "unknown structure 'nucleus'"),
        ({"structure": "vesicels"}, r"one of mitochondria, vesicles \(did you mean vesicles\?\)"),
        ({"structure": "mito", "method": "unet"}, "unknown method 'unet'"),
        (
            {"structure": "vesicle", "method": "finetuned"},
            "no finished training has structure vesicles",
        ),
        ({"structure": "vesicles", "method": "scratch"}, "no finished training .*method scratch"),
        ({"structure": "mito", "seed": 9}, "no finished training .*seed 9"),
    ],
)
def test_a_model_that_cannot_be_meant(pipeline, evaluate_as, settings, message):
    ids = vars(pipeline)
    filled = {k: v.format(**ids) if isinstance(v, str) else v for k, v in settings.items()}
    message = message.replace("{trained}", pipeline.trained)
    message = message.replace("{prepared}", pipeline.prepared).replace("{on_val}", pipeline.on_val)
    with pytest.raises(BenchError, match=message):
        evaluate_as(**filled)


def test_a_training_that_has_not_ended(pipeline, evaluate_as):
    cell = {"method": "scratch", "structure": "vesicles", "dataset": "d" * 64, "seed": 0}
    run = open_run(pipeline.store, Identity("finetune", {"test": "unfinished"}, {}, **cell))
    with pytest.raises(BenchError, match=f"must be FINISHED, {run.id} is RUNNING"):
        evaluate_as(run_id=run.id)
    run.finish("FAILED", "for this test")
    with pytest.raises(BenchError, match=f"must be FINISHED, {run.id} is FAILED"):
        evaluate_as(run_id=run.id)


def test_a_structure_or_split_that_the_dataset_lacks(pipeline, evaluate_as, write_tree, tmp_path):
    other = prepare_like(write_tree(tmp_path / "tree", {"train": 2, "val": 1}), tmp_path / "other")
    with pytest.raises(BenchError, match="must have sections in test, received only train, val"):
        evaluate_as(dataset=other, run_id=pipeline.trained, split="test")
    with pytest.raises(BenchError, match="no finished training has structure mitochondria"):
        evaluate_as(dataset=other, structure="mito")
    only = prepare_like(tmp_path / "tree", tmp_path / "only", structures="vesicles")
    with pytest.raises(BenchError, match="unknown structure of this dataset 'mitochondria'"):
        evaluate_as(dataset=only, run_id=pipeline.trained)


def test_a_model_of_a_pointer_is_evaluated_once(pipeline, evaluate_as):
    tags = {"bench.see": pipeline.trained}
    pointer = pipeline.store.client.create_run(pipeline.store.experiment_id, tags=tags)
    assert evaluate_as(run_id=pointer.info.run_id) == pipeline.on_val


def test_the_papers_settings_remove_structures_smaller_than_the_papers(pipeline, evaluate_as):
    run_id = evaluate_as(run_id=pipeline.trained, protocol="paper")
    data = pipeline.store.client.get_run(run_id).data
    assert data.tags["bench.protocol"] == "paper"
    assert (
        "smallest area 5000 px) removed 100 % of the predicted mito" in data.tags["bench.warning"]
    )
    assert "use protocol=data or a smaller opening_radius_px" in data.tags["bench.warning"]
    assert data.metrics["val/postprocess_removed_fraction"] == 1
    assert data.metrics["val/dice"] == 0
    assert data.metrics["val/average_precision"] > 0.5
    assert read_settings(pipeline.store, run_id)["min_area_px"] == "5000"


def test_what_is_set_already_is_no_remedy(pipeline, evaluate_as):
    run_id = evaluate_as(run_id=pipeline.trained, protocol="data", min_area_px=5000)
    warning = pipeline.store.client.get_run(run_id).data.tags["bench.warning"]
    assert "mitochondria: use a smaller opening_radius_px or min_area_px" in warning


def test_weights_that_were_changed_are_not_used(pipeline, evaluate_as, tmp_path):
    """A run whose best.safetensors is not the file that its JSON describes."""
    source = pipeline.store.client.get_run(pipeline.trained)
    tags = {k: v for k, v in source.data.tags.items() if k.startswith("bench.")}
    run = pipeline.store.client.create_run(
        pipeline.store.experiment_id, start_time=1, tags=tags | {"bench.fingerprint": "changed"}
    )
    best = tmp_path / "best.safetensors"
    folder = pipeline.store.client.download_artifacts(pipeline.trained, "checkpoint", str(tmp_path))
    weights = load_file(f"{folder}/best.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, best)
    description = tmp_path / "best.json"
    description.write_text((tmp_path / "checkpoint" / "best.json").read_text())
    assert json.loads(description.read_text())["weights_sha256"] != file_sha256(best)
    for file in (best, description):
        pipeline.store.client.log_artifact(run.info.run_id, str(file), "checkpoint")
    pipeline.store.client.set_terminated(run.info.run_id, "FINISHED")
    with pytest.raises(BenchError, match=r"is not the weights file that .* describes"):
        evaluate_as(run_id=run.info.run_id)


def prepare_like(tree, output, **settings) -> str:
    write_prepared(read_input(PrepareConfig(input=str(tree), **settings)), output)
    return str(output)
