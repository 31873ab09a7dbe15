"""Projects whose labels are known: real ones, and that of the phantom."""

import numpy as np
import pytest
import tifffile

from bench.config.data import PhantomConfig
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.annotations.trakem2.layers import read_layer
from bench.ingest.annotations.trakem2.project import read_project
from bench.ingest.annotations.trakem2.regions import find_regions
from bench.phantom.write import write_phantom

CLASSES = {"vesicles": "vesicle", "mitochondria": "mitochondria", "membrane": "membrane"}


@pytest.mark.parametrize("name", ["project.xml", "project.xml.gz"])
def test_instances_are_the_expected_ones(shared, name, equal_but_for_numbers):
    folder = shared / "trakem2"
    project = read_project(folder / name)
    for structure, kind in CLASSES.items():
        expected = tifffile.imread(folder / "expected" / f"{structure}.tif")
        objects = [item for item in project.objects if item.kind == kind]
        for number, truth in enumerate(expected):
            drawn = draw_labels(objects, number, project.size)
            assert equal_but_for_numbers(drawn.labels, truth)
            assert drawn.overlapping_px == 0
    assert (project.pixel_sides_nm, project.section_nm) == ((5.0, 5.0), 5.0)
    assert project.warnings == ("97 objects are hidden in TrakEM2; they count all the same",)


def test_layers_are_the_files(shared):
    project = read_project(shared / "trakem2" / "project.xml.gz")
    window = read_layer(project, 1, 100, 200, 300, 400)
    whole = tifffile.imread(shared / "trakem2" / "m0_section1.tif")
    np.testing.assert_array_equal(window, whole[100:400, 200:600])


def test_the_conformance_file_has_its_areas(shared):
    project = read_project(shared / "formats" / "trakem2_conformance.xml")
    areas = [item for item in project.objects if item.kind == "mitochondria"]
    balls = [item for item in project.objects if item.kind == "vesicle"]
    assert [count(areas, number, project) for number in (0, 1)] == [300, 164]
    assert [count(balls, number, project) for number in (0, 1)] == [52, 112]
    assert (project.pixel_sides_nm, project.section_nm) == ((2.5, 2.5), 60.0)


def count(objects, number, project) -> int:
    return int(np.count_nonzero(draw_labels(objects, number, project.size).labels))


def test_the_project_of_the_phantom_gives_its_labels(tmp_path, equal_but_for_numbers):
    config = PhantomConfig(
        output=str(tmp_path / "phantom"), regions=2, sections=3, size_px=128, montage_px=192
    )
    folder = write_phantom(config)
    project = read_project(folder / "project.xml")
    assert (project.warnings, project.pixel_sides_nm, project.section_nm) == ((), (5.0, 5.0), 50.0)
    assert len(project.layers) == 6
    for layer in project.layers:
        name = layer.patches[0].path.name
        montage = tifffile.imread(folder / "montages" / name)
        np.testing.assert_array_equal(read_layer(project, layer.number, 0, 0, 192, 192), montage)
        for structure, kind in CLASSES.items():
            (file,) = folder.glob(f"*/{structure}/{name}")
            truth = tifffile.imread(file)
            objects = [item for item in project.objects if item.kind == kind]
            drawn = draw_labels(objects, layer.number, truth.shape, origin=(32, 32))
            assert equal_but_for_numbers(drawn.labels, truth)
    # They lie over each other, but between them sections of the series are missing.
    regions = find_regions(project, project.objects, 0)
    assert [region.layers for region in regions] == [(0, 1, 2), (3, 4, 5)]
    for region in regions:
        assert (region.left, region.top, region.width, region.height) == (32, 32, 128, 128)
