import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from sphere_scenes import blur_probability, draw_scene

from bench.errors import BenchError
from bench.postprocess.spheres.settings import SPHERE_STAGES, SphereSettings, edge_of_cubes
from bench.postprocess.spheres.spheres import find_spheres

VOXEL_NM = 2.2
DEFAULT = SphereSettings()


@pytest.fixture(scope="module")
def scene():
    return draw_scene((96, 96, 96), 30, seed=0, tilt_deg=60)


def find(scene, settings=DEFAULT, *, levels=None, raw=None, **options):
    return find_spheres(
        scene.raw if raw is None else raw,
        blur_probability(scene.labels, 1.0) if levels is None else levels,
        voxel_size_nm=VOXEL_NM,
        settings=settings,
        **options,
    )


def dice(first, second):
    both = np.count_nonzero((first > 0) & (second > 0))
    return 2 * both / (np.count_nonzero(first) + np.count_nonzero(second))


def match(scene, result):
    """The true vesicle of each sphere; every centre lies in the other sphere."""
    apart = np.linalg.norm(result.spheres.centres[:, None] - scene.centres, axis=2)
    nearest = apart.argmin(axis=1)
    near = np.minimum(result.spheres.radii, scene.radii[nearest])
    assert (apart.min(axis=1) <= near).all()
    assert len(set(nearest)) == len(nearest)
    return nearest, apart.min(axis=1)


@pytest.mark.parametrize("blur", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("radii", [(8.0, 11.0), (6.5, 9.0)])
def test_all_vesicles_are_found_from_a_blurred_probability(blur, radii):
    scene = draw_scene((96, 96, 96), 30, seed=1, radii=radii, tilt_deg=60)
    shown = {}
    result = find(
        scene,
        levels=blur_probability(scene.labels, blur),
        on_stage=lambda name, labels: shown.setdefault(name, dice(labels, scene.labels)),
    )
    assert list(shown) == ["mask", "separated", "refined", "outliers", "final"]
    nearest, apart = match(scene, result)
    assert len(nearest) == 30
    assert apart.mean() < 0.15
    assert abs((result.spheres.radii - scene.radii[nearest]).mean()) < 0.1
    assert shown["final"] == dice(result.labels, scene.labels) > 0.97
    assert shown["refined"] > shown["separated"]
    assert not [row for row in result.removed if row.reason != "small"]


def test_what_is_painted_is_what_is_said(scene):
    result = find(scene)
    spheres = result.spheres
    count = len(spheres.ids)
    assert spheres.ids.tolist() == list(range(1, count + 1))
    assert result.labels.dtype == np.int32
    assert set(np.unique(result.labels)) == {0, *spheres.ids}
    places = np.indices(scene.raw.shape)
    for place in (0, count - 1):
        centre = spheres.centres[place].reshape(3, 1, 1, 1)
        ball = ((places - centre) ** 2).sum(axis=0) <= spheres.radii[place] ** 2
        np.testing.assert_array_equal(result.labels == place + 1, ball)
    for values in (spheres.radii, spheres.thickness, spheres.density, spheres.p):
        assert values.shape == (count,)
        assert np.isfinite(values).all()
    assert spheres.centres.shape == (count, 3)
    assert len(spheres.status) == count


def test_the_published_protocol_works_worse(scene):
    ours = find(scene)
    published = find(scene, SphereSettings(protocol="paper"))
    _, apart = match(scene, published)
    assert apart.mean() > 0.35 > match(scene, ours)[1].mean()
    assert np.array_equal(published.spheres.centres, np.rint(published.spheres.centres))
    assert 0.9 < dice(published.labels, scene.labels) < dice(ours.labels, scene.labels)


@pytest.mark.parametrize("protocol", ["data", "paper"])
def test_threads_and_repeats_change_nothing(scene, protocol):
    settings = SphereSettings(protocol=protocol)
    first, second = (find(scene, settings, workers=workers) for workers in (1, 3))
    np.testing.assert_array_equal(first.labels, second.labels)
    for name in ("centres", "radii", "thickness", "density", "p"):
        one, other = (getattr(result.spheres, name) for result in (first, second))
        np.testing.assert_array_equal(one, other)
    assert first.spheres.status == second.spheres.status
    assert first.removed == second.removed


def test_turned_around_the_vesicles_are_the_same(scene):
    """Another order of objects, and of all sums."""
    turned = find(
        scene,
        raw=scene.raw[::-1, :, ::-1],
        levels=blur_probability(scene.labels, 1.0)[::-1, :, ::-1],
    )
    straight = find(scene)
    centres = turned.spheres.centres * [-1, 1, -1] + [95, 0, 95]
    order = [
        int(np.linalg.norm(centres - each, axis=1).argmin()) for each in straight.spheres.centres
    ]
    np.testing.assert_allclose(centres[order], straight.spheres.centres, atol=0.01)
    np.testing.assert_allclose(turned.spheres.radii[order], straight.spheres.radii, atol=0.01)


@pytest.mark.parametrize("protocol", ["data", "paper"])
@pytest.mark.parametrize("left_out", [*SPHERE_STAGES, "all"])
def test_every_stage_can_be_left_out(scene, protocol, left_out):
    stages = () if left_out == "all" else tuple(s for s in SPHERE_STAGES if s != left_out)
    result = find(scene, SphereSettings(protocol=protocol, stages=stages))
    assert (result.threshold_level == 128) == (left_out in ("threshold", "all"))
    assert len(result.spheres.ids) > 20
    assert dice(result.labels, scene.labels) > 0.8
    if left_out in ("refine", "outliers", "all"):
        assert "refitted" not in result.spheres.status
        assert "unlike the others" not in [row.reason for row in result.removed]
    if left_out in ("touching", "all"):
        assert not any("shrunk" in status for status in result.spheres.status)


def test_false_objects_are_removed_and_said(scene):
    rng = np.random.default_rng(0)
    levels = blur_probability(scene.labels, 1.0)
    false = np.zeros_like(scene.labels)
    places = np.indices(scene.raw.shape)
    for _ in range(60):
        centre, radius = rng.uniform(8, 88, 3).reshape(3, 1, 1, 1), rng.uniform(5, 7)
        ball = ((places - centre) ** 2).sum(axis=0) <= radius**2
        if not (levels[ball] > 0).any() and not false[ball].any():
            false[ball] = 1
    assert false.any()
    result = find(scene, levels=np.maximum(levels, blur_probability(false, 0.7)))
    assert len(match(scene, result)[0]) == 30
    reasons = Counter(row.reason for row in result.removed)
    assert reasons
    assert set(reasons) <= {"no membrane", "unlike the others", "small"}
    for number, row in enumerate(result.removed, start=31):
        assert row.id == number
        assert len(row.centre) == 3
        assert row.radius > 0
        assert row.reason != "unlike the others" or row.p < 0.001


def test_two_halves_of_a_vesicle_become_one(scene):
    levels = blur_probability(scene.labels, 1.0)
    centre = np.rint(scene.centres[0]).astype(int)
    levels[centre[0]] = 0
    result = find(scene, levels=levels)
    apart = np.linalg.norm(result.spheres.centres - scene.centres[0], axis=1)
    assert (apart < 8).sum() == 1
    assert apart.min() < 0.3
    assert "double" in [row.reason for row in result.removed]


def test_vesicles_at_the_border():
    scene = draw_scene((96, 96, 96), 30, seed=3)
    cut = slice(int(scene.centres[0, 0]) - 2, None)
    whole = np.flatnonzero(scene.centres[:, 0] > cut.start)
    result = find(scene, raw=scene.raw[cut], levels=blur_probability(scene.labels, 1.0)[cut])
    centres = scene.centres[whole] - [cut.start, 0, 0]
    apart = np.linalg.norm(result.spheres.centres[:, None] - centres, axis=2)
    assert (apart.min(axis=0) < 1).all()
    assert dice(result.labels, scene.labels[cut]) > 0.97


def test_sections_have_circles():
    scene = draw_scene((300, 300), 40, seed=2)
    result = find(scene, levels=blur_probability(scene.labels, 1.0))
    nearest, apart = match(scene, result)
    assert len(nearest) >= 39
    assert result.spheres.centres.shape[1] == 2
    assert apart.mean() < 0.15
    assert dice(result.labels, scene.labels) > 0.96
    assert result.labels.shape == scene.raw.shape


def test_nothing_found(scene):
    for levels in (np.zeros(scene.raw.shape, np.uint8), np.full(scene.raw.shape, 255, np.uint8)):
        result = find(scene, levels=levels)
        assert not result.labels.any()
        assert result.spheres.centres.shape == (0, 3)
        assert [row.reason for row in result.removed] == (["large"] if levels.any() else [])


@pytest.mark.parametrize("protocol", ["data", "paper"])
def test_a_constant_image_has_no_membranes(scene, protocol):
    result = find(scene, SphereSettings(protocol=protocol), raw=np.zeros(scene.raw.shape, np.uint8))
    assert not result.labels.any()
    assert "no membrane" in [row.reason for row in result.removed]


def test_an_empty_image_and_one_voxel():
    for shape in ((0, 5, 5), (1, 1, 1), (1, 1), (0, 0)):
        nothing = np.zeros(shape, np.uint8)
        result = find_spheres(nothing, nothing, voxel_size_nm=1, settings=DEFAULT)
        assert result.labels.shape == shape


def test_one_vesicle_cannot_be_compared(scene):
    result = find(scene, levels=blur_probability(scene.labels == 1, 1.0))
    assert len(result.spheres.ids) == 1
    assert np.isnan(result.spheres.p).all()
    assert any("at least 5" in note for note in result.notes)
    np.testing.assert_allclose(result.spheres.centres[0], scene.centres[0], atol=0.3)


def test_inverted_contrast_is_said(scene):
    assert not find(scene).notes
    assert any("inverted" in note for note in find(scene, raw=-scene.raw).notes)


def test_objects_too_small_at_a_high_threshold_are_told_by_refinement():
    scene = draw_scene((96, 96, 96), 30, seed=4, radii=(6.5, 8.0), tilt_deg=60)
    levels = blur_probability(scene.labels, 1.8)
    fixed = {"threshold": 0.9, "stages": ("separate", "refine", "outliers", "touching")}
    ours = find(scene, SphereSettings(**fixed), levels=levels)
    published = find(scene, SphereSettings(protocol="paper", **fixed), levels=levels)
    assert len(match(scene, ours)[0]) > 28 > len(published.spheres.ids)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"raw": np.zeros((5, 5, 6), np.uint8)}, "same shape"),
        ({"raw": np.zeros((5, 5, 5), complex)}, "real numbers"),
        ({"probability": np.zeros((5, 5, 5), np.float32)}, "uint8"),
        ({"voxel_size_nm": (40, 4, 4)}, "40 x 4 x 4 nm"),
        ({"voxel_size_nm": 0}, "voxel size in nm"),
        ({"voxel_size_nm": ()}, "voxel size in nm"),
    ],
)
def test_bad_input_is_said_in_a_line(change, said):
    nothing = np.zeros((5, 5, 5), np.uint8)
    given = {"raw": nothing, "probability": nothing, "voxel_size_nm": 2.2} | change
    with pytest.raises(BenchError, match=said):
        find_spheres(given.pop("raw"), given.pop("probability"), settings=DEFAULT, **given)


def test_settings_go_through_json_and_are_checked():
    settings = SphereSettings(protocol="paper", stages=("refine",), min_radius_nm=10)
    assert SphereSettings(**json.loads(json.dumps(asdict(settings)))) == settings
    assert "grow" not in DEFAULT.stages
    assert (DEFAULT.least_p, settings.least_p) == (0.001, 0.3)
    assert edge_of_cubes((2.2, 2.21, 2.2)) == pytest.approx(2.2, abs=0.01)
    for wrong in (
        {"protocol": "papers"},
        {"stages": ("refined",)},
        {"min_radius_nm": 0},
        {"threshold": 1.0},
        {"lowest_growth": -0.1},
    ):
        with pytest.raises(BenchError):
            SphereSettings(**wrong)
