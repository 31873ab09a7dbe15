import gc
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

# Tiny networks on a busy machine: with several threads they mostly wait for each other. Read by
# torch when it is imported, here and in child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A quarter of a small run is its figures: here and in child processes they are a thumb's size.
os.environ["MATPLOTLIBRC"] = str(Path(__file__).with_name("matplotlibrc"))
# The embeddings of tests are not kept in the cache of whoever runs them.
os.environ["BENCH_EMBEDDINGS_GB"] = "0"

PROJECT = Path(__file__).parents[1]
# Nothing answers here: a test that opens a store without asking for one fails, instead of
# writing into the user's.
NO_STORE = "http://127.0.0.1:9"

# Eight processes make the embedded store of a project's folder, all at once.
EIGHT_PROCESSES = """
import os, sys, traceback
from pathlib import Path
from bench.tracking import store
store._PROJECT = Path(sys.argv[1])
store._HOME = store._PROJECT / "mlruns"
store._DATABASE = store._HOME / "mlflow.db"
started, start = os.pipe()
children = []
for _ in range(8):
    if not (child := os.fork()):
        os.read(started, 1)
        try:
            store.prepare_database(store._DATABASE)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
os.write(start, b"12345678")
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


# Where the slow files lie. Two processes take one file after the other: the long ones come first,
# so that neither waits for the other in the end.
SLOW_FIRST = ("test_extending.py", "steps", "tracking", "faults", "docker", "cluster")


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=0, help="random kills in tests/faults")
    parser.addoption(
        "--store-results", action="store_true", help="store the results of new versions"
    )


STORED_RESULTS = Path(__file__).with_name("stored_results.json")
STORED_TESTS = ("tests/core/test_stored_results.py", "tests/steps/test_stored_results.py")


def summarise(value: Any) -> Any:
    """Whole numbers and names as they are; of other numbers what tells them from others."""
    if isinstance(value, dict):
        return {str(name): summarise(each) for name, each in value.items()}
    if isinstance(value, list | tuple) and not all(isinstance(each, float) for each in value):
        return [summarise(each) for each in value]
    if isinstance(value, str | int):
        return value
    numbers = np.asarray(value, dtype=np.float64).ravel()
    if numbers.size > 8:
        deviations, places = numbers - numbers.mean(), np.arange(numbers.size)
        waves = [deviations @ np.cos(k * places) / numbers.size**0.5 for k in (1, 2, 3)]
        numbers = np.array([numbers.mean(), numbers.std(), *waves])
    return [float(f"{number:.7g}") for number in numbers]


def are_alike(stored: Any, found: Any) -> bool:
    """Whether results are those of the same code: numbers up to the last digits of a machine.

    What has no counterpart among the stored ones, such as a metric that was added, counts as alike.
    """
    if isinstance(stored, dict) and isinstance(found, dict):
        return all(are_alike(each, found.get(name)) for name, each in stored.items())
    if not all(isinstance(each, list) and len(each) == len(stored) for each in (stored, found)):
        return bool(stored == found)
    if not all(isinstance(each, float) for each in [*stored, *found]):
        return all(are_alike(*pair) for pair in zip(stored, found, strict=True))
    largest = max(map(abs, stored), default=0.0)
    return np.allclose(stored, found, rtol=1e-3, atol=1e-3 * largest)


def check_results(part: str, results: Any, file: Path, *, store: bool) -> str:
    """Compares results with the stored ones, or stores those of a new version or name.

    Returns:
        What is to be done, empty if nothing.
    """
    from bench.core.version import VERSIONS

    everything, found = json.loads(file.read_text()), summarise(results)
    version, stored = VERSIONS[part], everything.get(part, {"version": 0, "results": {}})
    command = f"python -m pytest {' '.join(STORED_TESTS)} --store-results"
    if stored["version"] == version:
        before = stored["results"]
        pairs = {name: (before[name], found.get(name)) for name in before}
        if other := {name: pair for name, pair in pairs.items() if not are_alike(*pair)}:
            return (
                f"what {part!r} computes is not what its version {version} did: if that is meant, "
                f"raise VERSIONS[{part!r}] in src/bench/core/version.py and run `{command}`; "
                f"stored and found: {other}"
            )
        if before.keys() == found.keys():
            return ""
    if not store:
        return f"results of {part!r} version {version} must be stored: run `{command}`"
    everything[part] = {"version": version, "results": found}
    file.write_text(format_results(everything))
    return ""


def format_results(everything: dict[str, Any]) -> str:
    """JSON of a line per result."""
    parts = []
    for part, stored in sorted(everything.items()):
        results = sorted(stored["results"].items())
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in results)
        head = f'{json.dumps(part)}: {{"version": {stored["version"]}, "results": {{'
        parts.append(f"{head}\n{lines}\n}}}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


@pytest.fixture(scope="session")
def write_dino() -> Callable[[Path], Path]:
    """Writes a tiny transformer, as DINOv2 publishes its own: two blocks, windows of 112 px."""

    def write(path: Path) -> Path:
        import torch

        width, blocks, patch, grid = 64, 2, 14, 8
        torch.manual_seed(0)
        sizes = {"attn.qkv": (192, 64), "attn.proj": (64, 64), "mlp.fc1": (128, 64)}
        sizes |= {"mlp.fc2": (64, 128)}
        state = {
            "cls_token": torch.randn(1, 1, width),
            "pos_embed": torch.randn(1, 1 + grid**2, width) / 8,
            "mask_token": torch.zeros(1, width),
            "patch_embed.proj.weight": torch.randn(width, 3, patch, patch) / patch,
            "patch_embed.proj.bias": torch.zeros(width),
            **{"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)},
        }
        for name in (f"blocks.{number}" for number in range(blocks)):
            for layer, (outputs, inputs) in sizes.items():
                state[f"{name}.{layer}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
                state[f"{name}.{layer}.bias"] = torch.zeros(outputs)
            for norm in ("norm1", "norm2"):
                state[f"{name}.{norm}.weight"] = torch.ones(width)
                state[f"{name}.{norm}.bias"] = torch.zeros(width)
            state |= {
                f"{name}.{scale}.gamma": torch.full((width,), 0.5) for scale in ("ls1", "ls2")
            }
        torch.save(state, path)
        return path

    return write


@pytest.fixture
def check_stored() -> Callable[..., str]:
    """Compares results with those of a file."""
    return check_results


@pytest.fixture
def same_as_stored(request) -> Callable[[str, dict[str, Any]], None]:
    """Fails where results of a part are not the stored ones of its version."""

    def check(part: str, results: dict[str, Any]) -> None:
        store = request.config.getoption("--store-results")
        if wrong := check_results(part, results, STORED_RESULTS, store=store):
            pytest.fail(wrong, pytrace=False)

    return check


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays: searching it for garbage took a fifth of the time."""
    from bench.core.process import importing

    with importing():
        collected = yield
    # Tests make little garbage: another tenth of their time went into looking for it that often.
    gc.set_threshold(20_000, 20, 20)
    return collected


def pytest_collection_modifyitems(items):
    def rank(item) -> int:
        room = item.path.relative_to(PROJECT / "tests").parts[0]
        return SLOW_FIRST.index(room) if room in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=rank)


@pytest.fixture
def needs_openvino() -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed (requirements-openvino.txt)")


@pytest.fixture
def without_package(monkeypatch):
    """Lets a distribution look as if it were not installed."""
    find = importlib.metadata.version

    def hide(package):
        def version(name):
            if name == package:
                raise importlib.metadata.PackageNotFoundError(name)
            return find(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return hide


@pytest.fixture(autouse=True)
def our_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"bench(\.|$)")
        yield


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_STORE)


@pytest.fixture(scope="session")
def python_environment() -> dict[str, str]:
    """The environment of a child process: our python first, src on its path, no store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT / "src"),
        "MLFLOW_TRACKING_URI": NO_STORE,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.fixture(scope="session")
def start_process(python_environment) -> Iterator[Callable]:
    """Starts a program of ours as ``subprocess.Popen`` does, with torch and MLflow loaded."""
    from warm import WarmParent

    parent = WarmParent(python_environment | {"OMP_NUM_THREADS": "1"})
    yield parent.start
    parent.close()


@pytest.fixture(scope="session")
def eight_processes(tmp_path_factory, python_environment) -> subprocess.CompletedProcess:
    """What became of EIGHT_PROCESSES; their folder is its last argument.

    Once for all processes of pytest-xdist: each has a folder of its own within a common one.
    """
    from bench.core.files import locked

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    command = [sys.executable, "-c", EIGHT_PROCESSES, str(folder / "project")]
    kept = folder / "eight_processes.json"
    with locked(folder / "eight_processes.lock"):
        if not kept.exists():
            done = subprocess.run(
                command, env=python_environment, capture_output=True, text=True, check=False
            )
            kept.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    return subprocess.CompletedProcess(command, *json.loads(kept.read_text()))


@pytest.fixture(scope="session")
def empty_database(eight_processes) -> Path:
    """A database without runs: copying it is quick, making one takes mlflow seconds."""
    return Path(eight_processes.args[-1]) / "mlruns" / "mlflow.db"


@pytest.fixture(scope="session")
def make_store(empty_database) -> Callable:
    """Makes a store in a folder, with its artifacts, and returns it open."""
    from bench.tracking.store import open_store

    def make(folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        database = shutil.copy(empty_database, folder / "mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
                patch.delenv(name, raising=False)
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
            patch.setenv("MLFLOW_EXPERIMENT_ID", "0")
            store = open_store()
        location = str(folder / "artifacts")
        store.experiment_id = store.client.create_experiment("tests", artifact_location=location)
        return store

    return make


@pytest.fixture
def use_store(monkeypatch) -> Callable:
    """Makes a store the one that steps open, in this process and its children."""

    def use(store):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        return store

    return use


@pytest.fixture
def store(make_store, use_store, tmp_path):
    """A new store, which steps open too."""
    return use_store(make_store(tmp_path / "store"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a new PostgreSQL, without a database's name."""
    from servers import postgres_programs, running_postgres

    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with running_postgres() as uri:
        yield uri


@pytest.fixture(scope="session")
def postgres_database(postgres) -> str:
    """A database with mlflow's tables."""
    from mlflow.tracking import MlflowClient
    from servers import make_database

    uri = make_database(postgres, "tests")
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    return uri


@pytest.fixture
def postgres_store(postgres_database, use_store, monkeypatch, tmp_path):
    """An empty experiment in PostgreSQL, which steps open too."""
    from bench.tracking.store import open_store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres_database)
    store = open_store()
    location = str(tmp_path / "artifacts")
    store.experiment_id = store.client.create_experiment(
        f"tests {time.time_ns()}", artifact_location=location
    )
    return use_store(store)


@pytest.fixture(scope="session")
def two_models(tmp_path_factory) -> tuple[Path, ...]:
    """Checkpoints of two networks with a boundary, of different tiles and pixel sizes."""
    import torch

    from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint

    arguments = {"in_channels": 1, "out_channels": 2, "depth": 2, "features": 4}
    outputs = ("foreground", "boundary")
    first = ModelInfo("unet2d", arguments, outputs, "vesicles", 5.0, "section", 32, 16)
    second = replace(first, tile_px=24, halo_px=8, input_pixel_size_nm=4.0)
    paths = []
    for seed, info in enumerate((first, second)):
        torch.manual_seed(seed)
        paths.append(tmp_path_factory.mktemp("model") / "best.safetensors")
        save_checkpoint(paths[-1], build_model("unet2d", arguments), info)
    return tuple(paths)


@pytest.fixture(scope="session")
def write_tree() -> Callable[..., Path]:
    """Writes sections of 64 px in the layout that prepare reads: dark discs, and bright spots."""

    def disc(y: int, x: int, radius: int) -> np.ndarray:
        ys, xs = np.ogrid[:64, :64]
        return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2

    def write(root: Path, splits: dict[str, int] | None = None) -> Path:
        number = 0
        for split, count in (splits or {"train": 3, "val": 2, "test": 3}).items():
            for _ in range(count):
                random = np.random.default_rng(number)
                corners = random.permutation([(16, 16), (16, 48), (48, 16), (48, 48)])
                masks = {
                    "mitochondria": np.any([disc(y, x, 11) for y, x in corners[:2]], axis=0),
                    "vesicles": np.any([disc(y, x, 5) for y, x in corners[2:]], axis=0),
                }
                raw = 120 + random.normal(0, 8, (64, 64))
                raw[masks["mitochondria"]] -= 70
                raw[masks["vesicles"]] += 70
                write_png(root / split / "raw" / f"s{number}.png", raw.clip(0, 255))
                for structure, mask in masks.items():
                    write_png(root / split / structure / f"s{number}.png", 255 * mask)
                number += 1
        return root

    return write


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels, dtype=np.uint8)))


TREE_SHAPE = (48, 64)


def make_raw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, TREE_SHAPE, dtype=np.uint8)


def make_mask() -> np.ndarray:
    mask = np.zeros(TREE_SHAPE, np.uint8)
    mask[4:14, 4:14] = 255
    mask[20:30, 30:40] = 255
    return mask


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder tree of small sections: `make_tree(train=2, val=1)`; "" is no split."""

    def make(
        name: str = "input",
        structures: tuple[str, ...] = ("mitochondria", "vesicles"),
        splits: dict[str, int] | None = None,
        seed: int = 0,
    ) -> Path:
        root = tmp_path / name
        number = 0
        for split, count in (
            {"train": 3, "val": 1, "test": 1} if splits is None else splits
        ).items():
            for _ in range(count):
                write_png(root / split / "raw" / f"s{number}.png", make_raw(seed + number))
                for structure in structures:
                    write_png(root / split / structure / f"s{number}.png", make_mask())
                number += 1
        return root

    return make


@pytest.fixture
def read_tree() -> Callable:
    """Reads an input as prepare does."""
    from bench.config.data import PrepareConfig
    from bench.ingest.inputs import read_input

    def read(root: Path, **settings: object):
        return read_input(PrepareConfig(input=str(root), **settings))

    return read


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def tiny_tree(write_tree, tmp_path_factory) -> Path:
    """A tree of eight sections with mitochondria and vesicles."""
    return write_tree(tmp_path_factory.mktemp("tree") / "tiny")


@pytest.fixture
def run_entry_point(monkeypatch, capsys) -> Iterator[Callable]:
    """Runs an entry point in this process: returns its exit status and what it wrote on stderr.

    What to type next, after an error, is only there with `then=True`.
    """
    import importlib
    import signal

    def run(name: str, *arguments: str, then: bool = False) -> tuple[object, str]:
        import cli

        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        capsys.readouterr()
        status: object = 0
        try:
            cli.run_step(module.main.__annotations__["config"], module.main)
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr().err
        return status, said if then else re.split(r"^(?:once that|all settings)", said, flags=re.M)[
            0
        ]

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@dataclass(frozen=True)
class Distances:
    """Lengths in nm and how many they are."""

    total: float = 0.0
    count: int = 0

    def __add__(self, other: "Distances") -> "Distances":
        return Distances(self.total + other.total, self.count + other.count)


def measure_distances(section) -> Distances:
    """From every foreground pixel of the truth's outline to the nearest of the prediction's."""
    outlines = [
        mask & ~binary_erosion(mask) for mask in (section.truth > 0, section.prediction > 0)
    ]
    if section.pixel_size_nm is None or not outlines[1].any():
        return Distances()
    distances = distance_transform_edt(~outlines[1])[outlines[0]] * section.pixel_size_nm
    return Distances(float(distances.sum()), distances.size)


@contextmanager
def registered_rows() -> Iterator[tuple[str, str]]:
    """Registers a length where less is better, of no threshold, and a share that may choose."""
    from bench.metrics import table

    kept = dict(table.METRICS)
    distance = table.Metric(
        "Boundary distance",
        "From an annotated outline to the nearest predicted one.",
        lambda found: found.total / found.count if found.count else math.nan,
        measure=measure_distances,
        basis="pixels",
        direction="lower",
        high=math.inf,
        unit="nm",
        decimals=1,
    )
    missed = table.Metric(
        "Missed",
        "FN / (TP + FN) over pixels.",
        lambda found: 1 - table.recall_score(found),
        lambda n: (n.truth_px - n.true_px, n.truth_px),
        measure=table.measure_pixels,
        basis="pixels",
        direction="lower",
    )
    table.register_metric("boundary_nm", distance)
    table.register_metric("missed", missed)
    try:
        yield "boundary_nm", "missed"
    finally:
        table.METRICS.clear()
        table.METRICS.update(kept)


@pytest.fixture
def two_rows() -> Iterator[tuple[str, str]]:
    """Names of two metrics that are registered for a test."""
    with registered_rows() as names:
        yield names


@pytest.fixture(scope="session")
def with_rows() -> Callable:
    """The same as a context."""
    return registered_rows


@pytest.fixture(scope="module")
def two_workers():
    """A client of two workers on this machine."""
    pytest.importorskip("distributed")
    from bench.cluster.clusters import open_cluster

    with open_cluster("local", 2, {}) as client:
        client.wait_for_workers(2, timeout=120)
        yield client


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        # A test may have closed it.
        Path(folder).chmod(0o755)


@pytest.fixture
def as_ordinary_user() -> Callable[[], AbstractContextManager[None]]:
    """Drops the superuser's rights for a moment: permissions do not bind it."""

    @contextmanager
    def drop() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return drop


OPEN_WINDOW = "from qtpy.QtWidgets import QApplication; QApplication([])"


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A display that nobody looks at."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    reads, writes = os.pipe()
    screen = ("-screen", "0", "1600x1000x24", "+extension", "GLX")
    command = ["Xvfb", "-displayfd", str(writes), *screen]
    with subprocess.Popen(command, pass_fds=[writes], stderr=subprocess.DEVNULL) as server:
        os.close(writes)
        with os.fdopen(reads) as told:
            number = told.readline().strip()
        try:
            if not number:
                pytest.skip("Xvfb does not start")
            yield f":{number}"
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def with_display(display, python_environment, tmp_path_factory) -> dict[str, str]:
    """The environment of a process with that display, and settings of napari of its own."""
    home = tmp_path_factory.mktemp("home")
    environment = python_environment | {
        "DISPLAY": display,
        "NAPARI_CONFIG": str(home / "napari.yaml"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("QT_QPA_PLATFORM", None)
    probe = subprocess.run(
        [sys.executable, "-c", OPEN_WINDOW],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"Qt opens no window here: {probe.stderr.strip()[:200]}")
    return environment


@pytest.fixture(scope="session")
def run_in_window(with_display) -> Callable[..., None]:
    """Runs a program of windows with these words, and fails where it does."""

    def run(*words: object) -> None:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            env=with_display,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run
