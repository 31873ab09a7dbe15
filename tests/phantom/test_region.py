import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, label

from bench.errors import BenchError
from bench.phantom.region import make_region

SHAPE = (3, 256, 256)


def make(seed=0, domain="resin", shape=SHAPE, **settings):
    return make_region(
        shape=shape, pixel_size_nm=settings.pop("pixel_size_nm", 5.0), domain=domain, seed=seed,
        **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def regions():
    return [make(seed) for seed in range(4)]


def touching_pairs(ids):
    pairs = set()
    for a, b in ((ids[:, 1:], ids[:, :-1]), (ids[:, :, 1:], ids[:, :, :-1])):
        where = (a != b) & (a > 0) & (b > 0)
        pairs |= set(map(tuple, np.sort(np.stack([a[where], b[where]], axis=1)).tolist()))
    return pairs


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(regions):
    again = make(1)
    assert again.raw.tobytes() == regions[1].raw.tobytes()
    for name, ids in regions[1].labels.items():
        assert again.labels[name].tobytes() == ids.tobytes()
    assert not np.array_equal(regions[0].raw, regions[1].raw)


def test_images_and_labels_have_the_promised_types(regions):
    for region in regions:
        assert region.raw.shape == SHAPE
        assert region.raw.dtype == np.uint8
        assert set(region.labels) == {"vesicles", "mitochondria", "membrane"}
        for ids in region.labels.values():
            assert ids.shape == SHAPE
            assert ids.dtype == np.uint32
            assert np.array_equal(np.unique(ids), np.arange(ids.max() + 1))


def test_every_structure_is_in_every_section(regions):
    for region in regions:
        for ids in region.labels.values():
            assert (ids > 0).any(axis=(1, 2)).all()


def test_structures_do_not_overlap(regions):
    for region in regions:
        assert sum((ids > 0).astype(int) for ids in region.labels.values()).max() == 1


def test_vesicles_are_disks_of_varying_size_under_40_nm(regions):
    diameters = []
    for region in regions:
        for ids in region.labels["vesicles"]:
            inner = ids.copy()
            inner[2:-2, 2:-2] = 0
            areas = np.bincount(ids.ravel())[1:]
            areas[np.unique(inner)[1:] - 1] = 0  # cut by the image's edge
            diameters.append(2 * np.sqrt(areas[areas > 0] * 25 / np.pi))
            for vesicle in np.unique(ids)[1:]:
                assert label(ids == vesicle, np.ones((3, 3)))[1] == 1
    diameters = np.concatenate(diameters)
    assert 0 < diameters.min() < 25
    assert 33 < diameters.max() < 44  # pixels of 5 nm round a profile of 40 nm up
    assert diameters.std() > 4


def test_some_mitochondria_touch_and_keep_their_ids(regions):
    pairs = [touching_pairs(region.labels["mitochondria"]) for region in regions]
    assert sum(len(found) for found in pairs) >= 2


def test_vesicles_are_apart_from_mitochondria_and_membranes(regions):
    for region in regions:
        around = binary_dilation(region.labels["vesicles"] > 0, np.ones((1, 3, 3)))
        for name in ("mitochondria", "membrane"):
            assert not (around & (region.labels[name] > 0)).any()


def test_objects_continue_and_change_shape(regions):
    for region in regions:
        first, second = region.labels["mitochondria"][:2]
        shared = np.intersect1d(first, second)[1:]
        assert len(shared)
        for instance in shared:
            assert not np.array_equal(first == instance, second == instance)
        overlap = (first == second)[(first > 0) & (second > 0)].mean()
        assert overlap > 0.8


def test_structures_are_dark_in_resin(regions):
    for region in regions:
        background = np.all([ids == 0 for ids in region.labels.values()], axis=0)
        light = region.raw[background].mean()
        assert region.raw[region.labels["membrane"] > 0].mean() < light - 40
        assert region.raw[region.labels["mitochondria"] > 0].mean() < light - 25


def test_domains_share_the_truth_and_differ_in_contrast(regions):
    cryo = make(2, "cryo")
    resin = regions[2]
    for name, ids in resin.labels.items():
        assert np.array_equal(ids, cryo.labels[name])
    assert np.array_equal(cryo.drift_nm, resin.drift_nm)

    def membrane_contrast(region):
        membrane = region.labels["membrane"] > 0
        return region.raw[~membrane].mean() - region.raw[membrane].mean()

    assert 5 < membrane_contrast(cryo) < membrane_contrast(resin) / 2
    assert cryo.raw.std() < resin.raw.std()


def test_sections_drift_by_what_the_region_says():
    # Sections 0.01 nm apart are the same tissue: what moves is drift.
    region = make(0, section_nm=0.01, pixel_size_nm=2.0)
    smooth = [gaussian_filter(raw - raw.mean(), 2) for raw in region.raw]
    reach = 15
    inner = slice(reach, -reach)
    for z in (0, 2):
        errors = {
            (y, x): np.square(np.roll(smooth[1], (y, x), (0, 1)) - smooth[z])[inner, inner].mean()
            for y in range(-reach, reach + 1)
            for x in range(-reach, reach + 1)
        }
        expected = region.drift_nm[z] / 2.0
        assert np.abs(expected).max() > 1
        assert min(errors, key=errors.get) == pytest.approx(expected, abs=1)


def test_thin_sections_cut_a_vesicle_several_times():
    region = make(1, section_nm=5.0)
    vesicles = region.labels["vesicles"]
    seen = [set(np.unique(ids)[1:].tolist()) for ids in vesicles]
    drift = region.drift_nm[2] - region.drift_nm[1]
    assert np.abs(drift).max() > 10
    both = seen[1] & seen[2]
    assert len(both) > len(seen[1]) / 2
    inner = vesicles[1:].copy()
    inner[:, 5:-5, 5:-5] = 0
    for instance in both - set(np.unique(inner).tolist()):
        centres = [np.argwhere(ids == instance).mean(axis=0) * 5 for ids in vesicles[1:]]
        assert centres[1] - centres[0] == pytest.approx(drift, abs=4)


def test_crop_cuts_and_renumbers(regions):
    part = regions[0].crop(slice(60, 190), slice(100, 250))
    assert np.array_equal(part.raw, regions[0].raw[:, 60:190, 100:250])
    for name, ids in part.labels.items():
        assert np.array_equal(np.unique(ids), np.arange(ids.max() + 1))
        assert np.array_equal(ids > 0, regions[0].labels[name][:, 60:190, 100:250] > 0)


@pytest.mark.parametrize(("shape", "pixel_size_nm"), [((1, 33, 130), 1.35), ((2, 90, 64), 20.0)])
def test_odd_shapes_and_pixel_sizes_work(shape, pixel_size_nm):
    region = make(3, shape=shape, pixel_size_nm=pixel_size_nm)
    assert region.raw.shape == shape
    assert region.labels["membrane"].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domain": "wet"}, "unknown domain 'wet': choose one of cryo, resin"),
        ({"shape": (3, 8, 256)}, "a region needs 1 x 32 x 32 px or more"),
        ({"section_nm": 0.0}, "must be over 0 nm"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BenchError, match=message):
        make(**settings)
