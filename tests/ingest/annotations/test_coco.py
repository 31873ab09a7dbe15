"""COCO: runs of pixels against pycocotools' own."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as pycoco

from bench.errors import BenchError
from bench.ingest.annotations.coco import is_coco, read_coco
from bench.ingest.annotations.coco_images import find_coco_image
from bench.ingest.annotations.drawing import DrawnObject, Outline, Painted
from bench.ingest.annotations.geojson import is_geojson
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.annotations.sizes import fit_objects

HEIGHT, WIDTH = 24, 32


def make(*segmentations, **fields) -> dict:
    """A file of one image and a category, with an annotation for each segmentation."""
    return {
        "info": {"description": "made by hand"},
        "images": [{"id": 1, "file_name": "s1.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 5, "name": "vesicle", "supercategory": "organelle"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 5, "bbox": [1, 1, 2, 2], "iscrowd": 0}
            | ({} if segmentation is None else {"segmentation": segmentation})
            for n, segmentation in enumerate(segmentations)
        ],
    } | fields


def save(path: Path, document: dict) -> Path:
    path.write_text(json.dumps(document))
    return path


def read_one(folder: Path, *segmentations, **fields):
    return (
        read_coco(save(folder / "a.json", make(*segmentations, **fields))).images["s1.png"].objects
    )


def runs_of(mask: np.ndarray) -> dict:
    """Runs as a loop over the pixels finds them."""
    counts, inside = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != inside:
            counts.append(0)
            inside = not inside
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compress(mask: np.ndarray) -> dict:
    runs = pycoco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
@settings(max_examples=100, deadline=None)
def test_runs_are_the_pixels_they_were_made_of(tmp_path_factory, mask):
    path = tmp_path_factory.getbasetemp() / "runs.json"
    image = {"id": 1, "file_name": "s1.png"}
    coco = read_coco(save(path, make(runs_of(mask), compress(mask), images=[image])))
    objects = coco.images["s1.png"].objects
    assert len(objects) == (2 if mask.any() else 0)
    for item in objects:
        np.testing.assert_array_equal(draw_labels([item], 0, mask.shape).labels > 0, mask)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_long_runs_are_those_of_pycocotools(tmp_path_factory, first, second):
    path = tmp_path_factory.getbasetemp() / "long.json"
    side = 3000
    counts = [first % (side * side // 2), second % 5000]
    counts.append(side * side - sum(counts))
    runs = pycoco.frPyObjects({"size": [side, side], "counts": counts}, side, side)
    runs = {"size": [side, side], "counts": runs["counts"].decode()}
    image = {"id": 1, "file_name": "s1.png"}
    found = read_coco(save(path, make(runs, images=[image]))).images["s1.png"].objects
    pixels = sum(int(shape.mask.sum()) for item in found for shape in item.shapes[0])
    assert pixels == counts[1]


def test_polygons_of_an_object_are_united(tmp_path):
    first = [2, 2, 12, 2, 12, 9, 2, 9]
    second = [6, 4, 20, 4, 20, 12, 6, 12]
    (item,) = read_one(tmp_path, [first, second, [1, 1, 2, 2]])
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[2:9, 2:12] = 1
    expected[4:12, 6:20] = 1
    np.testing.assert_array_equal(draw_labels([item], 0, expected.shape).labels, expected)
    assert (item.name, item.kind) == ("annotation 0", "vesicle")


def test_objects_are_kept_by_image(tmp_path):
    document = make([[1, 1, 5, 1, 5, 5]], None, compress(np.ones((HEIGHT, WIDTH))))
    document["images"] += [{"id": "x", "file_name": "b/S 2.tif"}, {"id": 3, "file_name": "c.png"}]
    document["annotations"][0]["image_id"] = "x"
    document["annotations"][2]["iscrowd"] = 1
    coco = read_coco(save(tmp_path / "a.json", document))
    assert {name: len(found.objects) for name, found in coco.images.items()} == {
        "s1.png": 1,
        "b/S 2.tif": 1,
        "c.png": 0,
    }
    assert "1 without an area are left out: annotation 1" in coco.warnings[0]
    assert "1 crowds are one object each: annotation 2" in coco.warnings[1]


def test_the_kind_of_a_json_file(tmp_path):
    path = save(tmp_path / "a.json", make([[1, 1, 5, 1, 5, 5]]))
    assert is_coco(path)
    assert not is_geojson(path)
    assert not is_coco(save(tmp_path / "b.json", {"type": "FeatureCollection", "features": []}))
    assert not is_coco(save(tmp_path / "c.json", {"settings": [1]}))
    with pytest.raises(BenchError, match="must be readable"):
        is_coco(tmp_path / "none.json")


TWICE = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}]
SAME_ID = [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"images": []}, "annotations of"),
        (make(images=TWICE), "received 'a.png'"),
        (make(images=SAME_ID), "every id in images"),
        (make([[1, 1, 5, 1, 5, 5]], images=[]), "image_id of"),
        (make([[1, 1, 5, 1, 5, 5]], categories=[{"id": 1, "name": "a"}]), "category_id of"),
        (make([[1, 1, 5, 1, 5]]), "lists of x, y"),
        (make([1, 1, 5, 1, 5, 5]), "segmentation of"),
        (make([[1, 1, 5, 1, 5, float("inf")]]), "received inf"),
        (make({"size": [3, 3], "counts": [0, 9]}), "size of"),
        (make({"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH + 1]}), "runs of"),
        (make({"size": [HEIGHT, WIDTH], "counts": [5, -3, 4]}), "runs of"),
        (make({"size": [HEIGHT, WIDTH], "counts": [5, 0.5]}), "whole numbers"),
        (make({"size": [HEIGHT, WIDTH], "counts": "o" * 9 + "0"}), "compresses"),
        (make({"size": [HEIGHT, WIDTH], "counts": "0o"}), "compresses"),
        (make({"size": [HEIGHT, WIDTH], "counts": "\x01"}), "compresses"),
        (make({"size": [HEIGHT, WIDTH], "counts": 5}), "counts of"),
    ],
)
def test_bad_files_are_refused(tmp_path, document, reason):
    with pytest.raises(BenchError) as error:
        read_coco(save(tmp_path / "a.json", document))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_huge_mask_is_refused_before_it_is_painted(tmp_path):
    side = 10**7
    runs = {"size": [side, side], "counts": [0, side * side]}
    with pytest.raises(BenchError, match="must not decode to more"):
        read_coco(save(tmp_path / "a.json", make(runs, images=[{"id": 1, "file_name": "a.png"}])))
    side = 15_000
    runs = {"size": [side, side], "counts": [0, side * side]}
    many = make(*[runs] * 50, images=[{"id": 1, "file_name": "a.png"}])
    with pytest.raises(BenchError, match="must not decode to more"):
        read_coco(save(tmp_path / "a.json", many))


def test_damaged_files_are_read_or_refused(tmp_path):
    generator = random.Random(0)
    mask = np.zeros((HEIGHT, WIDTH))
    mask[3:9, 4:19] = 1
    document = make([[1, 1, 9, 1, 9.5, 9]], runs_of(mask), compress(mask), None)
    content, refused = json.dumps(document).encode(), 0
    strange = [b"1e999", b"NaN", b"9" * 18, b"null", b"{}", b"[[[]]]", b'"~~~~"', b"-1", b"0.5"]
    numbers = [n for n, byte in enumerate(content) if byte in b"123456789"]
    for _ in range(120):
        data, place = bytearray(content), generator.randrange(len(content))
        match generator.randrange(4):
            case 0:
                del data[place:]
            case 1:
                data[place] ^= 1 << generator.randrange(5)
            case 2:
                data[place:] = content[generator.randrange(len(content)) :]
            case _:
                place = generator.choice(numbers)
                data[place : place + 1] = generator.choice(strange)
        path = tmp_path / "a.json"
        path.write_bytes(data)
        try:
            for image in read_coco(path).images.values():
                draw_labels(image.objects, 0, (HEIGHT, WIDTH))
        except BenchError:
            refused += 1
    assert 20 < refused < 115


@pytest.mark.parametrize(
    "name", ["s1.png", "C:\\Daten\\EM\\s1.png", "/data/em/s1.png", "../up/3\\s1.png"]
)
def test_image_is_found_whatever_folders_are_before_its_name(tmp_path, name):
    document = make([[1, 1, 5, 1, 5, 5]])
    document["images"][0]["file_name"] = name
    found, _ = find_coco_image(save(tmp_path / "a.json", document), tmp_path / "s1.png")
    assert len(found.objects) == 1
    assert found.size == (HEIGHT, WIDTH)


def test_image_is_found_in_the_other_form_of_unicode(tmp_path):
    document = make([[1, 1, 5, 1, 5, 5]])
    document["images"][0]["file_name"] = unicodedata.normalize("NFD", "Pr\u00e4parat.png")
    image = tmp_path / unicodedata.normalize("NFC", "Pr\u00e4parat.png")
    found, _ = find_coco_image(save(tmp_path / "a.json", document), image)
    assert len(found.objects) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../upload/3/1a2b3c4d-s1.png", r"1 images \(1a2b3c4d-s1.png\): remove .* \(1a2b3c4d-\)"),
        ("s1.jpg", r"\(s1.jpg\): give file_name the image's ending"),
        ("other.png", r"received 0 of that name .* \(other.png\): correct file_name"),
    ],
)
def test_names_in_the_file_are_shown_where_none_fits(tmp_path, name, message):
    document = make([[1, 1, 5, 1, 5, 5]])
    document["images"][0]["file_name"] = name
    with pytest.raises(BenchError, match=message):
        find_coco_image(save(tmp_path / "a.json", document), tmp_path / "s1.png")


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(24, 32, (24, 32)), (None, None, None), (0, 0, None), (24, None, None), ("24", "32", None)],
)
def test_size_is_what_the_file_says_or_its_runs(tmp_path, height, width, size):
    image = {"id": 1, "file_name": "s1.png", "height": height, "width": width}
    coco = read_coco(save(tmp_path / "a.json", make([[1, 1, 5, 1, 5, 5]], images=[image])))
    assert coco.images["s1.png"].size == size
    if height is None:
        runs = compress(np.ones((HEIGHT, WIDTH)))
        coco = read_coco(save(tmp_path / "b.json", make(runs, images=[image])))
        assert coco.images["s1.png"].size == (HEIGHT, WIDTH)


def fit(*shapes, stated, shape, scale=True):
    items = [DrawnObject("a", "vesicle", {0: shapes})]
    (item,) = fit_objects(items, stated, shape, scale=scale, where="a.json", image="s1.png")
    return item.shapes[0]


def test_outlines_of_a_copy_of_another_size_are_scaled_if_asked():
    ring = np.array([(1.0, 2.0), (5.0, 2.0), (5.0, 7.0)])
    (outline,) = fit(Outline((ring,)), stated=(24, 32), shape=(49, 64))
    np.testing.assert_allclose(outline.rings[0], ring * (2, 49 / 24))
    (outline,) = fit(Outline((ring,)), stated=(24, 32), shape=(24, 32), scale=False)
    np.testing.assert_array_equal(outline.rings[0], ring)
    message = r"size of s1.png, 64 x 48 px \(width x height\), received 32 x 24: .* scale=auto"
    with pytest.raises(BenchError, match=message):
        fit(Outline((ring,)), stated=(24, 32), shape=(48, 64), scale=False)
    with pytest.raises(BenchError, match="another shape: correct its width and height"):
        fit(Outline((ring,)), stated=(32, 24), shape=(24, 32))
    with pytest.raises(BenchError, match="another shape: export it for this image"):
        fit(Outline((ring,)), stated=(24, 32), shape=(48, 32))
    with pytest.raises(BenchError, match="holds pixels, which are not scaled"):
        fit(Painted(0, 0, np.ones((2, 2), bool)), stated=(24, 32), shape=(48, 64))
