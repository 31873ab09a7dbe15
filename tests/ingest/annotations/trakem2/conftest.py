from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench.ingest.annotations.trakem2.project import TrakEM2Project, read_project

DTD = """<!DOCTYPE trakem2_anything [
\t<!ELEMENT trakem2 (project,t2_layer_set,t2_display)>
\t<!ATTLIST t2_layer oid NMTOKEN #REQUIRED>
] >"""
CALIBRATION = '<t2_calibration pixelWidth="5.0" pixelHeight="5.0" unit="nm" />'


def format_project(
    objects: str = "",
    tree: str = "",
    layers: str = '<t2_layer oid="20" thickness="10.0" z="0.0" />',
    size: tuple[int, int] = (48, 64),
    calibration: str = CALIBRATION,
) -> str:
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{DTD}\n<trakem2>\n'
        f'<project id="0" title="t"><anything id="1" title="root">{tree}</anything></project>\n'
        f'<t2_layer_set oid="9" layer_width="{size[1]}.0" layer_height="{size[0]}.0">\n'
        f"{calibration}\n{objects}\n{layers}\n</t2_layer_set>\n</trakem2>\n"
    )


@pytest.fixture
def write_project(tmp_path) -> Callable[..., Path]:
    """Writes a project of 48 x 64 px with one layer, 20, unless told otherwise."""

    def write(**parts: object) -> Path:
        path = tmp_path / "project.xml"
        path.write_text(format_project(**parts), encoding="latin-1")
        return path

    return write


@pytest.fixture
def make_project(write_project) -> Callable[..., TrakEM2Project]:
    """Writes a project and reads it."""
    return lambda **parts: read_project(write_project(**parts))


@pytest.fixture
def write_image(tmp_path) -> Callable[..., np.ndarray]:
    """Writes an image of random grey values beside the project, and returns them."""

    def write(name: str, shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
        pixels = np.random.default_rng(len(name)).integers(1, 250, shape).astype(dtype)
        tifffile.imwrite(tmp_path / name, pixels, photometric="minisblack")
        return pixels

    return write


@pytest.fixture
def equal_but_for_numbers() -> Callable[[np.ndarray, np.ndarray], bool]:
    """Whether two images of ids show the same instances; 0 is background in both."""

    def compare(one: np.ndarray, other: np.ndarray) -> bool:
        pairs = np.unique(one.astype(np.int64) << 32 | other)
        ids, others = pairs >> 32, pairs & 0xFFFFFFFF
        alone = len(np.unique(ids)) == len(np.unique(others)) == len(pairs)
        return alone and bool(((ids == 0) == (others == 0)).all())

    return compare
