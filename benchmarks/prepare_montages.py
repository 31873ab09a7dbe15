"""Time and memory of prepare on montages, beside a plain copy of the same files.

Makes TrakEM2 projects over montages with area lists all over them (or reuses them). Both ways end
with their bytes on disk (fsync): prepare promises that its dataset survives a loss of power, so the
copy does the same. A third way only hashes and writes the bytes that prepare has to hash and write.

    PYTHONPATH=src python benchmarks/prepare_montages.py [--side 7000] [--sections 12]
    PYTHONPATH=src python benchmarks/prepare_montages.py --input PROJECT [--splits ...]
"""

import argparse
import hashlib
import math
import multiprocessing
import os
import resource
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tifffile
from measuring import Line, report, time_in_turns
from scipy.ndimage import gaussian_filter

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.ingest.inputs import read_input
from bench.ingest.sources import source_files
from bench.ingest.writing import write_prepared
from bench.words import AUTO

CLASSES = ("vesicle", "mitochondria", "membrane")
CORNERS = 40
# At most four times the time of a copy.
GOAL = 0.25
THREADS = 2


def make_montages(folder: Path, side: int, sections: int) -> None:
    """Writes montages of filtered noise: one, and the same rolled by other distances."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [folder / f"m{number}.tif" for number in range(sections)]
    if all(path.exists() for path in wanted):
        return
    noise = np.random.default_rng(0).normal(0, 40, (side, side)).astype(np.float32)
    image = np.clip(128 + 2.2 * gaussian_filter(noise, 1.2), 0, 255).astype(np.uint8)
    for number, path in enumerate(wanted):
        tifffile.imwrite(path, np.roll(image, (317 * number, 571 * number), (0, 1)))


def make_project(folder: Path, side: int, sections: int, objects: int) -> Path:
    """Writes a project over the first montages, with objects spread over all of them."""
    make_montages(folder, side, sections)
    project = folder / f"project{sections}.xml"
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    leaves, areas = [], []
    for number in range(objects):
        oid, layer = 1000 + number, 10 + number % sections
        x, y = random.uniform(100, side - 100, 2)
        radii = random.uniform(8, 60) * random.uniform(0.8, 1.2, CORNERS)
        ring = np.round(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1))
        path = "M " + " L ".join(f"{int(a)} {int(b)}" for a, b in ring) + " z"
        leaves.append((CLASSES[number // sections % len(CLASSES)], oid))
        areas.append(
            f'<t2_area_list oid="{oid}" transform="matrix(1,0,0,1,0,0)" title="a">'
            f'<t2_area layer_id="{layer}"><t2_path d="{path}"/></t2_area></t2_area_list>'
        )
    tree = "".join(
        f'<{kind} id="{oid + 100000}"><area_list id="{oid + 200000}" oid="{oid}"/></{kind}>'
        for kind, oid in leaves
    )
    layers = "".join(
        f'<t2_layer oid="{10 + n}" thickness="10" z="{10 * n}"><t2_patch oid="{500000 + n}" '
        f'width="{side}" height="{side}" transform="matrix(1,0,0,1,0,0)" type="0" '
        f'file_path="m{n}.tif" o_width="{side}" o_height="{side}"/></t2_layer>'
        for n in range(sections)
    )
    project.write_text(
        f'<trakem2><project id="0"><tissue id="1">{tree}</tissue></project>'
        f'<t2_layer_set oid="3" layer_width="{side}" layer_height="{side}">'
        '<t2_calibration pixelWidth="5" pixelHeight="5" pixelDepth="50" unit="nm"/>'
        f"{''.join(areas)}{layers}</t2_layer_set></trakem2>",
        encoding="iso-8859-1",
    )
    return project


def prepare(config: PrepareConfig, output: Path) -> PreparedDataset:
    """Prepares a project."""
    shutil.rmtree(output, ignore_errors=True)
    return write_prepared(read_input(config), output)


def copy_files(paths: Iterable[Path], output: Path, *, durable: bool) -> None:
    """Reads and writes the bytes of files; durable ones are flushed to disk, file by file."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    for number, path in enumerate(paths):
        write_bytes(output / str(number), path.read_bytes(), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool) -> None:
    """Writes a file."""
    with path.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def hash_and_write(paths: Iterable[Path], dataset: PreparedDataset, output: Path) -> None:
    """Hashes the source files and as many bytes as its raw images have, and writes its files."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    sizes = [raw_bytes(entry) for entry in dataset.entries]
    pixels = np.ones(max(sizes), np.uint8)

    def write(path: Path) -> None:
        write_bytes(output / path.name, path.read_bytes(), durable=True)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), paths))
        hashes = pool.map(lambda size: hashlib.sha256(pixels[:size]).hexdigest(), sizes)
        list(pool.map(write, files_of(dataset)))
        list(hashes)


def raw_bytes(entry: dict) -> int:
    """Bytes of the raw image of a section; labels are hashed by their runs, which are few."""
    return math.prod(entry["shape"]) * np.dtype(entry["datasets"]["raw"]["dtype"]).itemsize


def files_of(dataset: PreparedDataset) -> list[Path]:
    """The files of a dataset's sections; an image may lie in that of another."""
    return sorted({dataset.root / entry["file"] for entry in dataset.entries})


def measure_peak(config: PrepareConfig, output: Path) -> float:
    """Peak memory (GB) of prepare in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run_measured, args=(queue, config, output))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("prepare failed")
    return queue.get()


def run_measured(queue: "multiprocessing.Queue", config: PrepareConfig, output: Path) -> None:
    """Prepares, and reports the process's peak memory."""
    prepare(config, output)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def measure(config: PrepareConfig, work: Path, size: str, repeats: int) -> Line:
    """Prepares and copies in turns."""
    paths = [path for path in source_files(read_input(config)).values() if path.is_file()]
    output, copied = work / "prepared", work / "copied"
    dataset = prepare(config, output)
    shutil.copytree(output, work / "kept", dirs_exist_ok=True)
    kept = PreparedDataset.open(work / "kept")
    ways = {
        "prepare": lambda: prepare(config, output),
        "copy": lambda: copy_files(paths, copied, durable=True),
        "cached": lambda: copy_files(paths, copied, durable=False),
        "bytes": lambda: hash_and_write(paths, kept, copied),
    }
    seconds, found = time_in_turns(ways, repeats=repeats, warm_up=False)
    found["prepare"].verify()
    assert found["prepare"].content_hash == dataset.content_hash
    limit = describe_limit(seconds, kept, paths, measure_peak(config, output))
    for folder in (output, copied, work / "kept"):
        shutil.rmtree(folder)
    agreement = "every pixel read back, content hash the same"
    ours, peer = seconds["prepare"], seconds["copy"]
    return Line("prepare", size, ours, "copy, to disk", peer, GOAL, agreement, limit)


def describe_limit(
    seconds: dict[str, float], dataset: PreparedDataset, paths: list[Path], peak_gb: float
) -> str:
    """What prepare has to hash and write, and how far from that it is."""
    hashed = sum(raw_bytes(entry) for entry in dataset.entries)
    written = sum(path.stat().st_size for path in files_of(dataset))
    read = sum(path.stat().st_size for path in paths)
    return (
        f"{seconds['prepare'] / seconds['copy']:.1f} times the copy (in the page cache "
        f"{seconds['cached']:.2f} s); SHA-256 of {(read + hashed) / 1e9:.1f} GB and writing "
        f"{written / 1e9:.2f} GB for {read / 1e9:.2f} alone take {seconds['bytes']:.2f} s on "
        f"{THREADS} threads; peak memory {peak_gb:.2f} GB"
    )


def main() -> None:
    """Measures a quarter of the sections and all of them, or the data given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/bench_montages"))
    parser.add_argument("--side", type=int, default=7000)
    parser.add_argument("--sections", type=int, default=12)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--input", help="a project or folder of yours, in place of montages made")
    parser.add_argument("--splits", default=AUTO, help="as for prepare")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.input:
        config = PrepareConfig(input=options.input, splits=options.splits)
        report(__file__, [measure(config, options.work, options.input, options.repeats)])
        return
    lines = []
    for share in (4, 1):
        # One region over whole montages; the last two sections judge.
        sections, objects = max(3, options.sections // share), options.objects // share
        folder = options.work / str(options.side)
        project = make_project(folder, options.side, sections, objects)
        splits = f"train=0-{sections - 3};val={sections - 2};test={sections - 1}"
        size = f"{sections} montages of {options.side} x {options.side}, {objects} objects"
        config = PrepareConfig(input=str(project), splits=splits)
        lines.append(measure(config, options.work, size, options.repeats))
    report(__file__, lines)


if __name__ == "__main__":
    main()
