import csv
from dataclasses import replace

import pooch
import pytest
import requests

from bench.config.running import BenchmarkConfig
from bench.errors import BenchError
from bench.steps.benchmark import benchmark


@pytest.fixture
def config(pipeline, tiny, tmp_path):
    short = tiny | {"iterations": 2, "epoch_iterations": 2, "features": 2}
    return BenchmarkConfig(
        dataset=str(pipeline.dataset), output=str(tmp_path / "out"), split="val", **short
    )


@pytest.fixture
def no_internet(monkeypatch, tmp_path):
    """An empty cache, and nothing to fill it from; counts what is asked for."""
    asked = []

    def retrieve(address, *_, **__):
        asked.append(address)
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path / "sam"))
    return asked


def runs_of(store):
    """All runs: id -> (step, status, parent, tags)."""
    return {
        run.info.run_id: run.data.tags | {"status": run.info.status}
        for run in store.client.search_runs([store.experiment_id])
    }


def test_a_grid_runs_whole_and_a_failing_cell_stops_no_other(
    store, config, broken_source, tmp_path, caplog
):
    grid = replace(
        config,
        methods="finetuned,scratch,scratch",
        source=str(broken_source),
        structures="mito",
        seeds="0,1,0",
    )
    with pytest.raises(BenchError) as error:
        benchmark(grid)
    assert str(error.value).startswith(
        "2 of 4 cells failed (finetuned mitochondria seed 0 and 1 more: the source must be the same"
    )

    runs = runs_of(store)
    ((parent, tags),) = [(i, t) for i, t in runs.items() if t["bench.step"] == "benchmark"]
    assert tags["status"] == "FAILED"
    assert tags["bench.reason"] == str(error.value)
    children = {i: t for i, t in runs.items() if i != parent}
    assert {t["mlflow.parentRunId"] for t in children.values()} == {parent}
    failed = [t["bench.method"] for t in children.values() if t["status"] == "FAILED"]
    assert failed == ["finetuned", "finetuned"]
    children = {i: t for i, t in children.items() if t["status"] == "FINISHED"}
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
    assert "the source must be the same network" in rows["finetuned"]["reason"]

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


def test_a_source_that_a_named_method_lacks_is_one_line_before_anything_runs(
    store, config, no_internet
):
    grid = replace(config, methods="unadapted,finetuned,microsam_zero_shot,scratch", seeds="0,1,2")
    with pytest.raises(BenchError) as error:
        benchmark(grid)
    line = str(error.value)
    # Where it is not trained, each structure's own.
    assert len(no_internet) == 3
    assert line.startswith(
        "a benchmark needs the weights of its methods, unadapted starts from mitochondria, which"
    )
    assert "; finetuned, unadapted start from vesicles_2d, which" in line
    for part in ("synapse-net/models/vesicles_2d", "vit_b_em_organelles_decoder", "vit_b.pt at"):
        assert line.count(part) == 1
    assert line.endswith("go on without: -P methods=scratch")
    assert len(line) < 1200
    assert runs_of(store) == {}


def test_methods_that_nobody_named_are_left_out_with_one_note(store, config, no_internet, caplog):
    with pytest.raises(BenchError, match=r"-P methods=scratch,scratch_dice$"):
        benchmark(replace(config, methods="all"))
    caplog.clear()
    with caplog.at_level("INFO"):
        benchmark(replace(config, structures="mito", optimize=False))
    (note,) = [line for line in caplog.messages if line.startswith("left out: unadapted")]
    assert note.endswith("The benchmark goes on with scratch, scratch_dice")
    assert caplog.messages.count(note) == 1
    (tags,) = [t for t in runs_of(store).values() if t["bench.step"] == "benchmark"]
    assert tags["bench.warning"] == note
    assert tags["status"] == "FINISHED"
    done = {t["bench.method"] for t in runs_of(store).values() if t["bench.step"] == "evaluate"}
    assert done == {"scratch", "scratch_dice"}


def test_a_plan_says_what_would_be_done_and_leaves_no_run(store, config, caplog):
    grid = replace(config, methods="scratch", structures="mito", seeds="0,1", plan=True)
    with caplog.at_level("INFO"):
        assert benchmark(grid) == ""
    assert runs_of(store) == {}
    first, time, disk = [line for line in caplog.messages if line.startswith("plan: ")]
    assert first == (
        "plan: 2 cells (2 seeds): 2 trainings, 0 of them finished before, and 2 evaluations, 0 of "
        "them finished before"
    )
    assert "s on cpu in fp32 (measured now: unet2d: an iteration (batch 4, patch 32 px)" in time
    assert "GB of disk" in disk
    benchmark(replace(grid, seeds="0", plan=False))
    caplog.clear()
    with caplog.at_level("INFO"):
        benchmark(grid)
    assert "2 trainings, 1 of them finished before, and 2 evaluations, 1 of" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        benchmark(replace(grid, seeds="0"))
    # Nothing is left, so nothing is timed.
    planned = [line[:12] for line in caplog.messages if line.startswith("plan: ")]
    assert planned == ["plan: 1 cell"]
    assert "timing" not in caplog.text


def test_a_setting_that_cannot_be_is_told_once_for_all_its_cells(store, config):
    with pytest.raises(BenchError) as error:
        benchmark(replace(config, methods="scratch,scratch_dice", seeds="0,1,2", labelled="1,9"))
    assert str(error.value).startswith(
        "all 24 cells must be able to run, 12 are not (scratch mitochondria labelled 9 seed 0 and "
        "11 more: labelled must be at most the 3 training sections"
    )
    assert runs_of(store) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_px": 40}, "^patch_px must be a multiple of 16, received 40$"),
        ({"device": "cuda:99"}, "^device must be auto, cpu or a GPU"),
        (
            {"domain_adapt": "iteration=3", "methods": "domain_adapted"},
            "^unknown setting of Domain",
        ),
        ({"source": "runs:/none", "methods": "finetuned"}, "^no run has the id 'none'"),
    ],
)
def test_what_stops_all_cells_is_said_as_it_is(store, config, settings, message):
    grid = {"methods": "scratch", "seeds": "0,1"} | settings
    with pytest.raises(BenchError, match=message):
        benchmark(replace(config, **grid))
    assert runs_of(store) == {}
