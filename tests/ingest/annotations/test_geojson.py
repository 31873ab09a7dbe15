"""GeoJSON as QuPath 0.5 writes it."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.geojson import is_geojson, read_geojson
from bench.ingest.annotations.rasterise import draw_labels

SIZE = (24, 32)
# As QuPath 0.5 exports an annotation with a hole on the third plane of a stack.
QUPATH = """{
  "type": "FeatureCollection",
  "features": [
    {
      "type": "Feature",
      "id": "5f4b0ab2-79a1-4b8f-9ab0-1c1d3c6f4a10",
      "geometry": {
        "type": "Polygon",
        "coordinates": [
          [[2, 3], [20, 3], [20, 15], [2, 15], [2, 3]],
          [[5, 5], [5, 9], [11, 9], [11, 5], [5, 5]]
        ],
        "plane": {"c": -1, "z": 2, "t": 0}
      },
      "properties": {
        "objectType": "annotation",
        "name": "the big one",
        "classification": {"name": "Mitochondria", "color": [200, 0, 0]},
        "isLocked": true,
        "measurements": {"Area": NaN}
      }
    }
  ]
}
"""


def feature(kind: str, coordinates, *, geometry=None, **properties) -> dict:
    shape = {"type": kind, "coordinates": coordinates} | (geometry or {})
    return {"type": "Feature", "id": "7", "geometry": shape, "properties": properties}


def square(low: float, high: float) -> list[list[float]]:
    return [[low, low], [high, low], [high, high], [low, high], [low, low]]


def save(path: Path, document) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def draw(path: Path) -> np.ndarray:
    objects, _ = read_geojson(path)
    return draw_labels(objects, 0, SIZE).labels


def test_an_annotation_of_qupath(tmp_path):
    path = save(tmp_path / "a.geojson", QUPATH)
    ((item,), warnings) = read_geojson(path)
    assert (item.name, item.kind, *item.shapes) == ("the big one", "Mitochondria", 2)
    assert warnings == ()
    labels = draw_labels([item], 2, SIZE).labels
    expected = np.zeros(SIZE, int)
    expected[3:15, 2:20] = 1
    expected[5:9, 5:11] = 0
    np.testing.assert_array_equal(labels, expected)
    assert is_geojson(path)


def test_a_list_of_features_and_a_single_one(tmp_path):
    item = feature("Polygon", [square(1, 5)])
    for document in ([item, item], {"type": "FeatureCollection", "features": [item, item]}):
        objects, _ = read_geojson(save(tmp_path / "a.json", document))
        assert len(objects) == 2
        assert is_geojson(tmp_path / "a.json")
    assert np.count_nonzero(draw(save(tmp_path / "b.json", item))) == 16


def test_parts_of_an_object_are_united(tmp_path):
    several = feature("MultiPolygon", [[square(1, 5), square(2, 3)], [square(4, 8)]])
    assert np.count_nonzero(draw(save(tmp_path / "a.json", several))) == 15 + 15
    parts = [
        {"type": "Polygon", "coordinates": [square(1, 5)]},
        {"type": "Point", "coordinates": [3, 4]},
        {"type": "GeometryCollection", "geometries": [several["geometry"]]},
    ]
    collection = feature("GeometryCollection", None, geometry={"geometries": parts})
    objects, warnings = read_geojson(save(tmp_path / "b.json", collection))
    assert np.count_nonzero(draw_labels(objects, 0, SIZE).labels) == 16 + 15
    assert "'7' ('Point')" in warnings[0]


@pytest.mark.parametrize(("width", "height"), [(7, 7), (9.5, 14.25)])
def test_ellipses_are_those_that_qupath_means(tmp_path, width, height):
    a, b = width / 2, height / 2
    # The few corners of its polygon, of which QuPath reads the bounds alone.
    polygon = [[4, 3 + b], [4 + a, 3], [4 + width, 3 + b], [4 + a, 3 + height], [4, 3 + b]]
    item = feature("Polygon", [polygon], geometry={"isEllipse": True})
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((columns - 4 - a) / a) ** 2 + ((rows - 3 - b) / b) ** 2 <= 1
    np.testing.assert_array_equal(draw(save(tmp_path / "a.json", item)) > 0, inside)


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({"classification": {"names": ["Vesicle", "docked"]}, "name": "a"}, "Vesicle: docked"),
        ({"classification": "vesicle"}, "vesicle"),
        ({"classification": {"name": "sv", "colorRGB": -3670016}}, "sv"),
        ({"classification": {}, "name": "mito 3"}, "mito"),
        ({"objectType": "detection", "name": ""}, "detection"),
        ({"classification": None, "objectType": [1]}, "unclassified"),
        ({}, "unclassified"),
    ],
)
def test_the_class_of_an_object(tmp_path, properties, kind):
    document = feature("Polygon", [square(1, 5)], **properties)
    ((item,), _) = read_geojson(save(tmp_path / "a.json", document))
    assert item.kind == kind


def test_what_has_no_area_is_left_out(tmp_path):
    features = [
        feature("LineString", [[1, 1], [4, 4]]),
        feature("Polygon", [[[1, 1], [4, 4], [1, 1]]], name="flat"),
        {"type": "Feature", "geometry": None, "properties": None},
        feature("Polygon", [square(1, 5)]),
    ]
    objects, warnings = read_geojson(save(tmp_path / "a.json", features))
    assert len(objects) == 1
    assert len(warnings) == 1
    assert "3 without an area" in warnings[0]
    assert "'feature 2' (no geometry)" in warnings[0]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[" * 100_000, "recursion"),
        ('{"type": "Feature"', "does not decode"),
        ({"type": "Topology"}, "received 'Topology'"),
        ([3], "features of"),
        (feature("Polygon", [[[0, 0], [1, float("nan")], [1, 1]]]), "received nan"),
        (feature("Polygon", [[[0, 0], [1, 1e300], [1, 1]]]), "received 1e+300"),
        (feature("Polygon", [[[0, 0], [1, 10**400], [1, 1]]]), "numbers of"),
        (feature("Polygon", [[[0, 0], [1], [1, 1]]]), "numbers of"),
        (feature("Polygon", [[0, 1, 2]]), "pairs of x and y"),
        (feature("Polygon", {"a": 1}), "must be a list"),
        (feature("Polygon", [square(1, 5)], geometry={"plane": {"z": "x"}}), "z of"),
    ],
)
def test_bad_files_are_refused(tmp_path, document, reason):
    with pytest.raises(BenchError) as error:
        read_geojson(save(tmp_path / "a.json", document))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_strangers_are_made_printable(tmp_path):
    document = feature("Polygon", [square(1, 5)], name="a\n\ud800\x1b[2Jb" + "9" * 9999)
    ((item,), _) = read_geojson(save(tmp_path / "a.json", document))
    assert item.name.startswith("a [2Jb9")
    assert len(item.name) < 300


def test_damaged_files_are_read_or_refused(tmp_path):
    generator = random.Random(0)
    content, refused = QUPATH.encode(), 0
    strange = [b"1e999", b"NaN", b"9" * 5000, b"null", b"{}", b"[[[]]]", b'"\\ud800"', b"-1"]
    numbers = [n for n, byte in enumerate(content) if byte in b"123456789"]
    for _ in range(120):
        data, place = bytearray(content), generator.randrange(len(content))
        match generator.randrange(4):
            case 0:
                del data[place:]
            case 1:
                data[place] ^= 1 << generator.randrange(8)
            case 2:
                data[place:] = content[generator.randrange(len(content)) :]
            case _:
                place = generator.choice(numbers)
                data[place : place + 1] = generator.choice(strange)
        path = tmp_path / "a.geojson"
        path.write_bytes(data)
        try:
            objects, _ = read_geojson(path)
            draw_labels(objects, 0, SIZE)
        except BenchError:
            refused += 1
    assert 20 < refused < 115
