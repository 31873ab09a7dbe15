"""What a section of 512 x 512 takes with SAM's published sizes: files of random weights.

A file as Segment Anything writes it is read by the code that reads the published ones, embedded
once, and asked for 16 boxes. CPU seconds of one thread, and the peak of the process's memory.

    PYTHONPATH=src python benchmarks/sam_sizes.py vit_b|vit_l
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from segment_anything import sam_model_registry

from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.prompts import Prompts, prompt_window
from bench.models.sam import load_sam
from bench.models.sam_weights import read_torch_file

EDGE, BOXES = 512, 16


def time_cpu(way):
    """CPU seconds of a call, and what it returned."""
    started = time.process_time()
    found = way()
    return time.process_time() - started, found


def write_file(size: str, path: Path) -> None:
    """Writes random weights in the published layout; in a process of its own, for the memory."""
    torch.manual_seed(0)
    torch.save(sam_model_registry[size]().state_dict(), path)


def main() -> None:
    """Measures a size."""
    torch.set_num_threads(1)
    size = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sam.pth"
        with torch.multiprocessing.Pool(1) as pool:
            pool.apply(write_file, (size, path))
        megabytes = path.stat().st_size / 1e6
        reading, (network, _) = time_cpu(lambda: load_sam(read_torch_file(path, trust=False)))
    network.eval()
    image = np.random.default_rng(0).integers(0, 255, (EDGE, EDGE)).astype(np.uint8)
    with torch.inference_mode():
        embedding, found = time_cpu(lambda: KeptEncoder(network, None).embed(image))
    corners = np.random.default_rng(0).uniform(0, EDGE - 50, (BOXES, 2))
    boxes = np.concatenate([corners, corners + 40], axis=1)
    masks, _ = time_cpu(lambda: prompt_window(network, found, Prompts(boxes)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"| {size} | {megabytes:.0f} MB | {reading:.1f} s | {embedding:.1f} s | "
        f"{masks:.1f} s | {peak:.1f} GB |"
    )


if __name__ == "__main__":
    main()
