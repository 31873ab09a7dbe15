"""A distance of sections that is not known stays so through every format, or is said."""

import logging

import numpy as np
import pytest

from bench.config.data import PrepareConfig
from bench.export.formats import FORMATS
from bench.export.stack import make_stack
from bench.ingest.inputs import read_input

WITHOUT_A_WORD = ("trakem2", "imod", "imod_spheres")
INPUTS = {
    "trakem2": "project.xml",
    "imod": "raw.mrc",
    "imod_spheres": "raw.mrc",
    "rois": "",
    "ome_zarr": "",
}


@pytest.fixture
def export(tmp_path):
    """Exports three sections in a format; returns them as prepare reads them."""

    def run(name, sections=3, **sizes):
        rng = np.random.default_rng(0)
        labels = np.zeros((sections, 48, 64), np.uint16)
        labels[:, 10:20, 10:30] = 1
        labels[:, 30:40, 30:50] = 2
        raw = rng.integers(0, 255, labels.shape, np.uint8)
        FORMATS[name].write(make_stack({"mitochondria": labels}, raw=raw, **sizes), tmp_path)
        if name.startswith("imod"):
            (tmp_path / "labels.mod").rename(tmp_path / "raw.mod")
        if name == "rois":
            (tmp_path / "RoiSet.zip").rename(tmp_path / "raw_mitochondria.zip")
        given = tmp_path / INPUTS[name]
        rule = "train=0;val=1" if sections > 1 else "train=0"
        return read_input(PrepareConfig(input=str(given), splits=rule, structures="mitochondria"))

    return run


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("section_nm", [None, 5.0, 50.0])
def test_it_is_read_back_as_it_was(export, name, section_nm, caplog):
    with caplog.at_level(logging.WARNING):
        tree = export(name, pixel_size_nm=5.0, section_nm=section_nm)
    assert tree.pixel_size_nm == 5.0
    # That of a TIFF may be read or not; it is never made up.
    assert tree.section_nm == section_nm or (name == "rois" and tree.section_nm is None)
    said = [record.message for record in caplog.records if "distance of sections" in record.message]
    assert len(said) == (section_nm is None and name in WITHOUT_A_WORD)
    assert all("written as 1 px" in text and "section_nm=" in text for text in said)


def test_one_section_has_no_distance(caplog, tmp_path):
    stack = make_stack({"mitochondria": np.ones((1, 8, 8), np.uint8)}, pixel_size_nm=5.0)
    with caplog.at_level(logging.WARNING):
        FORMATS["trakem2"].write(stack, tmp_path)
    assert not caplog.records


def test_a_distance_that_was_stated_since_is_believed(export, tmp_path):
    export("trakem2", pixel_size_nm=5.0)
    text = (tmp_path / "project.xml").read_text()
    for number in range(3):
        text = text.replace(f'z="{number}.0"', f'z="{number}0.0"')
    (tmp_path / "project.xml").write_text(text)
    rule = PrepareConfig(input=str(tmp_path / "project.xml"), splits="train=0;val=1")
    assert read_input(rule).section_nm == 50.0
