"""Several processes that log at once: benchmarks/many_writers.py, small."""

import pytest
from many_writers import (
    PARAMS,
    STORES,
    Load,
    Outcome,
    compare_content,
    running_store,
    write_all,
    write_runs,
)

LOAD = Load(writers=4, runs=2, steps=40)


@pytest.mark.parametrize("kind", STORES)
def test_four_writers_lose_nothing(kind, request):
    if "PostgreSQL" in kind:
        # Skips where there is none.
        request.getfixturevalue("postgres")
    with running_store(kind) as (uri, artifacts):
        outcome = write_all(uri, artifacts, LOAD)
    assert outcome == Outcome(LOAD.writers * LOAD.runs, 0, outcome.late, outcome.seconds)


def test_what_is_missing_is_counted(store, monkeypatch, tmp_path):
    """The comparison finds a parameter, a value, an artifact and a run that are gone."""

    class Started:
        def wait(self):
            pass

    load = Load(writers=1, runs=2, steps=4)
    write_runs(store.uri, store.experiment_id, load, 0, Started())
    whole = compare_content(store.client, store.experiment_id, load, 1.0)
    assert whole == Outcome(2, 0, 0, 1.0)
    first, second = store.client.search_runs([store.experiment_id])
    store.client.log_metric(first.info.run_id, "val/dice", 99.0, step=3)
    (tmp_path / "written.txt").write_text("other")
    store.client.log_artifact(first.info.run_id, str(tmp_path / "written.txt"))
    store.client.delete_run(second.info.run_id)
    broken = compare_content(store.client, store.experiment_id, load, 1.0)
    assert (broken.found, broken.lost) == (1, 2 + PARAMS + 3 * 4 + 2)
