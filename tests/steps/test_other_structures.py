"""Structures that no table has, from their folders to a champion that segments, by entry points."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig, MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.grid.grid import make_grid
from bench.steps.training.data import TrainingData
from bench.steps.training.sam import choose_areas
from bench.structures import find_structure
from bench.tracking.queries import read_settings
from bench.tracking.registry import list_champions

DISCS = 2 * 377 / 64**2  # Two discs of radius 11 in every section.


@pytest.fixture(scope="module")
def tree(write_tree, tmp_path_factory):
    """The tiny tree; its structures are called ribbon and Synaptic cleft."""
    root = write_tree(tmp_path_factory.mktemp("tree") / "tiny")
    for split in ("train", "val", "test"):
        (root / split / "mitochondria").rename(root / split / "ribbon")
        (root / split / "vesicles").rename(root / split / "Synaptic cleft")
    return root


@pytest.fixture
def run(run_entry_point, store, tmp_path, monkeypatch):
    """Runs an entry point on the prepared dataset; returns the parameters of its run."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        status, said = run_entry_point(name, *arguments)
        assert status == 0, said
        newest = store.client.search_runs([store.experiment_id], max_results=1)[0]
        assert newest.info.status == "FINISHED"
        return newest.data

    return run


@pytest.fixture
def dataset(tree, run):
    run("prepare", "--input", str(tree), "--output", "data/prepared", "--pixel_size_nm", "5")
    return PreparedDataset.open("data/prepared")


def test_a_structure_of_any_name_goes_all_the_way(tree, run, dataset, store, tiny, tmp_path):
    assert dataset.structures == ("ribbon", "synaptic_cleft")
    settings = [part for name, value in tiny.items() for part in (f"--{name}", str(value))]
    trained = run("finetune", "--structure", "Ribbon", "--source", "random", *settings)
    weight = round(math.sqrt((1 - DISCS) / DISCS), 2)
    chosen = read_settings(store, store.client.search_runs([store.experiment_id])[0].info.run_id)
    assert chosen["structure"] == trained.tags["bench.structure"] == "ribbon"
    assert float(chosen["foreground_weight"]) == weight == 2.11
    origin = chosen["foreground_weight_origin"]
    assert origin == "From its frequency: ribbon fills 18.4 % of 3 training sections."
    run("evaluate", "--structure", "ribbon", "--split", "test")
    scored = run("evaluate", "--structure", "ribbon", "--split", "val")
    assert scored.metrics["val/dice"] > 0.5
    run("compare", "--dataset", "data/prepared", "--output", "results")
    with (tmp_path / "results/benchmark.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], row["structure"]) == ("scratch", "ribbon")
    assert 'value="ribbon"' in (tmp_path / "results/benchmark.html").read_text()
    run("optimize", "--structure", "ribbon", "--output", "best")
    recipe = json.loads((tmp_path / "best/recipe.json").read_text())
    assert recipe["structure"] == "ribbon"
    run("promote", "--structure", "ribbon")
    (champion,) = list_champions(store)
    assert (champion.structure, champion.dataset_name) == ("ribbon", "prepared")
    image = str(tree / "test/raw/s5.png")
    run("segment", "--structure", "RIBBON", "--input", image, "--output", "out", "--device", "cpu")
    assert np.unique(tifffile.imread("out/ribbon/s5.tif")).size > 1
    run("export", "--structure", "all", "--format", "trakem2", "--output", "drawn")
    drawn = (tmp_path / "drawn/project.xml").read_text("latin-1")
    assert "<synaptic_cleft id=" in drawn
    assert "<ribbon id=" in drawn


def test_names_that_are_not_there_say_what_is(dataset, run_entry_point):
    said = "choose one of ribbon, synaptic_cleft (did you mean ribbon?)"
    for step in ("finetune", "domain_adapt", "microsam", "evaluate", "optimize", "export"):
        status, written = run_entry_point(step, "--structure", "ribon")
        assert status == 2
        assert written.splitlines()[-1].endswith(said), written
    status, written = run_entry_point("benchmark", "--structures", "ribbon,ribon")
    assert (status, said in written) == (2, True)
    status, written = run_entry_point("finetune", "--structure=ribbon", "--source=ribon=x.pt")
    assert "unknown structure 'ribon': choose one of" in written


def test_the_papers_settings_are_of_its_structures_only(dataset, store, tiny):
    folder = str(dataset.root)
    settings = tiny | {"iterations": 1, "epoch_iterations": 1}
    trained = finetune(
        FinetuneConfig(dataset=folder, structure="synaptic cleft", source="random", **settings)
    )
    with pytest.raises(BenchError, match=r"paper has settings for .*received synaptic_cleft: use"):
        evaluate(EvaluateConfig(dataset=folder, run_id=trained, protocol="paper"))
    with pytest.raises(BenchError, match=r"received ribbon: use .* protocol=data"):
        make_grid(BenchmarkConfig(dataset=folder, protocol="paper"), dataset)
    data = TrainingData.choose(dataset, "ribbon", labelled=None, seed=0, fed_nm=None)
    with pytest.raises(BenchError, match=r"received ribbon: use .* size_filter=data"):
        choose_areas(MicrosamConfig(size_filter="paper"), find_structure("ribbon"), data)


def test_the_grid_is_of_the_datasets_structures(dataset):
    config = BenchmarkConfig(dataset=str(dataset.root), methods="scratch")
    assert [cell.structure.name for cell in make_grid(config, dataset)] == list(dataset.structures)
    (cell,) = make_grid(replace(config, structures="Synaptic cleft"), dataset)
    assert cell.structure.name == "synaptic_cleft"
    for source in ("ribbon=a.pt", "mito=a.pt,ribbon=b.pt"):
        assert len(make_grid(replace(config, source=source), dataset)) == 2
    with pytest.raises(BenchError, match=r"unknown structure 'ribon': .*did you mean ribbon"):
        make_grid(replace(config, source="ribon=a.pt"), dataset)


def test_the_frequency_is_of_the_sections_that_are_learnt_from(dataset):
    def choose(labelled):
        return TrainingData.choose(dataset, "ribbon", labelled=labelled, seed=0, fed_nm=None)

    whole, few = choose(None), choose(1)
    assert whole.foreground_fraction() == choose(3).foreground_fraction() == DISCS
    (name,) = few.names
    assert few.foreground_fraction() == np.mean(dataset.read_labels(name, "ribbon") > 0)
