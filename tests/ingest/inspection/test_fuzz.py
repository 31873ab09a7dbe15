"""Whatever pixels a reader returns, and whatever is left of a file: a report comes out."""

import json
import logging
import resource
import time

import imagecodecs
import numpy as np

from bench.errors import BenchError
from bench.ingest.images.images import read_section
from bench.ingest.inspection.report import inspect_tree

DTYPES = ("u1", "u2", "u4", "u8", "i1", "i4", "f2", "f4", "f8", "?")


def strange_pixels(random: np.random.Generator) -> np.ndarray:
    shape = (96, 128) if random.random() < 0.6 else tuple(random.choice([0, 1, 3, 16, 65], 2))
    dtype = random.choice(DTYPES)
    pixels = (
        np.abs(random.normal(0, 10.0 ** random.integers(-2, 4), shape)).clip(0, 100).astype(dtype)
    )
    fault = random.integers(6)
    if fault == 0:
        pixels = np.zeros_like(pixels)
    elif fault == 1 and dtype[0] == "f" and pixels.size:
        pixels.flat[random.integers(0, pixels.size, 3)] = random.choice([np.nan, np.inf, -np.inf])
    elif fault == 2 and dtype[0] in "iu" and pixels.size:
        pixels.flat[0] = np.iinfo(dtype).max
    elif fault == 3 and dtype == "f8":
        pixels *= 1e300
    elif fault == 4:
        pixels = pixels[None]
    return pixels


def damaged_png(random: np.random.Generator, path) -> object:
    content = bytearray(imagecodecs.png_encode(random.integers(0, 255, (96, 128), dtype=np.uint8)))
    for place in random.integers(0, len(content), 4):
        content[place] ^= 1 << int(random.integers(8))
    path.write_bytes(content[: int(random.integers(1, 2 * len(content)))])
    try:
        return read_section(path)
    except BenchError as error:
        return str(error)


def test_a_hundred_strange_trees(make_source, make_section, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "tifffile")
    random = np.random.default_rng(0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    errors = 0
    for _ in range(100):
        sections = []
        for number in range(random.integers(1, 5)):
            images = [
                damaged_png(random, tmp_path / "image.png")
                if random.random() < 0.3
                else strange_pixels(random)
                for _ in range(2)
            ]
            # A half-precision mask is for the reader of masks to judge.
            if isinstance(images[1], np.ndarray) and images[1].dtype == np.float16:
                images[1] = np.nan_to_num(images[1]).astype(np.float32)
            split = str(random.choice(["train", "val", "test"]))
            sections.append(make_section(split, f"s{number}", images[0], mitochondria=images[1]))
        report = inspect_tree(make_source(*sections), show=lambda small: None)
        json.dumps(report.as_record(), allow_nan=False)
        assert all("\n" not in finding.fact for finding in report.findings)
        errors += report.errors
    assert errors > 100
    assert time.process_time() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500 * 1024
