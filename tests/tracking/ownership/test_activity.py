from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from bench.tracking.ownership.stale import observe


def test_what_runs_and_what_ended_last(store, record):
    assert observe(store, store.experiment_id).running == {}
    running = record(status="RUNNING")
    before = observe(store, store.experiment_id)
    assert list(before.running) == [running]
    assert observe(store, store.experiment_id) == before
    ended = record("evaluate")
    after = observe(store, store.experiment_id)
    assert after != before
    assert [run_id for run_id, _ in after.last_ended] == [ended]
    store.client.set_terminated(running, "KILLED")
    assert observe(store, store.experiment_id).running == {}
    assert observe(store, store.experiment_id) != after


def test_a_run_that_only_looks_is_no_activity(store, record):
    before = observe(store, store.experiment_id)
    record("compare", status="RUNNING")
    record("compare")
    # What `mlflow run -e compare` has made before the step takes it.
    store.client.create_run(store.experiment_id, tags={MLFLOW_PROJECT_ENTRY_POINT: "compare"})
    assert observe(store, store.experiment_id) == before
