"""How well the tiles of a montage spread over 1 and 2 local workers, beside cluster=none.

Every way is the whole command, in a process of its own with one core for each worker, in an
experiment of its own. The first line is what a cluster costs where it brings nothing; the last has
the threads of one process as the peer, which several machines, or GPUs, do not have.

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

from bench.config.data import PhantomConfig, PrepareConfig
from bench.config.training import FinetuneConfig
from bench.phantom.region import make_region
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


def measure(store: Store, model: str, montage: Path, cluster: str, cores: int) -> Measured:
    """Segments a montage on some cores: a worker on each, or one process with as many threads."""
    name = f"{cluster} {cores}"
    experiment = store.client.create_experiment(name)
    output = montage.parent / name.replace(" ", "_")
    given = {"run_id": model, "input": montage, "output": output, "format": "ome_zarr"}
    given |= {"opening_radius_px": 1, "min_area_px": 50, "cluster": cluster}
    given |= {"workers": cores} if cluster == "local" else {}
    pinned = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    command = ["taskset", "-c", pinned, sys.executable, str(ENTRY)]
    threads = {"OMP_NUM_THREADS": str(cores)} if cluster == "none" else {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(
        [*command, *(f"--{key}={value}" for key, value in given.items())],
        env=os.environ | threads | {"MLFLOW_EXPERIMENT_ID": experiment},
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
    none = {cores: measure(store, model, montage, "none", cores) for cores in (1, 2)}
    local = {cores: measure(store, model, montage, "local", cores) for cores in (1, 2)}
    lines = []
    for workers, cores in ((1, 1), (2, 1), (2, 2)):
        ours, peer = local[workers], none[cores]
        agreement = "not compared: torch rounds otherwise with two threads"
        if cores == 1:
            agreement = f"all {count_equal(ours.output, peer.output)} files the same, byte by byte"
        lines.append(
            Line(
                f"segment, local workers of a core each: {workers}",
                f"{side} x {side}, {(-(-side // TILE_PX)) ** 2} tiles",
                ours.segmenting_s,
                f"cluster=none, cores: {cores}",
                peer.segmenting_s,
                None,
                agreement,
                f"ratio at best {workers // cores}; whole command {ours.wall_s:.3g} s, CPU "
                f"{ours.cpu_s:.3g} s, the peer's {peer.wall_s:.3g} s and {peer.cpu_s:.3g} s",
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
