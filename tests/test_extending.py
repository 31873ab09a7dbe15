"""docs/extending.md, run as it stands: its files are written into a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from bench.dataset.prepared import PreparedDataset

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "extending.md"
# What begins every piece of code: its file, and where in the file it belongs if not all of it.
HEADING = re.compile(r"# (?P<file>[\w/.]+)(: (?P<place>.+))?")
COPIED = ("conda.yaml", "docker", "entrypoints", "MLproject", "pyproject.toml", "src")

# Runs entry points one after the other in one process, as `mlflow run` does in several.
RUN_STEPS = """
import importlib, json, sys
sys.path.insert(0, "entrypoints")
import cli
for name, *arguments in json.loads(sys.argv[1]):
    module = importlib.import_module(name)
    sys.argv = [f"{name}.py", *arguments]
    cli.run_step(module.main.__annotations__["config"], module.main)
"""
# Applies the champion as a server does, which has MLflow and none of our folders.
SERVE = """
import mlflow, numpy as np, tifffile, sys
model = mlflow.pyfunc.load_model("models:/synapse-bench-ribbon-prepared@champion")
found = model.predict(tifffile.imread(sys.argv[1]), params={"pixel_size_nm": 5.0})
print(int(np.count_nonzero(found["instances"])), "px")
"""
QUICK = (
    *("--iterations", "30", "--epoch_iterations", "15", "--patch_px", "32", "--features", "4"),
    *("--tile_px", "48", "--halo_px", "8", "--device", "cpu"),
)


def code_of_page() -> list[tuple[str, str, str]]:
    """File, place in it (empty: all of it) and text of every piece of Python on the page."""
    pieces = []
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        heading, _, text = block.partition("\n")
        found = HEADING.fullmatch(heading)
        assert found, f"{heading!r} names no file"
        pieces.append((found["file"], found["place"] or "", text))
    return pieces


def put(text: str, place: str, code: str) -> str:
    """A file with a piece of code at its place."""
    if not place:
        return code
    if place == "at the end":
        return f"{text.rstrip()}\n\n\n{code}"
    if place == "with the imports":
        return re.sub(r"^(?=from bench)", code, text, count=1, flags=re.M)
    table = place.removeprefix("in ")
    changed, times = re.subn(rf"^({table}\b.*= {{\n)", rf"\1{code}", text, flags=re.M)
    assert times == 1, f"no table {table}"
    return changed


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project with the page's code, beside `lab`, the folder of the plugins."""
    root = tmp_path_factory.mktemp("extended") / "project"
    root.mkdir()
    lab = root.parent / "lab"
    lab.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, root / name)
    for file, place, code in code_of_page():
        path = (root if "/" in file else lab) / file
        path.write_text(put(path.read_text() if path.exists() else "", place, code))
    return root


@pytest.fixture(scope="module")
def ribbons(write_tree, tmp_path_factory) -> Path:
    """A tree whose mitochondria are called ribbon."""
    root = write_tree(tmp_path_factory.mktemp("ribbons") / "tree")
    for folder in root.glob("*/mitochondria"):
        folder.rename(folder.with_name("ribbon"))
    return root


@pytest.fixture(scope="module")
def environment(checkout, make_store, python_environment) -> dict[str, str]:
    store = make_store(checkout.parent / "store")
    return python_environment | {
        "PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(checkout.parent / "lab")]),
        "BENCH_PLUGINS": "lab_nets,lab_metrics",
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_EXPERIMENT_ID": store.experiment_id,
    }


def run(command: list[str], checkout: Path, environment: dict[str, str]) -> str:
    """Runs a command in the copy; returns what it wrote."""
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def chain(checkout, environment, ribbons, tmp_path_factory) -> tuple[Path, str]:
    """Everything from prepare to segment with the page's network, metric and step."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "new").mkdir()
    shutil.copy(next(ribbons.glob("test/raw/*.png")), folder / "new" / "section.png")
    data = ("--dataset", str(folder / "prepared"))
    steps = [
        ("prepare", "--input", str(ribbons), "--pixel_size_nm", "5", "--output", data[1]),
        ("count", *data, "--structure", "ribbon"),
        ("finetune", *data, "--method", "convnet", "--structure", "ribbon", *QUICK),
        ("evaluate", *data, "--method", "convnet", "--structure", "ribbon", "--split", "val"),
        ("evaluate", *data, "--method", "convnet", "--structure", "ribbon", "--split", "test"),
        ("compare", "--output", str(folder / "table")),
        ("optimize", *data, "--structure", "ribbon", "--output", str(folder / "best")),
        ("promote", "--structure", "ribbon"),
        (
            *("segment", "--structure", "ribbon", "--input", str(folder / "new")),
            *("--pixel_size_nm", "5", "--output", str(folder / "segmented")),
        ),
    ]
    return folder, run([sys.executable, "-c", RUN_STEPS, json.dumps(steps)], checkout, environment)


def test_the_page_has_all_five():
    files = {file for file, _, _ in code_of_page()}
    assert {"lab_nets.py", "lab_metrics.py", "entrypoints/count.py"} < files
    assert "-P structure=ribbon" in PAGE.read_text()


def test_a_network_of_a_plugin_segments_a_structure_of_the_data(chain):
    folder, _ = chain
    labels = tifffile.imread(folder / "segmented" / "ribbon" / "section.tif")
    assert labels.shape == (64, 64)
    # A disc of radius 11 has 377 px; two of them are in every section.
    assert 100 < np.count_nonzero(labels) < 2000


def test_a_champion_carries_the_plugin_of_its_network(chain, environment, tmp_path):
    folder, _ = chain
    image = imagecodecs.imread(folder / "new" / "section.png")
    tifffile.imwrite(tmp_path / "section.tif", image)
    bare = {
        name: value
        for name, value in environment.items()
        if name not in ("PYTHONPATH", "BENCH_PLUGINS")
    }
    said = run([sys.executable, "-c", SERVE, str(tmp_path / "section.tif")], tmp_path, bare)
    segmented = tifffile.imread(folder / "segmented" / "ribbon" / "section.tif")
    assert f"{np.count_nonzero(segmented)} px" in said


def test_a_metric_of_a_plugin_is_a_column_of_the_table(chain):
    folder, _ = chain
    table = (folder / "table" / "benchmark.md").read_text()
    assert "Count error (%)" in table
    assert "Three convolutions" in table


def test_a_step_is_a_run(chain):
    _, said = chain
    assert "ribbon: 6 in train, 4 in val, 6 in test" in said


def test_mlflow_runs_the_step_and_its_row_is_in_mlproject(checkout, environment, chain):
    folder, _ = chain
    run([sys.executable, "-m", "bench.config.mlproject"], checkout, environment)
    assert "count:" in (checkout / "MLproject").read_text()
    experiment = environment["MLFLOW_EXPERIMENT_ID"]
    said = run(
        [
            *("mlflow", "run", ".", "--env-manager", "local", "-e", "count"),
            *("--experiment-id", experiment, "-P", f"dataset={folder / 'prepared'}"),
            *("-P", "structure=vesicles"),
        ],
        checkout,
        {name: value for name, value in environment.items() if name != "MLFLOW_EXPERIMENT_ID"},
    )
    assert "vesicles: 6 in train" in said


def test_an_annotation_format_is_read(checkout, environment, write_tree, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    tree = write_tree(tmp_path / "tree", {"train": 1, "val": 1})
    for name, image in zip("ab", sorted(tree.glob("*/raw/*.png")), strict=True):
        shutil.copy(image, flat / f"{name}.png")
        (flat / f"{name}.spots").write_text("vesicle,0,20,20,5\nvesicle,0,40,44,3\n")
    prepare = [
        *(sys.executable, "entrypoints/prepare.py", "--input", str(flat)),
        *("--pixel_size_nm", "5", "--splits", "train=0;val=1", "--output", str(tmp_path / "data")),
    ]
    run(prepare, checkout, environment)
    dataset = PreparedDataset.open(tmp_path / "data")
    (name,) = dataset.sections("train")
    labels = dataset.read_labels(name, "vesicles")
    # Pixels whose centres are in a circle of radius 5 around a pixel's corner, and of radius 3.
    assert np.bincount(labels.ravel())[1:].tolist() == [80, 32]
    assert labels[20, 20] == 1
    (flat / "b.spots").write_text("vesicle,0,here\n")
    done = subprocess.run(
        prepare, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "line 1 of" in done.stderr
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
