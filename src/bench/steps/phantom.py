"""Write a synthetic data set."""

import logging
import os
from pathlib import Path

import mrcfile
from PIL import Image

from bench.config.data import PhantomConfig
from bench.core.files import write_binary
from bench.core.process import importing
from bench.core.progress import show_progress
from bench.phantom.write import write_phantom
from bench.report.figures.planes import draw_planes
from bench.steps.saying import say_next, say_picture

log = logging.getLogger(__name__)

# Three planes of the first tomogram.
_PICTURE = "planes.png"
_FIRST = "tomo1.mrc"


def phantom(config: PhantomConfig) -> None:
    """Writes the phantom, or finds that it is there already.

    Raises:
        BenchError: If the output folder is something else.
    """
    if os.environ.get("MLFLOW_RUN_ID"):
        # Else no store is needed, which is most of what would be imported.
        with importing():
            from bench.tracking.opening import name_adopted
        name_adopted("phantom")
    with show_progress("phantom") as advance:
        folder = write_phantom(config, progress=lambda done, total: advance(done, total, ""))
    log.info("phantom: %s", folder)
    if (folder / "train" / "raw" / _FIRST).is_file():
        _draw_first(folder)
        say_picture(folder / _PICTURE)
    say_next("prepare", {"input": config.output}, "make a dataset of it")


def _draw_first(folder: Path) -> None:
    """Draws three planes of the first tomogram, with the outlines of its labels."""
    paths = sorted((folder / "train").glob(f"*/{_FIRST}"))
    volumes = {path.parent.name: mrcfile.read(path) for path in paths}
    with mrcfile.open(paths[0], header_only=True) as file:
        voxel_nm = [float(file.voxel_size[axis]) / 10 for axis in "zyx"]
    raw = volumes.pop("raw")
    picture = Image.fromarray(draw_planes(raw, volumes, voxel_nm=voxel_nm))
    write_binary(folder / _PICTURE, lambda file: picture.save(file, "PNG"))
