import numpy as np
import pytest
from sphere_scenes import blur_probability, draw_scene

from bench.postprocess.spheres.settings import SPHERE_STAGES, SphereSettings
from bench.postprocess.spheres.spheres import find_spheres

WITHOUT = SphereSettings(stages=tuple(s for s in SPHERE_STAGES if s not in ("grow", "again")))
# Of these vesicles the network is not sure enough for a threshold that suits the others.
UNSURE = (2, 9, 17)


@pytest.fixture(scope="module")
def scene():
    return draw_scene((96, 96, 96), 30, seed=5, tilt_deg=60)


@pytest.fixture(scope="module")
def levels(scene):
    levels = blur_probability(scene.labels, 1.0).astype(float)
    near = blur_probability(np.isin(scene.labels, UNSURE).astype(np.int32), 1.0) > 0
    return np.where(near, 0.6 * levels, levels).astype(np.uint8)


def find(raw, levels, settings):
    return find_spheres(raw, levels, voxel_size_nm=2.2, settings=settings)


def found_of(result, scene):
    apart = np.linalg.norm(result.spheres.centres[:, None] - scene.centres, axis=2)
    hit = apart < np.minimum(result.spheres.radii[:, None], scene.radii)
    assert (hit.sum(axis=1) == 1).all(), "every sphere is on one vesicle"
    return np.flatnonzero(hit.any(axis=0)) + 1


def test_vesicles_that_one_threshold_leaves_out_are_found_and_said(scene, levels):
    once = find(scene.raw, levels, WITHOUT)
    assert not set(UNSURE) & set(found_of(once, scene))
    twice = find(scene.raw, levels, SphereSettings())
    assert list(found_of(twice, scene)) == list(range(1, 31))
    late = [i for i, status in enumerate(twice.spheres.status) if "missed by the mask" in status]
    assert len(late) == len(UNSURE)
    apart = np.linalg.norm(twice.spheres.centres[late][:, None] - scene.centres, axis=2)
    truth = apart.argmin(axis=1)
    assert sorted(truth + 1) == list(UNSURE)
    assert apart.min(axis=1).max() < 0.5
    np.testing.assert_allclose(twice.spheres.radii[late], scene.radii[truth], atol=0.5)
    assert (twice.spheres.p[late] >= SphereSettings().least_p).all()


def test_peaks_where_the_image_has_no_vesicle_are_not_taken(scene, levels):
    # Noise where the three are.
    rng, raw = np.random.default_rng(0), scene.raw.copy()
    for number in UNSURE:
        at = np.argwhere(scene.labels == number)
        box = tuple(slice(max(a - 4, 0), b + 5) for a, b in zip(at.min(0), at.max(0), strict=True))
        own = np.isin(scene.labels[box], (0, number))
        raw[box][own] = rng.normal(0.2, 0.3, own.sum())
    result = find(raw, levels, SphereSettings())
    assert not set(UNSURE) & set(found_of(result, scene))


def test_the_published_protocol_looks_once(scene, levels):
    result = find(scene.raw, levels, SphereSettings(protocol="paper"))
    assert not any("missed" in status for status in result.spheres.status)


def test_too_few_vesicles_say_nothing_of_others():
    scene = draw_scene((64, 64, 64), 4, seed=0)
    levels = (0.6 * blur_probability(scene.labels, 1.0)).astype(np.uint8)
    levels[scene.labels == 1] = 255
    result = find(scene.raw, levels, SphereSettings(threshold=0.9, stages=("refine", "again")))
    assert len(result.spheres.ids) == 1


def test_circles_are_looked_for_again_as_well():
    scene = draw_scene((256, 256), 25, seed=1)
    levels = blur_probability(scene.labels, 1.0).astype(float)
    levels = np.where(scene.labels == 3, 0.6 * levels, levels).astype(np.uint8)
    result = find(scene.raw, levels, SphereSettings())
    assert 3 in found_of(result, scene)
