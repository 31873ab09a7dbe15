"""Time and memory of a section under all eight symmetries, beside eight separate predictions.

Each way runs in a process of its own, in turns; the network is a U-Net of random weights, which
takes as long as a trained one. Prints a table and writes augment_predictions.json beside this file.

    PYTHONPATH=src python benchmarks/augment_predictions.py [--features 16] [--repeats 3]
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

# One tile of 384 px, and the sections of EPFL6.
SHAPES = ((300, 300), (768, 1024))
WAYS = ("shared batches", "separate passes")


def write_model(path: Path, features: int) -> None:
    """Writes a checkpoint of random weights."""
    import torch

    from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint

    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 4, "features": features}
    outputs = ("foreground",)
    info = ModelInfo("unet2d", arguments, outputs, "mitochondria", None, "section", 384, 64)
    save_checkpoint(path, build_model("unet2d", arguments), info)


def predict(queue: multiprocessing.Queue, model: Path, shape: tuple[int, int], way: str) -> None:
    """Predicts a section one way; reports seconds, CPU seconds, peak memory (GB), the maps."""
    from bench.inference.augmented import predict_augmented
    from bench.inference.device import choose_compute
    from bench.inference.predictor import open_predictor
    from bench.inference.symmetries import SYMMETRIES

    network, _ = open_predictor(model, choose_compute("cpu", "auto"), "mitochondria")
    raw = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    network(raw[:64, :64], None)
    started, worked = time.perf_counter(), time.process_time()
    if way == "shared batches":
        together = predict_augmented(network, raw, None, tuple(SYMMETRIES))
        maps = [prediction.foreground for _, prediction in together]
    else:
        views = [(np.ascontiguousarray(s.forward(raw)), s.inverse) for s in SYMMETRIES.values()]
        maps = [inverse(network(view, None).foreground) for view, inverse in views]
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    queue.put((seconds, cpu, peak, np.stack(maps)))


def measure(
    model: Path, shape: tuple[int, int], way: str
) -> tuple[float, float, float, np.ndarray]:
    """Runs one way in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=predict, args=(queue, model, shape, way))
    process.start()
    found = queue.get()
    process.join()
    return found


def measure_shape(model: Path, shape: tuple[int, int], repeats: int) -> dict[str, object]:
    """Medians of both ways on a section, and the largest difference of their maps."""
    found = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            found[way].append(measure(model, shape, way))
    row: dict[str, object] = {"section": f"{shape[0]} x {shape[1]}"}
    for way, runs in found.items():
        name = way.split()[0]
        row[f"{name}_s"] = round(statistics.median(run[0] for run in runs), 2)
        row[f"{name}_cpu_s"] = round(statistics.median(run[1] for run in runs), 2)
        row[f"{name}_peak_gb"] = round(max(run[2] for run in runs), 2)
    ours, theirs = (found[way][0][3].astype(int) for way in WAYS)
    row["largest_difference_levels"] = int(np.abs(ours - theirs).max())
    return row


def main() -> None:
    """Measures both ways on a small and a large section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        write_model(model, options.features)
        for shape in SHAPES:
            rows.append(measure_shape(model, shape, options.repeats))
            print(rows[-1], flush=True)
    content = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores",
        "features": options.features,
        "repeats": options.repeats,
        "rows": rows,
    }
    (Path(__file__).parent / "augment_predictions.json").write_text(
        json.dumps(content, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
