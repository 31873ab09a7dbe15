import pytest

from bench.tracking.runs import Identity

DATASET = "d" * 64


@pytest.fixture
def record(store):
    """Records a run of a step and returns its id; later calls are later runs."""
    clock = iter(range(1, 1000))

    def make(step="finetune", status="FINISHED", tags=None, **parts):
        cell = {"method": "scratch", "structure": "vesicles", "dataset": DATASET, "seed": 0}
        number = next(clock)
        identity = Identity(step, {"number": number}, {}, **(cell | parts))
        made = store.client.create_run(
            store.experiment_id, start_time=number, tags=identity.tags() | (tags or {})
        )
        if status != "RUNNING":
            store.client.set_terminated(made.info.run_id, status)
        return made.info.run_id

    return make
