import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.config.running import SegmentConfig
from bench.config.scoring import PromoteConfig
from bench.core.version import VERSIONS
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference import tiles
from bench.inference.prediction_file import read_prediction
from bench.metrics.table import METRICS
from bench.recipe.recipe import RECIPE_FILE, read_recipe
from bench.recipe.sections import segment_by_recipe
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.steps.training.source import resolve_source
from bench.tracking.queries import fetch_artifact
from bench.tracking.registry import RECIPE_TAG, fetch_model, find_champion, pin_requirements

PROJECT = Path(__file__).parents[2]
CHAMPION = "models:/synapse-bench-mitochondria-prepared@champion"
# Of the montage, for the models of the searches.
TILES = 9 * 8

# A user who has the requirements and the store, and neither the project nor its code.
LOAD_AND_PREDICT = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2], model_config={"device": "cpu"})
images = np.load(sys.argv[3])
found = model.predict(images, params={"pixel_size_nm": float(sys.argv[5])})
np.savez(sys.argv[4], **found)
import bench
print(bench.__file__)
"""


@pytest.fixture
def use_searched(searched, use_store):
    use_store(searched.store)
    return searched


@pytest.fixture(scope="module")
def montage(tmp_path_factory):
    """A section of 210 x 190 px."""
    path = tmp_path_factory.mktemp("montage") / "montage.tif"
    random = np.random.default_rng(0)
    raw = 120 + random.normal(0, 8, (210, 190))
    for y, x in random.integers(20, 170, (12, 2)):
        raw[y - 11 : y + 11, x - 11 : x + 11] -= 70
    tifffile.imwrite(path, raw.clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture
def run_elsewhere(python_environment, tmp_path):
    """Runs a program in a folder of its own, where our code is on no path."""

    def run(program, *arguments):
        environment = dict(python_environment)
        del environment["PYTHONPATH"]
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment,
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def predict_elsewhere(run_elsewhere, tmp_path):
    """Applies a registered model there; returns what it found, and what was said."""

    def predict(uri, model, images, pixel_size_nm=5.0):
        np.save(tmp_path / "images.npy", images)
        files = (str(tmp_path / "images.npy"), str(tmp_path / "found.npz"), str(pixel_size_nm))
        done = run_elsewhere(LOAD_AND_PREDICT, uri, model, *files)
        with np.load(tmp_path / "found.npz") as found:
            return dict(found), done

    return predict


def promote_run(run_id, store=None, **settings):
    given = {"replace": True} | settings
    return promote(PromoteConfig(structure="mito", run_id=run_id, **given), store)


def expected_of(searched, run, section):
    """What the search scored: the stored maps of its models, as its recipe combines them."""
    recipe = read_recipe(fetch_artifact(searched.store, run, RECIPE_FILE))
    on_test = dict(zip(searched.trained, searched.on_test, strict=True))
    files = [
        fetch_artifact(searched.store, on_test[member.trained_run], "predictions.h5")
        for member in recipe.members
    ]
    maps = recipe.blend.apply(
        [[read_prediction(file, section, name) for name in recipe.augmentations] for file in files]
    )
    return maps.foreground, segment_by_recipe(recipe, maps, 5.0, lambda: pytest.fail("read")).labels


@pytest.mark.parametrize("which", ["single", "ensemble"])
def test_the_champion_predicts_what_was_searched(use_searched, predict_elsewhere, which):
    """Bit for bit on the test sections, in a process that has no code but the model's own."""
    searched = use_searched
    run_id = promote_run(getattr(searched, which))
    dataset = PreparedDataset.open(searched.dataset)
    sections = dataset.sections("test")
    images = np.stack([dataset.read_raw(name) for name in sections])
    found, done = predict_elsewhere(searched.store.uri, CHAMPION, images)
    assert "pixel" not in done.stderr
    location = find_champion(searched.store, "mitochondria", "prepared").location
    assert Path(done.stdout.strip()) == Path(location) / "code/bench/__init__.py"
    assert found["instances"].dtype == np.int32
    assert found["probability"].dtype == np.float32
    for number, name in enumerate(sections):
        probability, labels = expected_of(searched, getattr(searched, which), name)
        np.testing.assert_array_equal(found["instances"][number], labels)
        levels = found["probability"][number] * np.float32(255)
        np.testing.assert_array_equal(levels.round(), probability)
        assert labels.max() >= 2
    assert searched.store.client.get_run(run_id).info.status == "FINISHED"


def test_a_pixel_size_far_from_the_models_is_reported(use_searched, predict_elsewhere):
    promote_run(use_searched.single)
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint16)
    found, done = predict_elsewhere(use_searched.store.uri, CHAMPION, image, 2.0)
    assert "2 nm and the model was trained at 5 nm, a factor over 2: check" in done.stderr
    assert found["instances"].shape == found["probability"].shape == (40, 50)


def test_a_version_says_what_it_is(use_searched):
    searched = use_searched
    run_id = promote_run(searched.ensemble)
    client = searched.store.client
    found = client.get_model_version_by_alias("synapse-bench-mitochondria-prepared", "champion")
    recipe = read_recipe(fetch_artifact(searched.store, searched.ensemble, RECIPE_FILE))
    assert found.tags["bench.dataset"] == recipe.dataset
    assert found.tags["bench.metric"] == "dice"
    assert found.tags["bench.search"] == searched.ensemble
    assert set(found.tags["bench.members"].split(",")) == set(searched.trained)
    assert float(found.tags["val/dice"]) == recipe.validation["dice"]
    assert float(found.tags["test/instance_f1"]) == recipe.test["instance_f1"]
    for words in (recipe.describe(), f"- test/dice: {recipe.test['dice']:.4f}", *searched.trained):
        assert words in found.description
    # The version leads to the run, the run to the dataset and to the model with its scores.
    run = client.get_run(found.run_id)
    assert run.data.tags["bench.search"] == searched.ensemble
    searched_on = client.get_run(searched.ensemble).inputs.dataset_inputs
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == [
        i.dataset.digest for i in searched_on
    ]
    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert found.source == f"models:/{logged.model_id}"
    scores = {metric.key: metric.value for metric in logged.metrics}
    assert scores["val/dice"] == recipe.validation["dice"]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_what_is_in_the_files(use_searched):
    """Weights, recipe and code, no pickle; packages at exact versions and from no address."""
    promote_run(use_searched.ensemble)
    champion = find_champion(use_searched.store, "mitochondria", "prepared")
    folder = fetch_model(use_searched.store, champion)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    # What loading it leaves there.
    left = (".pyc", ".nbi", ".nbc", "registered_model_meta")
    files = {path for path in files if not path.endswith(left)}
    assert {path for path in files if path.startswith("artifacts/")} == {
        "artifacts/recipe/recipe.json",
        *(f"artifacts/recipe/member{n}.{end}" for n in (0, 1) for end in ("json", "safetensors")),
    }
    endings = {Path(path).suffix for path in files}
    assert endings <= {".py", ".json", ".safetensors", ".yaml", ".txt", ".css", ".js", ".md", ""}
    assert {path for path in files if "." not in path} == {"MLmodel"}
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w-]+==\d[\w.]*", line) for line in needed)
    names = {re.split(r"[\[=<>]", line)[0] for line in project_requirements()}
    assert {line.partition("==")[0] for line in needed} < names


def project_requirements():
    with (PROJECT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]["dependencies"]


def test_the_same_recipe_is_registered_once(use_searched, caplog):
    searched = use_searched
    promote_run(searched.single)
    first = promote_run(searched.ensemble)
    before = versions(searched.store)
    champion = find_champion(searched.store, "mitochondria", "prepared")
    caplog.clear()
    with caplog.at_level("INFO"):
        assert promote_run(searched.ensemble) == first
        # By another version of the step, the run is another.
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(VERSIONS, "promote", VERSIONS["promote"] + 1)
            second = promote_run(searched.ensemble)
    assert second != first
    said = f"{champion.uri} has this recipe and is the champion: nothing new is registered"
    assert caplog.messages.count(said) == 2
    assert versions(searched.store) == before
    assert searched.store.client.get_run(second).outputs.model_outputs == []
    # A recipe that was the champion before becomes it again, as the version that it is.
    promote_run(searched.single)
    assert versions(searched.store) == before
    assert find_champion(searched.store, "mitochondria", "prepared").version != champion.version


def test_what_an_earlier_version_registered_is_recognised(use_searched, monkeypatch):
    """It hashed the prose of a recipe, too."""
    searched = use_searched
    promote_run(searched.single)
    before = find_champion(searched.store, "mitochondria", "prepared")
    hashes = read_recipe(fetch_artifact(searched.store, searched.single, RECIPE_FILE)).hashes()
    assert before.tags[RECIPE_TAG] == hashes[0] != hashes[1]
    tag = (before.name, before.version, RECIPE_TAG)
    searched.store.client.set_model_version_tag(*tag, hashes[1])
    monkeypatch.setitem(VERSIONS, "promote", VERSIONS["promote"] + 3)
    run_id = promote_run(searched.single, replace=False)
    assert searched.store.client.get_run(run_id).outputs.model_outputs == []
    assert find_champion(searched.store, "mitochondria", "prepared").version == before.version
    searched.store.client.set_model_version_tag(*tag, hashes[0])


def test_a_champion_of_an_earlier_version_defends_its_name(use_searched, tmp_path, monkeypatch):
    """Its model was named by the structure alone."""
    searched, client = use_searched, use_searched.store.client
    promote_run(searched.ensemble)
    best = find_champion(searched.store, "mitochondria", "prepared")
    client.rename_registered_model(best.name, "synapse-bench-mitochondria")
    tag = ("synapse-bench-mitochondria", best.version, "bench.dataset_name")
    client.delete_model_version_tag(*tag)
    try:
        early = find_champion(searched.store, "mitochondria", "prepared", best.dataset)
        assert early.name == "synapse-bench-mitochondria"
        with pytest.raises(BenchError, match="a champion is replaced by a better one"):
            promote_run(searched.single, replace=False)
        monkeypatch.setitem(VERSIONS, "promote", VERSIONS["promote"] + 5)
        run_id = promote_run(searched.ensemble, replace=False)
        assert client.get_run(run_id).outputs.model_outputs == []
        image = str(searched.dataset)
        with pytest.raises(BenchError, match="image"):
            segment(SegmentConfig(structure="mito", input=image, output=str(tmp_path / "out")))
    finally:
        client.rename_registered_model("synapse-bench-mitochondria", best.name)
        client.set_model_version_tag(best.name, best.version, "bench.dataset_name", "prepared")


def test_a_champion_stays_with_its_data(use_searched):
    """Other data of the same name takes its place only if that is wanted."""
    searched, client = use_searched, use_searched.store.client
    promote_run(searched.single)
    before = find_champion(searched.store, "mitochondria", "prepared")
    client.set_model_version_tag(before.name, before.version, "bench.dataset", "e" * 64)
    try:
        with pytest.raises(BenchError, match="made on eeeeeeeeeeee of the same name"):
            promote_run(searched.ensemble, replace=False)
        champion = find_champion(searched.store, "mitochondria", "prepared")
        assert champion.version == before.version
        promote_run(searched.ensemble)
        champion = find_champion(searched.store, "mitochondria", "prepared")
        assert champion.version != before.version
    finally:
        client.set_model_version_tag(before.name, before.version, "bench.dataset", before.dataset)


def test_of_two_champions_of_a_structure_none_is_taken_silently(
    use_searched, tmp_path, tiny_tree, run_entry_point
):
    promote_run(use_searched.single)
    client, name = use_searched.store.client, "synapse-bench-mitochondria-demo"
    client.create_registered_model(name)
    tags = {"bench.structure": "mitochondria", "bench.dataset_name": "demo", "test/dice": "0.9126"}
    made = client.create_model_version(name, str(tmp_path), tags=tags)
    client.set_registered_model_alias(name, "champion", made.version)
    given = ("--structure", "mito", "--input", str(tiny_tree / "test/raw/s5.png"))
    try:
        status, said = run_entry_point("segment", *given, "--output", str(tmp_path / "out"))
    finally:
        client.delete_registered_model(name)
    assert status == 2
    line = said.splitlines()[-1]
    assert "there are 2 of mitochondria" in line
    assert f"run_id=models:/{name}@champion (made on demo, test Dice 0.913) or run_id=" in line
    assert f"run_id={CHAMPION} (made on prepared, test Dice 0." in line


def versions(store):
    found = store.client.search_model_versions("name = 'synapse-bench-mitochondria-prepared'")
    return sorted(int(version.version) for version in found)


def test_where_less_is_better_the_lower_is_the_champion(use_searched, monkeypatch):
    searched = use_searched
    promote_run(searched.ensemble)
    monkeypatch.setitem(METRICS, "dice", replace(METRICS["dice"], direction="lower"))
    promote_run(searched.single, replace=False)
    assert (
        find_champion(searched.store, "mitochondria", "prepared").tags["bench.search"]
        == searched.single
    )
    with pytest.raises(BenchError, match="a champion is replaced by a better one"):
        promote_run(searched.ensemble, replace=False)


def test_a_better_champion_stays(use_searched, run_entry_point):
    searched = use_searched
    promote_run(searched.ensemble)
    best = find_champion(searched.store, "mitochondria", "prepared")
    given = ("--structure", "mito", "--run_id", searched.single)
    status, said = run_entry_point("promote", *given)
    assert status == 2
    line = said.splitlines()[-1]
    assert re.search(r"received run \w+ with val/dice 0\.\d+ and models:/.* has 0\.\d+", line)
    assert line.endswith("give replace=true to replace it all the same")
    assert find_champion(searched.store, "mitochondria", "prepared") == best
    status, said = run_entry_point("promote", *given, "--replace", "true")
    assert status == 0, said
    assert (
        find_champion(searched.store, "mitochondria", "prepared").tags["bench.search"]
        == searched.single
    )
    # Against a champion that is worse nothing has to be said.
    assert run_entry_point("promote", "--structure", "mito")[0] == 0
    assert find_champion(searched.store, "mitochondria", "prepared") == best


def test_both_scores_are_in_the_run(use_searched):
    """The newest search, which is the ensemble, against the champion so far."""
    promote_run(use_searched.single)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VERSIONS, "promote", VERSIONS["promote"] + 2)
        run_id = promote_run("auto", replace=False)
    metrics = use_searched.store.client.get_run(run_id).data.metrics
    single, ensemble = (
        read_recipe(fetch_artifact(use_searched.store, run, RECIPE_FILE)).validation["dice"]
        for run in (use_searched.single, use_searched.ensemble)
    )
    assert metrics["promote/champion"] == single
    assert metrics["promote/challenger"] == ensemble


# Every package that a module of ours imports, by the name under which it is imported.
IMPORTED = """
import ast, pathlib, sys
import mlflow, numpy as np
before = set(sys.modules)
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2], model_config={"device": "cpu"})
model.predict(np.zeros((40, 40), np.uint8), params={"pixel_size_nm": 5.0})
ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "bench"]
names = set()
for module in ours:
    for node in ast.walk(ast.parse(pathlib.Path(module.__file__).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
loaded = {name.split(".")[0] for name in sys.modules}
print(" ".join(sorted(names & loaded | {"torch_em"} & loaded)))
"""


def test_the_requirements_are_what_a_prediction_imports(use_searched, run_elsewhere):
    promote_run(use_searched.ensemble)
    done = run_elsewhere(IMPORTED, use_searched.store.uri, CHAMPION)
    ours = {"bench", "segment_anything"}
    third = set(done.stdout.split()) - set(sys.stdlib_module_names) - ours
    known = importlib.metadata.packages_distributions()
    wanted = {known[name][0].lower().replace("-", "_") for name in third}
    given = {line.partition("==")[0].lower().replace("-", "_") for line in pin_requirements(())}
    assert {"torch", "numpy", "safetensors", "torch_em"} <= wanted
    assert wanted <= given, wanted - given


def test_a_package_of_a_network_must_be_installed():
    assert set(pin_requirements({"micro_sam"})) - set(pin_requirements(())) == {
        f"micro_sam=={importlib.metadata.version('micro_sam')}"
    }
    with pytest.raises(BenchError, match="installed distributions, no_such is none"):
        pin_requirements({"no_such"})


def test_bad_input_is_one_line(use_searched, run_entry_point):
    searched = use_searched
    for arguments, message in [
        (
            ("--structure", "vesicles"),
            "of vesicles in this experiment (there are searches of mitochondria): run",
        ),
        (("--run_id", searched.trained[0]), "is finetune: give the id of a run of optimize"),
        (("--run_id", "0" * 32), "no run has the id"),
        (("--structure", "vesicles", "--run_id", searched.single), "give structure=mitochondria"),
        (("--experiment", "no such"), "no experiment is named 'no such'"),
    ]:
        status, said = run_entry_point("promote", *arguments)
        assert status == 2
        assert said.splitlines()[-1].startswith("error: ")
        assert message in said.splitlines()[-1]


def test_weights_that_were_changed_are_refused(use_searched, run_entry_point):
    weights = fetch_artifact(use_searched.store, use_searched.trained[0], "checkpoint")
    best = weights / "best.safetensors"
    before = best.read_bytes()
    try:
        best.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        status, said = run_entry_point("promote", "--run_id", use_searched.single)
    finally:
        best.write_bytes(before)
    assert status == 2
    assert "the weights of scratch seed 0 must be those that were searched" in said


def test_a_version_that_was_deleted_is_registered_again(searched):
    """In a store that the step was given, and not mlflow's default."""
    promote_run(searched.single, searched.store)
    searched.store.client.delete_registered_model("synapse-bench-mitochondria-prepared")
    run_id = promote_run(searched.single, searched.store)
    assert versions(searched.store) == [1]
    assert find_champion(searched.store, "mitochondria", "prepared").run_id == run_id


def test_a_champion_that_is_not_there(
    use_searched, use_store, make_store, tmp_path, tiny_tree, run_entry_point
):
    """Without any, of another structure, and with its files gone."""
    image = ("--input", str(tiny_tree / "test/raw/s5.png"), "--output", str(tmp_path / "out"))

    def refused(*arguments):
        status, said = run_entry_point("segment", *image, *arguments)
        assert status == 2
        assert not (tmp_path / "out").exists()
        return said.splitlines()[-1]

    promote_run(use_searched.single)
    assert "unknown structure of a champion 'vesicles': choose one of mitochondria" in refused(
        "--structure", "vesicles"
    )
    assert "segments mitochondria, received structure=vesicles" in refused(
        "--structure", "vesicles", "--run_id", CHAMPION
    )
    champion = find_champion(use_searched.store, "mitochondria", "prepared")
    gone = Path(champion.location).rename(tmp_path / "gone")
    try:
        said = refused("--structure", "mito")
    finally:
        gone.rename(champion.location)
    assert f"the files of {champion.uri} must be at {champion.location}" in said
    assert said.endswith("copy the artifacts along with the database, or run promote here")
    use_store(make_store(tmp_path / "empty"))
    assert "there is none: run promote, or give run_id" in refused()
    assert "there is none: run promote, or give run_id" in refused("--structure", "vesicles")


def test_a_source_is_the_only_model_of_a_champion(use_searched):
    promote_run(use_searched.single)
    source = resolve_source(use_searched.store, CHAMPION)
    trained = resolve_source(use_searched.store, f"runs:/{use_searched.trained[0]}")
    assert (source.sha256, source.info) == (trained.sha256, trained.info)
    promote_run(use_searched.ensemble)
    with pytest.raises(BenchError, match=r"source must be one model, .* combines 2") as caught:
        resolve_source(use_searched.store, CHAMPION)
    assert all(f"runs:/{run}" in str(caught.value) for run in use_searched.trained)


@pytest.mark.parametrize("which", ["single", "ensemble"])
def test_segment_applies_the_champion_as_it_was_searched(use_searched, tmp_path, tiny_tree, which):
    """Bit for bit what the search scored, from the registry and from the search itself."""
    searched, run = use_searched, getattr(use_searched, which)
    promote_run(run)
    files = []
    for number, named in enumerate(
        ({"structure": "mito"}, {"run_id": run}, {"run_id": CHAMPION}, {})
    ):
        out = tmp_path / f"out{number}"
        segment(
            SegmentConfig(
                input=str(tiny_tree / "test/raw"),
                output=str(out),
                pixel_size_nm=5.0,
                device="cpu",
                **named,
            )
        )
        for name in ("s5", "s6", "s7"):
            probability, labels = expected_of(searched, run, f"test-{name}")
            np.testing.assert_array_equal(
                tifffile.imread(out / f"probability/{name}.tif"), probability
            )
            np.testing.assert_array_equal(tifffile.imread(out / f"mitochondria/{name}.tif"), labels)
        files.append({path.name for path in out.rglob("*.*")})
    assert all(names == files[0] for names in files)


def test_a_killed_segmentation_by_the_champion_ends_with_the_same_bytes(
    use_searched, tmp_path, montage, start_process, python_environment, monkeypatch
):
    """SIGKILL within the sixth of ten passes; what was finished is not predicted again."""
    promote_run(use_searched.ensemble)
    given = {"structure": "mito", "pixel_size_nm": 5.0, "device": "cpu", "input": str(montage)}
    whole, out = tmp_path / "whole/out", tmp_path / "killed/out"
    segment(SegmentConfig(output=str(whole), **given))
    # The same images once more, under a run of their own.
    experiment = use_searched.store.client.create_experiment(f"kill {tmp_path.name}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    words = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, str(PROJECT / "entrypoints/segment.py"), f"--output={out}", *words]
    store = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")}
    process = start_process(command, env=python_environment | store, stderr=subprocess.PIPE)
    passes = wait_for_passes(out, 5, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not out.exists()
    fed = []
    start_tiles = tiles.start_tiles

    def count(network, tiles, *others, **named):
        fed.append(len(tiles))
        return start_tiles(network, tiles, *others, **named)

    monkeypatch.setattr(tiles, "start_tiles", count)
    segment(SegmentConfig(output=str(out), **given))
    assert 0 < sum(fed) <= (10 - passes) * TILES
    assert contents(out) == contents(whole)


def wait_for_passes(out, wanted, process):
    """Returns how many passes a process has finished, once it has some and is in the next."""
    while process.poll() is None:
        folder = f".{out.name}.unfinished-*/tiles/*"
        done = len(list(out.parent.glob(f"{folder}/*/foreground.npy")))
        if done >= wanted and list(out.parent.glob(f"{folder}/*/tiles/finished/[0-9]*")):
            return done
        time.sleep(0.005)
    pytest.fail(f"the process ended: {process.stderr.read().decode()}")
    return 0


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
