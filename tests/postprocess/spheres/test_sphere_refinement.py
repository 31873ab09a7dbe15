import numpy as np
import pytest
from scipy.special import erfc
from sphere_refinement import COMPARED, MARGIN, THICKNESS, refine_by_scipy
from sphere_scenes import draw_scene, move_starts

from bench.postprocess.spheres.fit.fitting import FIT_FIELDS
from bench.postprocess.spheres.fit.membrane import STEP, find_darkest, fit_membrane
from bench.postprocess.spheres.fit.refinement import FitJob, measure_spheres, refine_spheres

COLUMN = {name: place for place, name in enumerate(FIT_FIELDS)}


def refine(raw, centres, radii, *, workers=2, as_published=False, margin=MARGIN):
    image = raw.reshape((1, *raw.shape)[-3:])
    starts = np.pad(centres, ((0, 0), (3 - raw.ndim, 0)))
    job = FitJob(image, THICKNESS, as_published, float(raw.mean()), workers)
    found = refine_spheres(job, starts, radii, np.full(radii.size, margin))
    assert (found[:, COLUMN["ok"]] == 1).all()
    return found[:, 3 - raw.ndim : 3], found[:, COLUMN["radius"]], found


def errors(scene, *, seed=0, **settings):
    centres, radii = move_starts(scene, shift=3, resize=2, seed=seed)
    found, sizes, _ = refine(scene.raw, centres, radii, **settings)
    return np.linalg.norm(found - scene.centres, axis=1), sizes - scene.radii


# The criterion of issue 18: centres within 0.25 voxel, radii without a bias above 0.1.
@pytest.mark.parametrize(
    ("settings", "centre", "spread"),
    [
        ({}, 0.05, 0.03),
        ({"tilt_deg": 60}, 0.15, 0.04),
        ({"tilt_deg": 50}, 0.15, 0.04),
        ({"noise": 1.0}, 0.12, 0.06),
        ({"blur": 0.7}, 0.08, 0.04),
        ({"halo": 0.0, "tilt_deg": 60}, 0.15, 0.06),
        ({"membrane": 3.0, "tilt_deg": 60}, 0.15, 0.05),
        ({"radii": (6.5, 9.0), "tilt_deg": 60}, 0.15, 0.06),
    ],
    ids=str,
)
def test_starts_three_voxels_off_with_wrong_radii_come_to_the_truth(settings, centre, spread):
    off, wrong = zip(
        *(
            errors(draw_scene((96, 96, 96), 30, seed=seed, **settings), seed=seed)
            for seed in (1, 2)
        ),
        strict=True,
    )
    off, wrong = np.concatenate(off), np.concatenate(wrong)
    assert off.mean() < centre
    assert off.max() < 0.5
    assert abs(wrong.mean()) < 0.07
    assert wrong.std() < spread


def test_circles_are_found_likewise():
    off, wrong = zip(
        *(errors(draw_scene((300, 300), 40, seed=seed), seed=seed) for seed in range(4)),
        strict=True,
    )
    assert np.concatenate(off).mean() < 0.15
    assert abs(np.concatenate(wrong).mean()) < 0.1


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((60, 60, 60), {}), ((60, 60, 60), {"tilt_deg": 60, "noise": 0.6}), ((160, 160), {})],
)
def test_it_is_what_numpy_and_scipy_find_vesicle_by_vesicle(shape, settings):
    scene = draw_scene(shape, 6, seed=3, **settings)
    starts = move_starts(scene, shift=2.5, resize=1.5, seed=4)
    _, _, found = refine(scene.raw, *starts)
    columns = [*COMPARED[3 - len(shape) :], COLUMN["thickness"]]
    for row, centre, radius in zip(found[:, columns], *starts, strict=True):
        np.testing.assert_allclose(row, refine_by_scipy(scene.raw, centre, radius), atol=0.01)


@pytest.mark.parametrize("middle", [20, 20.5, 19.999999999999996])
def test_centres_on_whole_voxels_stay_within_what_is_looked_at(middle):
    """Rows of which only the middle may be near enough, and rounding at the ends of others."""
    places = np.indices((41, 41, 41)) - middle
    rho = np.sqrt((places**2).sum(axis=0))
    raw = np.where(rho <= 8, np.where(rho <= 6, 0.0, -1.0), 0.3)
    found, size, _ = refine(raw, np.full((1, 3), middle), np.array([8.0]))
    np.testing.assert_allclose(found[0], middle, atol=0.02)
    assert size[0] == pytest.approx(8, abs=0.15)
    expected = refine_by_scipy(raw, np.full(3, middle), 8.0)
    np.testing.assert_allclose([*found[0], size[0]], expected[:4], atol=0.01)


def test_neither_order_nor_threads_change_a_bit():
    scene = draw_scene((60, 60, 60), 8, seed=5)
    centres, radii = move_starts(scene, shift=2, resize=1, seed=6)
    order = np.random.default_rng(0).permutation(radii.size)
    _, _, first = refine(scene.raw, centres, radii, workers=1)
    _, _, second = refine(scene.raw, centres[order], radii[order], workers=3)
    np.testing.assert_array_equal(second, first[order])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float16, np.float64])
def test_number_types_only_round(dtype):
    scene = draw_scene((50, 50, 50), 3, seed=7)
    starts = move_starts(scene, shift=1, resize=1, seed=8)
    scaled = (12 * scene.raw + 140).astype(dtype)
    assert 0 < scaled.min() < scaled.max() < 256
    centres, radii, found = refine(scaled, *starts)
    expected, sizes, values = refine(scene.raw, *starts)
    np.testing.assert_allclose(centres, expected, atol=0.02)
    np.testing.assert_allclose(radii, sizes, atol=0.02)
    density = 12 * values[:, COLUMN["density"]] + 140
    np.testing.assert_allclose(found[:, COLUMN["density"]], density, atol=1)


def test_grey_values_of_hardly_any_range_change_nothing():
    scene = draw_scene((50, 50, 50), 3, seed=7)
    starts = move_starts(scene, shift=1, resize=1, seed=8)
    centres, radii, _ = refine(1e-9 * scene.raw.astype(np.float64) - 1e-6, *starts)
    expected, sizes, _ = refine(scene.raw, *starts)
    np.testing.assert_allclose(centres, expected, atol=1e-3)
    np.testing.assert_allclose(radii, sizes, atol=1e-3)


def test_a_vesicle_that_the_border_cuts():
    scene = draw_scene((60, 60, 60), 8, seed=9)
    for centre, radius in zip(scene.centres[:4], scene.radii[:4], strict=True):
        cut = int(centre[1])
        start, wrong = centre[None] - [[0.0, cut - 1.0, 1.0]], np.array([radius - 1])
        found, size, _ = refine(scene.raw[:, cut:], start, wrong)
        np.testing.assert_allclose(found[0], centre - [0, cut, 0], atol=0.35)
        assert size[0] == pytest.approx(radius, abs=0.25)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_where_nothing_is_seen_nothing_is_found(value):
    job = FitJob(np.full((40, 40, 40), value, np.float32), THICKNESS, False, 0.0, 1)
    start, radius = np.full((1, 3), 20.0), np.array([8.0])
    assert refine_spheres(job, start, radius, np.array([MARGIN]))[0, -1] == 0
    beyond = refine_spheres(job, start + 500, radius, np.array([MARGIN]))
    assert beyond.tolist() == [[0.0] * len(FIT_FIELDS)]
    measured = dict(zip(FIT_FIELDS, measure_spheres(job, start, radius)[0], strict=True))
    assert (measured["z"], measured["radius"], measured["ok"]) == (20, 8, 0)
    assert np.isnan([measured["thickness"], measured["density"]]).all()


def test_spheres_are_measured_where_they_are():
    scene = draw_scene((60, 60, 60), 5, seed=10)
    job = FitJob(scene.raw, THICKNESS, False, 0.0, 1)
    found = measure_spheres(job, scene.centres, scene.radii)
    np.testing.assert_array_equal(found[:, :3], scene.centres)
    np.testing.assert_array_equal(found[:, COLUMN["radius"]], scene.radii)
    _, _, refined = refine(scene.raw, scene.centres, scene.radii)
    for name, within in (("thickness", 0.2), ("density", 0.2)):
        column = COLUMN[name]
        np.testing.assert_allclose(found[:, column], refined[:, column], atol=within)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize(
    ("radius", "thickness", "blur"), [(9.3, 2.4, 1.2), (7, 3, 0.9), (15, 2, 1)]
)
def test_a_profile_of_the_model_gives_its_radius(power, radius, thickness, blur):
    rho = np.maximum(STEP * np.arange(60), STEP)

    def within(edge):
        z = (edge - rho) / blur
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        return erfc(-z / np.sqrt(2)) / 2 - power * blur / rho * density

    inner, outer, halo = within(radius - thickness), within(radius), within(radius + 2.5)
    profile = 5 + 3 * (0.2 + 1.0 * inner - 1.5 * outer + 0.3 * halo)
    darkest = find_darkest(profile, 3, 25, power)
    assert darkest == pytest.approx(radius - thickness / 2, abs=0.5)
    edge, thick = fit_membrane(profile, darkest, thickness, 0.0, power)
    assert edge == pytest.approx(radius, abs=0.04)
    assert thick == pytest.approx(thickness, abs=0.1)


def test_a_bright_membrane_is_none():
    scene = draw_scene((60, 60, 60), 5, seed=10)
    _, _, found = refine(-scene.raw, scene.centres, scene.radii)
    _, _, right = refine(scene.raw, scene.centres, scene.radii)
    brightness = COLUMN["brightness"]
    assert np.median(right[:, brightness]) < 0.5 < np.median(found[:, brightness])


def test_what_was_published_has_whole_voxels_and_is_as_far_off_as_known():
    """SYSTEMS: mean error of centres 0.5, at most about 0.9."""
    off, wrong, found = [], [], []
    for seed in range(2):
        scene = draw_scene((96, 96, 96), 30, seed=seed)
        centres, radii = move_starts(scene, shift=1.5, resize=1, seed=seed)
        places, sizes, _ = refine(scene.raw, centres, radii, as_published=True)
        off.append(np.linalg.norm(places - scene.centres, axis=1))
        wrong.append(sizes - scene.radii)
        found.append(np.column_stack([places, sizes]))
    assert np.array_equal(np.concatenate(found), np.rint(np.concatenate(found)))
    assert 0.4 < np.concatenate(off).mean() < 0.6
    assert -0.3 < np.concatenate(wrong).mean() < 0.5
