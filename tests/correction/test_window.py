"""The window itself, in a display of its own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.export.sphere_table import write_spheres

DRIVER = Path(__file__).with_name("drive_window.py")


@pytest.fixture(scope="module")
def report(run_in_window, found, tomogram, labels, tmp_path_factory) -> dict:
    """What the driver wrote down."""
    folder = tmp_path_factory.mktemp("window")
    np.savez(folder / "stack.npz", raw=tomogram, **labels)
    write_spheres(folder / "stack.csv", found)
    pictures = os.environ.get("PICTURES")
    strict = [
        word
        for kind in ("FutureWarning", "DeprecationWarning")
        for word in ("-W", f"error::{kind}:bench.correction.window")
    ]
    files = [DRIVER, folder / "stack.npz", folder / "out.json", *([pictures] if pictures else [])]
    run_in_window(*strict, *files)
    return json.loads((folder / "out.json").read_text())


def test_vesicles_are_corrected_by_mouse_and_keys(report, truth):
    said = report["balls"]
    assert said["listed"] == [2, 4, 1, 9]
    assert said["gone to"] == [2, 33]
    assert (said["radius"], said["undone"], said["redone"]) == (8.5, 9.0, 8.5)
    assert (said["next"], said["before"]) == (4, 2)
    assert said["removed"] == [[1, 4], 4]
    assert said["back"] == [1, 2, 4]
    assert said["clicked"] == 4
    assert said["refused"][0] == [1, 2, 4]
    assert "where none is, received a place in vesicle 4" in said["refused"][1]
    *centre, radius = said["added"]
    assert np.linalg.norm(np.subtract(centre, truth[3].centre)) < 0.4
    assert radius == pytest.approx(truth[3].radius, abs=0.5)
    assert said["adding"] is False
    assert said["put back"] == [1, 2, 4, 9, 10]
    assert said["dragged"] is True
    assert said["painted"] == [1, 2, 4, 9, 10]


def test_labels_are_painted_by_naparis_own_tools(report):
    said = report["painting"]
    assert said["listed"] == [1]
    assert (said["removed"], said["back"]) == (0, 48 * 36)
    keys, pixels = said["painted"]
    assert set(keys) == {1, 5}
    assert pixels > 30
    assert said["stroke undone"] == 0


def test_what_is_not_saved_is_asked_for(report):
    said = report["end"]
    assert said["unsaved"] is True
    assert said["saved"] == [1, "saved 1", False]
    assert said["kept open"] is True
    assert said["closed"] == [2, ["Not saved", "Not saved"], False]
