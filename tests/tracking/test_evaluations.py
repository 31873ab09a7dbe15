import pytest

from bench.errors import BenchError
from bench.tracking.evaluations import get_evaluation
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity

CELL = {"method": "scratch", "structure": "vesicles", "dataset": "d" * 64, "seed": 0}


def make_run(store, step):
    run = open_run(store, Identity(step, {}, {}, **CELL))
    run.set_tags({"bench.split": "val", "bench.trained_run": "none"})
    return run


def test_an_evaluation_is_read_from_its_run(store):
    run = make_run(store, "evaluate")
    with pytest.raises(BenchError, match=f"must be FINISHED, {run.id} is RUNNING"):
        get_evaluation(store, run.id)
    run.finish("FINISHED")
    found = get_evaluation(store, run.id)
    assert (found.id, found.trained_run, found.split) == (run.id, "", "val")
    assert (found.method, found.structure, found.dataset) == ("scratch", "vesicles", "d" * 64)


def test_a_pointer_is_followed(store):
    run = make_run(store, "evaluate")
    run.finish("FINISHED")
    pointer = store.client.create_run(store.experiment_id, tags={"bench.see": run.id})
    assert get_evaluation(store, pointer.info.run_id).id == run.id


def test_runs_without_predictions(store):
    run = make_run(store, "finetune")
    run.finish("FINISHED")
    with pytest.raises(BenchError, match=f"must hold predictions, {run.id} is finetune"):
        get_evaluation(store, run.id)
    with pytest.raises(BenchError, match=r"no run has the id 'f{32}' in sqlite"):
        get_evaluation(store, "f" * 32)
