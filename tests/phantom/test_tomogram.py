from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label

from bench.errors import BenchError
from bench.phantom.tomogram.microscope import find_seen, image_density, transfer_of
from bench.phantom.tomogram.scene import MEMBRANE_NM, TomogramSettings, draw_scene
from bench.phantom.tomogram.tomogram import make_tomogram

SETTINGS = TomogramSettings((48, 128, 128), 2.2, (30.0, 40.0), None, 60.0, 0.7)


@pytest.fixture(scope="module")
def tomogram():
    return make_tomogram(SETTINGS, 2)


def distances(tomogram, row):
    """From every voxel to the centre of a vesicle, in voxels."""
    return np.linalg.norm(np.indices(SETTINGS.shape).T - tomogram.centres[row], axis=-1).T


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tomogram):
    again, other = make_tomogram(SETTINGS, 2), make_tomogram(SETTINGS, 3)
    assert again.raw.tobytes() == tomogram.raw.tobytes()
    for name, ids in tomogram.labels.items():
        assert again.labels[name].tobytes() == ids.tobytes()
    assert not np.array_equal(other.labels["vesicles"], tomogram.labels["vesicles"])


def test_noise_and_tilt_leave_the_truth_as_it_is(tomogram):
    other = make_tomogram(replace(SETTINGS, noise=0.0, tilt_deg=90.0), 2)
    assert np.array_equal(other.labels["vesicles"], tomogram.labels["vesicles"])
    assert np.corrcoef(other.raw.ravel(), tomogram.raw.ravel())[0, 1] > 0.4


def test_arrays_have_the_promised_types(tomogram):
    assert tomogram.raw.dtype == np.float32
    assert np.isfinite(tomogram.raw).all()
    assert 0.8 < tomogram.raw.std() < 2
    assert set(tomogram.labels) == {"vesicles", "mitochondria", "active_zone"}
    for ids in (tomogram.raw, *tomogram.labels.values()):
        assert ids.shape == SETTINGS.shape


def test_labels_are_the_balls_of_the_truth(tomogram):
    ids = tomogram.labels["vesicles"]
    assert np.array_equal(np.unique(ids), np.arange(len(tomogram.radii) + 1))
    expected = np.zeros_like(ids)
    for row in range(len(tomogram.radii)):
        inside = distances(tomogram, row) <= tomogram.radii[row]
        assert not expected[inside].any()
        expected[inside] = row + 1
    assert np.array_equal(ids, expected)


def test_whole_vesicles_have_the_volume_and_the_centre_of_their_ball(tomogram):
    ids = tomogram.labels["vesicles"]
    whole = np.flatnonzero(~tomogram.cut)
    assert len(whole) > 10
    for row in whole:
        places = np.argwhere(ids == row + 1)
        volume = 4 / 3 * np.pi * tomogram.radii[row] ** 3
        assert len(places) == pytest.approx(volume, rel=0.04)
        assert places.mean(axis=0) == pytest.approx(tomogram.centres[row], abs=0.1)
    for row in np.flatnonzero(tomogram.cut):
        volume = 4 / 3 * np.pi * tomogram.radii[row] ** 3
        assert np.count_nonzero(ids == row + 1) < volume * 1.01


def test_every_centre_lies_in_the_tomogram_and_diameters_in_their_range(tomogram):
    centres, diameters = tomogram.centres, 2 * tomogram.scene.balls.radii_nm
    assert ((centres >= 0) & (centres <= np.array(SETTINGS.shape) - 1)).all()
    assert 30 <= diameters.min() < 32
    assert 38 < diameters.max() <= 40


def test_some_touch_some_are_cut_and_some_dock(tomogram):
    balls = tomogram.scene.balls
    assert 0.15 < balls.touching.mean() < 0.6
    assert 0.1 < tomogram.cut.mean() < 0.8
    assert 2 <= balls.docked.sum() < len(balls.radii_nm) / 2


def test_flags_say_what_is_so(tomogram):
    balls, scene = tomogram.scene.balls, tomogram.scene
    steps = balls.centres_nm[:, None] - balls.centres_nm
    gaps = np.linalg.norm(steps, axis=2) - balls.radii_nm[:, None] - balls.radii_nm
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.min(axis=1) / SETTINGS.voxel_nm
    assert nearest.min() >= -1e-6
    assert (nearest[balls.touching] <= 0.4 + 1e-6).all()
    assert (nearest[~balls.touching] >= 1.5).all()
    to_membrane = scene.zone.height(*balls.centres_nm.T) - balls.radii_nm - MEMBRANE_NM / 2
    assert (to_membrane[balls.docked] < 6.5).all()
    assert (to_membrane[~balls.docked] > 7.5).all()


def test_structures_are_one_piece_each_and_apart(tomogram):
    labels = tomogram.labels
    assert sum((ids > 0).astype(int) for ids in labels.values()).max() == 1
    for name in ("mitochondria", "active_zone"):
        _, pieces = label(labels[name])
        assert pieces == 1
        assert set(np.unique(labels[name])) == {0, 1}


def test_membranes_are_dark_with_a_bright_halo_and_a_grey_lumen(tomogram):
    balls = tomogram.scene.balls
    inner, membrane, halo = [], [], []
    for row in np.flatnonzero(~tomogram.cut & ~balls.touching & ~balls.docked):
        # Along the tilt axis and across the beam every direction was measured.
        z = round(tomogram.centres[row, 0])
        off = distances(tomogram, row)[z] * SETTINGS.voxel_nm - balls.radii_nm[row]
        plane = tomogram.raw[z]
        membrane.append(plane[np.abs(off + MEMBRANE_NM / 2) < 1.5].mean())
        halo.append(plane[(off > 2) & (off < 6)].mean())
        inner.append(plane[off < -9].mean())
    assert np.mean(membrane) < -1
    assert np.mean(inner) > np.mean(membrane) + 0.7
    assert np.mean(halo) > 0.15


def test_a_mitochondrion_has_cristae(tomogram):
    inside = tomogram.labels["mitochondria"] > 0
    depth = tomogram.scene.mitochondrion
    axes = np.indices(SETTINGS.shape) * SETTINGS.voxel_nm
    deep = inside & (depth.depth(*axes) > 20)
    assert deep.any()
    # Dark lines on grey: a longer tail than that of the cytoplasm's grain.
    assert np.percentile(tomogram.raw[deep], 3) < np.percentile(tomogram.raw[~inside], 3) - 0.5


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_nothing_is_measured_in_the_missing_wedge(noise):
    shape = (24, 30, 27)
    rng = np.random.default_rng(0)
    density = rng.random(shape).astype(np.float32)
    image = image_density(density, rng, voxel_nm=2.2, tilt_deg=60.0, noise=noise)
    power = np.abs(np.fft.fftn(image.astype(float))) ** 2
    kz, ky, kx = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    angle = np.degrees(np.arctan2(np.abs(kz), np.abs(kx)))
    missed = angle > 60.001
    # Of a square of frequencies the wedge takes tan(30 deg) / 2, a little less where x is odd.
    assert missed.mean() == pytest.approx(0.289, abs=0.03)
    assert power[missed].max() < 1e-9 * power.max()
    seen = (angle < 59.999) & (kz**2 + ky**2 + kx**2 > 0)
    assert np.median(power[seen]) > 1e-3 * power.max()


def test_a_full_turn_misses_nothing():
    assert find_seen((8, 8, 8), 90.0).all()
    assert find_seen((8, 6, 10), 60.0).shape == (8, 6, 6)


def test_long_waves_pass_as_amplitude_contrast_only():
    # 300 kV: 1.97 pm; 6 um: the phase is a quarter turn at 1 / sqrt(2 lambda dz).
    peak = 1 / np.sqrt(2 * 0.00197 * 6000)
    found = transfer_of(np.array([0.0, 0.02, peak * 0.96]))
    assert found == pytest.approx([0.1, 0.115, 1.0], abs=0.005)


def test_a_number_of_vesicles_is_kept_or_refused():
    scene = draw_scene(replace(SETTINGS, vesicles=12), np.random.default_rng(1))
    assert len(scene.balls.radii_nm) == 12
    with pytest.raises(BenchError, match=r"must fit into it, received 500 of which \d+ found room"):
        draw_scene(replace(SETTINGS, vesicles=500), np.random.default_rng(1))


def test_a_tomogram_beyond_the_memory_is_refused():
    with pytest.raises(BenchError, match=r"a tomogram of 1024 x 8192 x 8192 needs about \d+"):
        make_tomogram(replace(SETTINGS, shape=(1024, 8192, 8192)), 0)
