import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from bench.export.stack import make_stack
from bench.export.trakem2 import tag_of, write_trakem2
from bench.ingest.annotations.trakem2.project import read_project


def fill_project(text: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Ids of the area lists by even-odd tests of points, on what the XML parser gives."""
    root = ElementTree.fromstring(text)
    depth = {layer.get("oid"): float(layer.get("z")) for layer in root.iter("t2_layer")}
    order = {oid: place for place, oid in enumerate(sorted(depth, key=depth.get))}
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[1], : shape[2]] + 0.5
    for number, item in enumerate(root.iter("t2_area_list"), start=1):
        a, b, c, d, left, top = map(float, item.get("transform")[7:-1].split(","))
        assert (a, b, c, d) == (1, 0, 0, 1)
        centres = np.column_stack([x.ravel() - left, y.ravel() - top])
        for area in item.iter("t2_area"):
            inside = np.zeros(len(centres), bool)
            for path in area.iter("t2_path"):
                words = path.get("d").replace("M", "").replace("L", "").removesuffix("z").split()
                corners = np.array(words, float).reshape(-1, 2)
                closed = np.vstack([corners, corners[:1]])
                inside ^= Polygon(closed, closed=True).contains_points(centres)
            section = labels[order[area.get("layer_id")]]
            assert not section[inside.reshape(shape[1:])].any()
            section[inside.reshape(shape[1:])] = number
    return labels


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_pixel_is_lost(data, label_arrays, same_instances, draw_objects, tmp_path_factory):
    labels = data.draw(label_arrays)
    folder = tmp_path_factory.mktemp("project")
    write_trakem2(make_stack({"vesicles": labels}), folder)
    assert same_instances(labels, fill_project((folder / "project.xml").read_bytes(), labels.shape))
    project = read_project(folder / "project.xml")
    assert project.warnings == () or all("image" in warning for warning in project.warnings)
    assert same_instances(labels, draw_objects(project.objects, labels.shape))


def test_a_project_says_what_it_holds(ring_labels, tmp_path):
    raw = np.random.default_rng(0).integers(0, 900, ring_labels.shape).astype(np.uint16)
    names = ("a & b", "µ <2> 日")
    stack = make_stack(
        {"vesicles": ring_labels, "mitochondria": ring_labels[::-1]},
        raw=raw,
        names=names,
        pixel_size_nm=5.0,
        section_nm=50.0,
    )
    write_trakem2(stack, tmp_path)
    project = read_project(tmp_path / "project.xml")
    assert project.warnings == ()
    assert project.pixel_sides_nm == (5, 5)
    assert project.section_nm == 50
    assert project.size == ring_labels.shape[1:]
    assert [item.kind for item in project.objects] == ["vesicle"] * 3 + ["mitochondria"] * 3
    for item, title in zip(
        project.objects, ("vesicle 3", "vesicle 8", "vesicle 300"), strict=False
    ):
        assert repr(title) in item.name
    for name, layer, section in zip(names, project.layers, raw, strict=True):
        (patch,) = layer.patches
        assert patch.path == tmp_path / "images" / f"{name}.tif"
        assert np.array_equal(tifffile.imread(patch.path), section)
    root = ElementTree.fromstring((tmp_path / "project.xml").read_bytes())
    oids = [item.get(key) for item in root.iter() for key in ("oid", "id")
            if item.get(key) and item.tag != "area_list"]  # fmt: skip
    assert len(set(oids)) == len(oids)
    assert {patch.get("type") for patch in root.iter("t2_patch")} == {"1"}


def test_a_scale_that_is_not_known_stays_unknown(ring_labels, tmp_path):
    write_trakem2(make_stack({"membrane": ring_labels}), tmp_path)
    assert read_project(tmp_path / "project.xml").pixel_sides_nm is None


@pytest.mark.parametrize(
    ("structure", "tag"),
    [
        ("vesicles", "vesicle"),
        ("T-bar & co", "T_bar___co"),
        ("2nd", "structure_2nd"),
        ("region", "structure_region"),
    ],
)
def test_any_structure_has_a_tag(structure, tag, ring_labels, tmp_path):
    assert tag_of(structure) == tag
    write_trakem2(make_stack({structure: ring_labels}), tmp_path)
    assert {item.kind for item in read_project(tmp_path / "project.xml").objects} == {tag}
