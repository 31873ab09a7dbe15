"""How well the tiles of a montage spread over 1 and 2 local workers, beside cluster=none.

Every way is the whole command, in a process of its own with one core for each worker, in an
experiment of its own. The first line is what a cluster costs where it brings nothing.

    PYTHONPATH=src python benchmarks/cluster_segment.py [--side 6144] [--features 32]
"""

import argparse
import filecmp
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from measuring import Line, report

from bench.config import FinetuneConfig, PhantomConfig, PrepareConfig
from bench.data.phantom.region import make_region
from bench.steps.finetune import finetune
from bench.steps.phantom import phantom
from bench.steps.prepare import prepare
from bench.tracking.store import Store, open_store

ENTRY = Path(__file__).resolve().parents[1] / "entrypoints" / "segment.py"
TILE_PX, HALO_PX = 256, 64
PHANTOM_PX = 512


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        wall_s: From its start to its end.
        segmenting_s: Of that what the run says that segmenting took.
        cpu_s: Of all processes.
        output: The folder that it wrote.
    """

    wall_s: float
    segmenting_s: float
    cpu_s: float
    output: Path


def make_model(folder: Path, features: int) -> str:
    """Trains a model for two iterations: speed does not depend on what it learned."""
    phantom(PhantomConfig(output=str(folder / "phantom"), size_px=256, montage_px=256))
    dataset = str(folder / "prepared")
    prepare(PrepareConfig(input=str(folder / "phantom"), output=dataset))
    return finetune(
        FinetuneConfig(
            dataset=dataset,
            source="random",
            iterations=2,
            epoch_iterations=2,
            patch_px=64,
            features=features,
            tile_px=TILE_PX,
            halo_px=HALO_PX,
        )
    )


def make_montage(path: Path, side: int) -> None:
    """Writes a montage of a phantom's section, repeated."""
    shape = (3, PHANTOM_PX, PHANTOM_PX)
    region = make_region(shape=shape, pixel_size_nm=5.0, domain="resin", seed=0)
    times = -(-side // PHANTOM_PX)
    tifffile.imwrite(path, np.tile(region.raw[0], (times, times))[:side, :side])


def measure(store: Store, model: str, montage: Path, cluster: str, workers: int) -> Measured:
    """Segments a montage on as many cores as workers."""
    name = f"{cluster} {workers}"
    experiment = store.client.create_experiment(name)
    output = montage.parent / name.replace(" ", "_")
    given = {"run_id": model, "input": montage, "output": output, "format": "ome_zarr"}
    given |= {"opening_radius_px": 1, "min_area_px": 50, "cluster": cluster, "workers": workers}
    cores = sorted(os.sched_getaffinity(0))[:workers]
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, str(ENTRY)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(
        [*command, *(f"--{key}={value}" for key, value in given.items())],
        env=os.environ | {"MLFLOW_EXPERIMENT_ID": experiment, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (run,) = store.client.search_runs([experiment])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, run.data.metrics["segment/seconds"], cpu, output)


def count_equal(one: Path, other: Path) -> int:
    """Compares the files of two folders byte by byte, and returns how many there are."""
    files, others = (
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for folder in (one, other)
    )
    assert files == others
    same, different, missing = filecmp.cmpfiles(one, other, list(map(str, files)), shallow=False)
    assert not different
    assert not missing
    return len(same)


def compare_ways(folder: Path, side: int, features: int) -> list[Line]:
    """Measures all ways in a folder."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    store = open_store()
    model, montage = make_model(folder, features), folder / "montage.tif"
    make_montage(montage, side)
    here = measure(store, model, montage, "none", 1)
    lines = []
    for workers in (1, 2):
        found = measure(store, model, montage, "local", workers)
        files = count_equal(found.output, here.output)
        lines.append(
            Line(
                f"segment, local workers of a core each: {workers}",
                f"{side} x {side}, {(-(-side // TILE_PX)) ** 2} tiles",
                found.segmenting_s,
                "cluster=none, one core",
                here.segmenting_s,
                None,
                f"all {files} files the same, byte by byte",
                f"ratio at best {workers}; whole command {found.wall_s:.3g} s, CPU "
                f"{found.cpu_s:.3g} s, the peer's {here.wall_s:.3g} s and {here.cpu_s:.3g} s",
            )
        )
    return lines


def main() -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=6144, help="Edge of the montage in px.")
    parser.add_argument("--features", type=int, default=32, help="Of the network's first level.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(__file__, compare_ways(Path(folder), options.side, options.features))


if __name__ == "__main__":
    main()
