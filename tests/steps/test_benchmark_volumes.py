"""Networks of volumes and of sections on the same volumes, in one table."""

import csv

import pytest

from bench.config.running import BenchmarkConfig
from bench.steps.benchmark import benchmark


@pytest.fixture(scope="module")
def grid(prepare_volumes, make_store, tmp_path_factory):
    """The store of a benchmark that was run twice, its runs after the first, and its table."""
    folder = tmp_path_factory.mktemp("grid")
    store = make_store(folder / "store")
    config = BenchmarkConfig(
        dataset=prepare_volumes(folder, {"train": 1, "val": 1, "test": 1}, shape=(16, 32, 32)),
        output=str(folder / "out"),
        methods="unet3d,scratch",
        structures="vesicles",
        iterations=2,
        epoch_iterations=2,
        features=2,
        patch_px=32,
        batch_size=2,
        tile_px=32,
        halo_px=16,
        device="cpu",
        precision="fp32",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        benchmark(config)
        first = store.client.search_runs([store.experiment_id])
        benchmark(config)
        second = store.client.search_runs([store.experiment_id])
    with (folder / "out" / "benchmark.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    return first, second, rows


def test_both_kinds_stand_in_one_table(grid):
    _, _, rows = grid
    assert {"unet3d", "scratch"} <= set(rows)
    for name in ("unet3d", "scratch"):
        assert rows[name]["reason"] == "", name
        assert 0 <= float(rows[name]["dice"]) <= 1


def test_what_is_done_is_not_done_again(grid):
    first, second, _ = grid
    before = {run.info.run_id for run in first}
    made = [run for run in second if run.info.run_id not in before]
    assert sorted(run.data.tags["bench.step"] for run in made) == ["benchmark", "compare"]
