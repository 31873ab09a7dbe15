import math
import random
import struct
import time
from pathlib import Path

import imodmodel
import numpy as np
import pytest

from bench.errors import BenchError
from bench.ingest.annotations.drawing import Disc
from bench.ingest.annotations.imod import read_model
from bench.ingest.annotations.imod_model import MODEL_HEADER, OBJECT_HEADER
from bench.ingest.annotations.rasterise import draw_labels
from bench.ingest.images.mrc import MrcGeometry

CLOSED, HIDDEN, OPEN, CENTRAL, SCATTERED = 0, 1 << 1, 1 << 3, 1 << 7, 1 << 9
HAS_ORIGIN, FLIPPED = 1 << 14, 1 << 16
SQUARE = [(1, 1), (5, 1), (5, 5), (1, 5)]


def at(z: float, corners: list[tuple[float, float]] = SQUARE, shift: float = 0) -> np.ndarray:
    return np.array([(x + shift, y + shift, z) for x, y in corners], float)


def contour(points: np.ndarray, surface: int = 0, flags: int = 0, sizes: object = None) -> bytes:
    content = b"CONT" + struct.pack(">iIii", len(points), flags, 0, surface)
    content += np.asarray(points, ">f4").tobytes()
    if sizes is not None:
        content += chunk(b"SIZE", np.asarray(sizes, ">f4").tobytes())
    return content


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">i", len(content)) + content


def drawn(*contours: bytes, name: bytes = b"mito", flags: int = CLOSED, radius: int = 0) -> bytes:
    fields = (name, len(contours), flags, 0, 1, 0, 1, 0, radius, *[0] * 8, 0, 0)
    return b"OBJT" + OBJECT_HEADER.pack(*fields) + b"".join(contours)


def minx(otrans: tuple, ctrans: tuple, spacing: float = 10.0) -> bytes:
    rows = [(0,) * 3, otrans, (0,) * 3, (spacing,) * 3, ctrans, (0,) * 3]
    return chunk(b"MINX", np.array(rows, ">f4").tobytes())


def write(
    path: Path,
    *chunks: bytes,
    flags: int = 0,
    z_scale: float = 1.0,
    pixel: tuple[float, int] = (0.0, 0),
    size: tuple[int, int, int] = (0, 0, 0),
) -> Path:
    header = MODEL_HEADER.pack(
        *(b"model", *size, 1, flags, 1, 2, 0, 255, 0, 0, 0, 1, 1, z_scale, 0, 0, -1, 3, 128),
        *(*pixel, 0, 0, 0, 0),
    )
    path.write_bytes(b"IMODV1.2" + header + b"".join(chunks) + b"IEOF")
    return path


def labels(model: object, section: int, size: tuple[int, int] = (12, 12)) -> np.ndarray:
    return draw_labels(model.objects, section, size).labels


def test_closed_contours_are_instances_of_the_section_nearest(tmp_path):
    path = write(tmp_path / "a.mod", drawn(contour(at(2.4)), contour(at(3.6, shift=6))))
    model = read_model(path)
    assert [item.name for item in model.objects] == ["object 1 contour 1", "object 1 contour 2"]
    expected = np.zeros((12, 12), int)
    expected[1:5, 1:5] = 1
    np.testing.assert_array_equal(labels(model, 2), expected)
    assert labels(model, 3).max() == 0
    # The first pixel's corner is (0, 0), and row 0 is the first one stored.
    assert labels(model, 4)[7, 7] == 2
    assert labels(model, 4)[6, 6] == 0


def test_contours_of_a_surface_are_one_instance_and_those_inside_its_holes(tmp_path):
    inside = at(0, [(2, 2), (4, 2), (4, 4), (2, 4)])
    first = [contour(at(0), 1), contour(inside, 1), contour(at(1), 1)]
    model = read_model(write(tmp_path / "a.mod", drawn(*first, contour(at(0, shift=6), 2))))
    assert [item.name for item in model.objects] == ["object 1 surface 1", "object 1 surface 2"]
    assert sorted(model.objects[0].shapes) == [0, 1]
    assert np.count_nonzero(labels(model, 0) == 1) == 16 - 4
    assert np.count_nonzero(labels(model, 1) == 1) == 16
    # Without surfaces, a contour inside another one is an instance of its own.
    model = read_model(write(tmp_path / "b.mod", drawn(contour(at(0)), contour(inside))))
    assert np.bincount(labels(model, 0).ravel())[1:].tolist() == [12, 4]


def test_scattered_points_are_spheres(tmp_path):
    points = np.array([(10, 10, 5), (10, 10, 20), (10, 10, 30)])
    item = drawn(contour(points, sizes=[3, -1, 0]), flags=SCATTERED, radius=2)
    model = read_model(write(tmp_path / "a.mod", item))
    first, second = model.objects
    # Every voxel of the sphere: its disc must have the radius of the cut.
    assert {z: shapes[0].radius for z, shapes in first.shapes.items()} == pytest.approx(
        {z: math.sqrt(9 - (z - 5) ** 2) for z in range(3, 8)}
    )
    assert first.shapes[5] == (Disc(10, 10, 3),)
    assert sorted(second.shapes) == [19, 20, 21]
    assert first.name == "object 1 contour 1 point 1"
    assert model.warnings == (
        "a.mod has 1 scattered points without a radius that reaches a section: left out",
    )


def test_sections_are_as_far_apart_as_the_z_scale_says(tmp_path):
    item = drawn(contour(np.array([(10, 10, 5)])), flags=SCATTERED | OPEN, radius=6)
    model = read_model(write(tmp_path / "a.mod", item, z_scale=4))
    assert {z: shape[0].radius for z, shape in model.objects[0].shapes.items()} == pytest.approx(
        {4: math.sqrt(36 - 16), 5: 6, 6: math.sqrt(36 - 16)}
    )


def test_spheres_of_the_central_section_only_are_discs(tmp_path):
    points = np.array(
        [(10, 10, 4.4), (20, 20, 4.5), (30, 30, 0), (9, 9, -0.6), (5, 5, 9), (1, 1, 2)]
    )
    item = drawn(contour(points, sizes=[3, 2, 7, 9, 9, 0]), flags=SCATTERED | OPEN | CENTRAL)
    image = MrcGeometry((40, 40, 9), (0, 0, 0), (0, 0, 0))
    model = read_model(write(tmp_path / "a.mod", item, z_scale=0.1), image)
    assert [item.shapes for item in model.objects] == [
        {4: (Disc(10, 10, 3),)},
        {5: (Disc(20, 20, 2),)},
        {0: (Disc(30, 30, 7),)},
    ]
    assert model.warnings == (
        "a.mod has 3 scattered points without a radius that reaches a section: left out",
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_section_that_a_sphere_cuts_has_its_disc(tmp_path, seed):
    generator = np.random.default_rng(seed)
    # Halves and quarters are exact, so that many spheres just touch a section.
    z, radii = generator.integers(-8, 50, 200) / 4, generator.integers(0, 20, 200) / 4
    points = np.column_stack([z, z, z])
    item = drawn(
        *(contour(points[n : n + 50], sizes=radii[n : n + 50]) for n in (0, 50)),
        *(contour(points[100:], sizes=[*radii[100:150], *[-1] * 50]), contour(points[:0])),
        flags=SCATTERED,
        radius=2,
    )
    radii[150:] = 2
    image = MrcGeometry((20, 20, 9), (0, 0, 0), (0, 0, 0))
    model = read_model(write(tmp_path / "a.mod", item, z_scale=0.5), image)
    squares = {
        n: {s: r**2 - (0.5 * (s - c)) ** 2 for s in range(9) if r**2 > (0.5 * (s - c)) ** 2}
        for n, (c, r) in enumerate(zip(z, radii, strict=True))
    }
    names = [f"contour {n // 50 + 1} point {n % 50 + 1}" for n in range(150)]
    names += [f"contour 3 point {n + 1}" for n in range(50, 100)]
    expected = {f"object 1 {names[n]}": found for n, found in squares.items() if found}
    assert 50 < len(expected) < 190
    assert {item.name: set(item.shapes) for item in model.objects} == {
        name: set(found) for name, found in expected.items()
    }
    for item in model.objects:
        for section, (disc,) in item.shapes.items():
            assert disc.radius**2 == pytest.approx(expected[item.name][section])


def test_a_sphere_stays_within_the_image(tmp_path):
    item = drawn(contour(np.array([(10, 10, 1)])), flags=SCATTERED, radius=4)
    image = MrcGeometry((20, 20, 3), (0, 0, 0), (0, 0, 0))
    assert sorted(read_model(write(tmp_path / "a.mod", item), image).objects[0].shapes) == [0, 1, 2]


def test_what_is_no_area_is_left_out_and_said(tmp_path):
    slanted = at(0)
    slanted[0, 2] = 3
    mesh = b"MESH" + struct.pack(">iiIhh", 1, 2, 0, 0, 0) + bytes(12 + 8)
    path = write(
        tmp_path / "a.mod",
        drawn(contour(at(0)), flags=OPEN),
        drawn(contour(at(0), flags=OPEN), contour(at(0)[:2]), contour(slanted), contour(at(0))),
        drawn(),
        drawn() + mesh,
    )
    model = read_model(path)
    assert [item.name for item in model.objects] == ["object 2 contour 4"]
    assert model.warnings == (
        "a.mod has 2 open contours (an area must be closed): left out",
        "a.mod has 1 closed contours of less than 3 points: left out",
        "a.mod has 1 closed contours through several sections: left out",
        "a.mod has 1 objects with a mesh only: left out",
    )


def test_kind_is_the_name_of_the_object(tmp_path):
    names = [b"vesicle", b"", b" a\nb\x1b ", "Mitochondrié".encode("latin-1")]
    items = [drawn(contour(at(0)), name=name) for name in names]
    model = read_model(write(tmp_path / "a.mod", *items, drawn(contour(at(0)), flags=HIDDEN)))
    kinds = [item.kind for item in model.objects]
    assert kinds == ["vesicle", "object 2", "a b", "Mitochondrié", "mito"]
    assert [item.visible for item in model.objects] == [True] * 4 + [False]


def first_corner(path: Path, image: MrcGeometry | None = None) -> tuple[int, list[float]]:
    (item,) = read_model(path, image).objects
    ((section, (outline,)),) = item.shapes.items()
    return section, outline.rings[0][0].tolist()


def test_model_of_a_part_that_3dmod_had_loaded(tmp_path):
    # 3dmod: x of the image is x + (otrans - ctrans) / cscale.
    reference = minx((-50, 0, 20), (-150, -200, -10))
    path = write(tmp_path / "a.mod", drawn(contour(at(2))), reference, flags=HAS_ORIGIN)
    assert first_corner(path) == (2 + 3, [1 + 10, 1 + 20])
    # Without the flag otrans is left over from another image.
    path = write(tmp_path / "b.mod", drawn(contour(at(2))), reference)
    assert first_corner(path) == (2, [1, 1])
    path = write(tmp_path / "c.mod", drawn(contour(at(2))), minx((1, 1, 1), (0, 0, 0), 0))
    assert first_corner(path) == (2, [1, 1])


def test_flipped_model(tmp_path):
    flipped = at(2)[:, [0, 2, 1]]
    reference = minx((0, 0, 0), (-100, -200, -30))
    path = write(tmp_path / "a.mod", drawn(contour(flipped)), reference, flags=FLIPPED | HAS_ORIGIN)
    assert first_corner(path) == (2 + 3, [1 + 10, 1 + 20])


def test_model_of_a_binned_image_is_scaled_to_this_one(tmp_path):
    reference = minx((0, 0, 0), (0, 0, 0), spacing=20)
    sphere = drawn(contour(np.array([(4, 4, 4)])), flags=SCATTERED, radius=1)
    binned = {"flags": HAS_ORIGIN, "size": (6, 6, 6)}
    path = write(tmp_path / "a.mod", drawn(contour(at(2))), reference, **binned)
    image = MrcGeometry((12, 12, 12), (10, 10, 10), (0, 0, 0))
    assert first_corner(path, image) == (4, [2, 2])
    assert read_model(path, image).warnings == (
        "a.mod was drawn on another image: it is scaled by 2 and moved by 0, 0, 0 px (x, y, z)",
    )
    path = write(tmp_path / "b.mod", sphere, reference, **binned)
    assert read_model(path, image).objects[0].shapes[8] == (Disc(8, 8, 2),)
    # The same model on the image it was drawn on, and on one that says nothing of its place.
    for same in (
        MrcGeometry((6, 6, 6), (10, 10, 10), (0, 0, 0)),
        MrcGeometry((6, 6, 6), (0,) * 3, (0,) * 3),
    ):
        assert (
            first_corner(
                write(tmp_path / "c.mod", drawn(contour(at(2))), reference, **binned), same
            )[0]
            == 2
        )


def test_model_of_the_whole_on_a_trimmed_image(tmp_path):
    path = write(
        tmp_path / "a.mod",
        *(drawn(contour(at(5, shift=4))), minx((0, 0, 0), (0, 0, 0))),
        flags=HAS_ORIGIN,
        size=(50, 50, 50),
    )
    trimmed = MrcGeometry((10, 10, 10), (10, 10, 10), (-30, -40, -20))
    assert first_corner(path, trimmed) == (3, [2, 1])


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (1.35, -9, 1.35),
        (13.5, -10, 1.35),
        (0.002, -6, 2),
        (4, 0, None),
        (0, -9, None),
        (math.nan, -9, None),
    ],
)
def test_pixel_size(tmp_path, size, unit, expected):
    path = write(tmp_path / "a.mod", drawn(contour(at(0))), pixel=(size, unit))
    assert read_model(path).pixel_size_nm == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (drawn(contour(np.full((3, 3), np.nan))), "points of model .* must lie within 1e.07 px"),
        (drawn(contour(np.full((3, 3), 1e30))), "points of model .* must lie within 1e.07 px"),
        (drawn(contour(at(0)), minx((0, 0, np.inf), (0, 0, 0))), r"\(MINX\) of model .* finite"),
        (drawn(contour(at(0), sizes=[1, 2, 3, np.inf][1:])), "a point of radius inf px"),
        (b"CONT" + struct.pack(">iIii", 2**31 - 1, 0, 0, 0), "must be a whole binary IMOD model"),
        (drawn(b"CONT" + struct.pack(">iIii", 2**31 - 1, 0, 0, 0)), "6442450941 numbers in"),
        (drawn(b"CONT" + struct.pack(">iIii", -1, 0, 0, 0)), "-3 numbers in"),
        (drawn(b"MESH" + struct.pack(">iiIhh", 2**30, 2**30, 0, 0, 0)), "a mesh of 1073741824"),
        (b"VIEW" + struct.pack(">i", -1), "chunk b'VIEW' of 4294967295 bytes"),
        (contour(at(0)), "a contour without an object"),
        (drawn(contour(np.empty((0, 3))) * 250_001), "250001 contours, more than 250000"),
    ],
)
def test_hostile_models(tmp_path, content, message):
    with pytest.raises(BenchError, match=message):
        read_model(write(tmp_path / "a.mod", content))


def test_too_many_points(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.ingest.annotations.imod_model.MOST_POINTS", 10)
    read_model(write(tmp_path / "a.mod", drawn(contour(np.zeros((10, 3))))))
    item = drawn(contour(np.zeros((6, 3))), contour(np.zeros((5, 3))))
    with pytest.raises(BenchError, match="11 points or more, more than 10"):
        read_model(write(tmp_path / "a.mod", item))


def test_too_many_discs(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.ingest.annotations.imod.MOST_SHAPES", 1000)
    item = drawn(contour(np.zeros((9, 3))), flags=SCATTERED, radius=500)
    with pytest.raises(BenchError, match="must draw no more than 1000 discs and outlines"):
        read_model(write(tmp_path / "a.mod", item))


def test_model_of_an_absurdly_smaller_pixel(tmp_path):
    path = write(
        tmp_path / "a.mod", drawn(contour(at(0))), minx((0,) * 3, (0,) * 3, 1e30), size=(5, 5, 5)
    )
    with pytest.raises(BenchError, match="must fit its image, received voxels that want it scaled"):
        read_model(path, MrcGeometry((9, 9, 9), (1, 1, 1), (0, 0, 0)))


def test_other_files(tmp_path):
    (tmp_path / "a.mod").write_text("imod 1\nobject 0 1 0\n")
    with pytest.raises(BenchError, match=r"must be a whole binary IMOD model.*an ASCII model"):
        read_model(tmp_path / "a.mod")
    whole = write(tmp_path / "b.mod", drawn(contour(at(0)))).read_bytes()
    (tmp_path / "b.mod").write_bytes(whole[:-4])
    with pytest.raises(BenchError, match="it ends without its end mark"):
        read_model(tmp_path / "b.mod")
    with pytest.raises(BenchError, match="No such file"):
        read_model(tmp_path / "c.mod")


def test_what_imodmodel_writes(tmp_path):
    random_points = np.random.default_rng(0).uniform(0, 9, (5, 3)).astype("f4")
    contours = [
        imodmodel.models.Contour(points=random_points, point_sizes=np.arange(5.0)),
        imodmodel.models.Contour(points=random_points + 9),
    ]
    item = imodmodel.models.Object(contours=contours)
    item.header.flags.scattered, item.header.name, item.header.pdrawsize = True, "vesicles", 3
    imodmodel.ImodModel(objects=[item]).to_file(tmp_path / "a.mod")
    model = read_model(tmp_path / "a.mod")
    assert {item.kind for item in model.objects} == {"vesicles"}
    centres = [next(iter(item.shapes.values()))[0] for item in model.objects]
    expected = np.concatenate([random_points[1:], random_points + 9])[:, :2]
    np.testing.assert_allclose([(disc.x, disc.y) for disc in centres], expected)


def test_real_models(shared):
    model = read_model(shared / "formats" / "point_sizes_example.mod")
    theirs = imodmodel.ImodModel.from_file(shared / "formats" / "point_sizes_example.mod")
    stored = theirs.objects[0].contours[0]
    assert len(model.objects) == len(stored.points) == 4
    for item, point, radius in zip(model.objects, stored.points, stored.point_sizes, strict=True):
        assert item.kind == "SCATTERED_POINT_SIZE"
        (disc,) = item.shapes[round(point[2])]
        assert (disc.x, disc.y) == tuple(point[:2])
        assert disc.radius == pytest.approx(radius, rel=1e-6)
        assert len(item.shapes) == 2 * math.floor(radius) + 1
    assert model.pixel_size_nm == pytest.approx(1.24, rel=1e-3)
    assert model.warnings == (
        "point_sizes_example.mod has 4 open contours (an area must be closed): left out",
    )
    model = read_model(shared / "formats" / "multiple_objects_example.mod")
    assert (model.objects, model.pixel_size_nm) == ((), 1.97333)
    assert model.warnings == (
        "multiple_objects_example.mod has 2 open contours (an area must be closed): left out",
    )


def test_damaged_files_are_read_or_refused_in_time(tmp_path):
    points = np.array([(10, 10, 5), (10, 10, 20)])
    scattered = drawn(contour(points, sizes=[3, -1]), flags=SCATTERED, radius=2)
    surfaces = drawn(contour(at(2), 1), contour(at(2.0, shift=2), 1), contour(at(3), 2))
    reference = minx((0, 0, 0), (0, 0, 0))
    whole = write(tmp_path / "a.mod", scattered, surfaces, reference, flags=HAS_ORIGIN).read_bytes()
    generator, refused, start = random.Random(0), [], time.process_time()
    for _ in range(100):
        cut = generator.choice([len(whole), len(whole), generator.randrange(len(whole))])
        content = bytearray(whole[:cut])
        for _ in range(generator.randrange(1, 6)):
            if content:
                content[generator.randrange(len(content))] = generator.choice([0, 1, 127, 255])
        (tmp_path / "b.mod").write_bytes(content)
        try:
            labels(read_model(tmp_path / "b.mod"), 2)
        except BenchError as error:
            refused.append(str(error))
    assert 20 < len(refused) < 100
    assert not [message for message in refused if "\n" in message]
    assert time.process_time() - start < 6
