import csv
from dataclasses import replace

import pytest

from bench.config.running import BenchmarkConfig
from bench.errors import BenchError
from bench.steps.benchmark import benchmark


@pytest.fixture
def config(pipeline, tiny, tmp_path):
    short = tiny | {"iterations": 2, "epoch_iterations": 2, "features": 2}
    return BenchmarkConfig(
        dataset=str(pipeline.dataset), output=str(tmp_path / "out"), split="val", **short
    )


def runs_of(store):
    """All runs: id -> (step, status, parent, tags)."""
    return {
        run.info.run_id: run.data.tags | {"status": run.info.status}
        for run in store.client.search_runs([store.experiment_id])
    }


def test_a_grid_runs_whole_and_a_failing_cell_stops_no_other(store, config, tmp_path, caplog):
    grid = replace(
        config,
        methods="finetuned,scratch,scratch",
        source="runs:/none",
        structures="mito",
        seeds="0,1,0",
    )
    with pytest.raises(BenchError) as error:
        benchmark(grid)
    assert str(error.value).startswith("2 of 4 cells failed (finetuned mitochondria seed 0: no run")
    assert "finetuned mitochondria seed 1: no run has the id 'none'" in str(error.value)

    runs = runs_of(store)
    ((parent, tags),) = [(i, t) for i, t in runs.items() if t["bench.step"] == "benchmark"]
    assert tags["status"] == "FAILED"
    assert tags["bench.reason"] == str(error.value)
    children = {i: t for i, t in runs.items() if i != parent}
    assert {t["mlflow.parentRunId"] for t in children.values()} == {parent}
    assert {t["status"] for t in children.values()} == {"FINISHED"}
    steps = sorted((t["bench.step"], t.get("bench.seed", "")) for t in children.values())
    expected = [("evaluate", "0"), ("evaluate", "1"), ("finetune", "0"), ("finetune", "1")]
    assert steps == [("compare", ""), *expected, ("optimize", "0")]
    metrics = store.client.get_run(parent).data.metrics
    assert (metrics["work/cells_done"], metrics["work/cells_failed"]) == (4, 2)

    with (tmp_path / "out" / "benchmark.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["scratch"]["seeds"] == "0 1"
    for metric in ("dice", "iou", "instance_f1"):
        assert metrics[f"mitochondria/{metric} scratch"] == float(rows["scratch"][metric])
    assert float(rows["best_by_dice"]["dice"]) >= float(rows["scratch"]["dice"])
    assert (tmp_path / "out" / "best" / "mitochondria" / "recipe.json").is_file()
    assert "no run has the id 'none'" in rows["finetuned"]["reason"]

    # The same command again does only what is missing: here, nothing but the table.
    caplog.clear()
    with caplog.at_level("INFO"), pytest.raises(BenchError, match="2 of 4 cells failed"):
        benchmark(grid)
    assert caplog.text.count("reusing finished run") == 5
    new = {i: t for i, t in runs_of(store).items() if i not in runs}
    assert sorted(t["bench.step"] for t in new.values()) == ["benchmark", "compare"]


def test_an_unforeseen_error_is_its_cells_alone(store, config, monkeypatch, tmp_path):
    from bench.steps.grid import cells as module

    def finetune_or_fail(settings, *others):
        if settings.structure == "vesicles":
            raise MemoryError("no memory left")
        return original(settings, *others)

    original = module.finetune
    monkeypatch.setattr(module, "finetune", finetune_or_fail)
    with pytest.raises(
        BenchError, match=r"1 of 2 cells failed .scratch vesicles seed 0: MemoryErr"
    ):
        benchmark(replace(config, methods="scratch"))
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "no memory left" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": "scratch,unet"}, "unknown method 'unet'"),
        ({"methods": " , "}, "a benchmark needs methods, and seeds"),
        ({"seeds": "0,one"}, "seeds that are whole numbers, received .*seeds='0,one'"),
        ({"seeds": "-1"}, "seeds that are whole numbers"),
        ({"seeds": ""}, "a benchmark needs methods, and seeds"),
        ({"structures": "mito,nucleus"}, "unknown structure 'nucleus'"),
        (
            {"structures": "membrane"},
            "unknown structure 'membrane': choose one of mitochondria, vesicles",
        ),
        ({"labelled": "few"}, "labelled must be numbers of annotated training sections, or all"),
        ({"labelled": ""}, "labelled must be numbers"),
        ({"dataset": "no/such"}, "no/such must be a prepared dataset"),
    ],
)
def test_a_grid_that_cannot_be_made_leaves_no_run(store, config, settings, message):
    with pytest.raises(BenchError, match=message):
        benchmark(replace(config, **settings))
    assert runs_of(store) == {}
