"""Every row of METHODS for sections as a cell of the benchmark, on tiny data and tiny models."""

import csv
from dataclasses import replace

import pytest

from bench.config.running import BenchmarkConfig
from bench.methods import FIRST_RELEASE, METHODS
from bench.models.checkpoint import build_model
from bench.models.foreign import write_synapsenet_file
from bench.models.networks import NETWORKS
from bench.models.sam import write_tiny_sam
from bench.steps.benchmark import benchmark

# But for those of one size, which is not tiny (tests/steps/test_retina.py), those of classes, which
# take two structures (tests/steps/test_classes.py), nnU-Net, which CI does not have
# (tests/steps/test_nnunet.py), and the pixel classifiers, whose usual work is a minute's
# (tests/steps/test_pixel_classifier.py, tests/steps/test_foundation_features.py).
OF_SECTIONS = {
    name: row
    for name, row in METHODS.items()
    if NETWORKS[row.network].dims == 2
    and row.network not in ("unet_resnet50", "transunet", "nnunet", "pixel_classifier")
    and row.network != "foundation_features"
    and not row.of_classes
}

# What starts from models that depend on the seed, and what depends on none.
OF_TWO_SEEDS = ("unadapted", "domain_adapted", "da_finetuned", "montage_pretrained")
# What learns from one section, too.
FROM_ONE = "scratch"


@pytest.fixture(scope="module")
def grid(pipeline, make_store, tiny, tmp_path_factory):
    """A benchmark of all methods, twice: the store's runs after the first, and the table."""
    folder = tmp_path_factory.mktemp("grid")
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 4}
    network = build_model("unet2d", arguments)
    write_synapsenet_file(folder / "source.pt", network.state_dict(), arguments)
    write_tiny_sam(folder / "sam.pt", image_px=64)
    store = make_store(folder / "store")
    config = BenchmarkConfig(
        **tiny | {"iterations": 2, "epoch_iterations": 2},
        dataset=str(pipeline.dataset),
        output=str(folder / "out"),
        structures="mito",
        seeds="0",
        methods=",".join(OF_SECTIONS),
        source=f"mito={folder / 'source.pt'}",
        split="val",
        domain_adapt="iterations=2,epoch_iterations=2,batch_size=1,patch_px=32",
        pretrain="iterations=2,epoch_iterations=2,batch_size=1,patch_px=32",
        detect="iterations=2,epoch_iterations=2,batch_size=1,patch_px=64,tile_px=64,halo_px=0",
        microsam=f"source={folder / 'sam.pt'},iterations=2,epoch_iterations=2,patch_px=64,"
        "sub_iterations=1,objects_per_batch=2,points_per_side=2,tile_px=64,halo_px=0",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        benchmark(replace(config, methods=FROM_ONE, labelled="1", optimize=False))
        benchmark(replace(config, methods=",".join(OF_TWO_SEEDS), seeds="0,1", optimize=False))
        benchmark(config)
        first = store.client.search_runs([store.experiment_id])
        benchmark(config)
        second = store.client.search_runs([store.experiment_id])
    with (folder / "out" / "benchmark.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    return first, second, rows, folder / "out"


def count(runs, **tags):
    wanted = {f"bench.{name}": value for name, value in tags.items()}.items()
    return sum(wanted <= run.data.tags.items() for run in runs)


def test_every_method_has_its_row_and_score(grid):
    _, _, table, _ = grid
    rows = {name: row for name, row in table.items() if name != "best_by_dice"}
    # It is searched over all seeds, so no mean over them can be better.
    best = max(float(row["dice"]) for name, row in rows.items() if ":" not in name)
    assert float(table["best_by_dice"]["dice"]) >= best
    assert set(rows) == set(OF_SECTIONS) | {f"{FROM_ONE}:1"}
    assert set(FIRST_RELEASE) <= set(rows)
    for name, row in rows.items():
        assert row["reason"] == "", name
        assert 0 <= float(row["dice"]) <= 1
        of_two = name in OF_TWO_SEEDS and METHODS[name].seeded
        assert row["seeds"] == ("0 1" if of_two else "0")


def test_an_adaptation_is_made_once_and_serves_all_that_start_from_it(grid):
    first, _, _, _ = grid
    assert count(first, step="domain_adapt", method="domain_adapted") == 2
    adapted = {run.info.run_id for run in first if run.data.tags["bench.step"] == "domain_adapt"}
    tuned = [run for run in first if run.data.tags.get("bench.method") == "da_finetuned"]
    trainings = [run for run in tuned if run.data.tags["bench.step"] == "finetune"]
    sources = {run.data.tags["bench.source"] for run in trainings}
    assert len(sources) == 2
    assert sources <= {f"runs:/{run_id}" for run_id in adapted}
    for run in tuned:
        if run.data.tags["bench.step"] == "finetune":
            assert float(run.data.tags["bench.source.tensors_transferred"]) == 44


def test_a_pretraining_is_made_once_for_each_seed_and_is_no_row(grid):
    first, _, table, _ = grid
    pretrained = [run for run in first if run.data.tags["bench.step"] == "pretrain"]
    named = {(run.data.tags["bench.method"], run.data.tags["bench.seed"]) for run in pretrained}
    assert len(named) == len(pretrained)
    assert {("pretrained_unet2d", "0"), ("pretrained_unet2d", "1")} <= named
    assert not any(name.startswith("pretrained") for name in table)


def test_the_same_again_makes_nothing_but_the_table(grid):
    first, second, _, _ = grid
    new = {run.info.run_id for run in second} - {run.info.run_id for run in first}
    made = [run for run in second if run.info.run_id in new]
    assert sorted(run.data.tags["bench.step"] for run in made) == ["benchmark", "compare"]


def test_the_learning_curve_is_drawn(grid):
    *_, output = grid
    assert (output / "learning_curve.png").stat().st_size > 10_000
