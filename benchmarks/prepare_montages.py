"""Time and memory of prepare on montages, beside a plain read and write of the same bytes.

Makes a TrakEM2 project over montages with area lists all over them (or reuses it), prepares it in
a process of its own, and prints a table; writes prepare_montages.json beside this file.

    PYTHONPATH=src python benchmarks/prepare_montages.py [--side 7000] [--sections 12]
"""

import argparse
import json
import multiprocessing
import platform
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from bench.config import PrepareConfig
from bench.data.inputs import read_input
from bench.data.writing import write_prepared

CLASSES = ("vesicle", "mitochondria", "membrane")
CORNERS = 40


def make_project(folder: Path, side: int, sections: int, objects: int) -> Path:
    """Writes montages of filtered noise and a project with objects spread over all sections."""
    project = folder / "project.xml"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(sections):
        if (folder / f"m{number}.tif").exists():
            continue
        noise = random.normal(0, 40, (side, side)).astype(np.float32)
        image = 128 + 2.2 * gaussian_filter(noise, 1.2)
        tifffile.imwrite(folder / f"m{number}.tif", np.clip(image, 0, 255).astype(np.uint8))
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


def prepare(project: Path, output: Path, sections: int) -> None:
    """Prepares the project: one region over whole montages, the last two sections judge."""
    splits = f"train=0-{sections - 3};val={sections - 2};test={sections - 1}"
    tree = read_input(PrepareConfig(input=str(project), splits=splits))
    write_prepared(tree, output)


def copy_plainly(project: Path, output: Path, _sections: int) -> None:
    """Reads and writes the bytes of every montage."""
    output.mkdir()
    for path in sorted(project.parent.glob("*.tif")):
        (output / path.name).write_bytes(path.read_bytes())


def measure(task: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a task in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run_measured, args=(queue, task, arguments))
    process.start()
    seconds, peak = queue.get()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{task.__name__} failed")
    return seconds, peak


def run_measured(
    queue: "multiprocessing.Queue", task: Callable[..., None], arguments: tuple
) -> None:
    """Runs a task and reports on it."""
    started = time.perf_counter()
    try:
        task(*arguments)
    finally:
        seconds = time.perf_counter() - started
        queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def main() -> None:
    """Measures a quarter of the size and the size itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("data/bench_montages"))
    parser.add_argument("--side", type=int, default=7000)
    parser.add_argument("--sections", type=int, default=12)
    parser.add_argument("--objects", type=int, default=5000)
    options = parser.parse_args()
    rows = []
    for sections, objects in (
        (max(3, options.sections // 4), options.objects // 4),
        (options.sections, options.objects),
    ):
        folder = options.work / f"{options.side}x{sections}"
        project = make_project(folder, options.side, sections, objects)
        output = folder.with_name(folder.name + "_out")
        row: dict[str, object] = {"sections": sections, "objects": objects, "side_px": options.side}
        for name, task in (("copy", copy_plainly), ("prepare", prepare)):
            shutil.rmtree(output, ignore_errors=True)
            seconds, peak = measure(task, project, output, sections)
            row |= {f"{name}_s": round(seconds, 2), f"{name}_peak_gb": round(peak, 2)}
        shutil.rmtree(output, ignore_errors=True)
        rows.append(row)
        print(row)
    content = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "rows": rows,
    }
    (Path(__file__).parent / "prepare_montages.json").write_text(
        json.dumps(content, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
