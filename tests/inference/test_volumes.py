"""Volumes in parts against the whole at once, by scipy, scikit-image and the network itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from bench.errors import BenchError
from bench.inference import volume_windows, volumes
from bench.inference.device import Compute, choose_compute
from bench.inference.prediction import open_predictor
from bench.inference.volume_feed import VolumeFeed, blur_planes, measure_planes, resize_planes
from bench.inference.volumes import predict_volume, volume_at_model_scale
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint

CPU = Compute(torch.device("cpu"), "fp32")
ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 2, "features": 4}
INFO = ModelInfo(
    *("unet3d", ARGUMENTS, ("foreground",), "vesicles", 2.2, "volume", 16, 4),
    **{"tile_planes": 16, "halo_planes": 4, "input_section_nm": 2.2},
)
FACTORS = [[1, 2, 2], [2, 2, 2]]
ANISOTROPIC = replace(
    INFO,
    architecture="unet3d_anisotropic",
    arguments={"in_channels": 1, "out_channels": 1, "features": 4, "scale_factors": FACTORS},
    halo_planes=2,
    tile_planes=4,
)
VOXELS = (2.2, 2.2, 2.2)


def make_network(info, seed=0):
    torch.manual_seed(seed)
    network = build_model(info.architecture, info.arguments)
    with torch.no_grad():
        for _ in range(3):
            network.train()(2 * torch.randn(2, 1, 16, 16, 16) + 1)
        # The output of random weights is flat.
        network.eval().out_conv.weight.mul_(20) if info is ANISOTROPIC else network.out.weight.mul_(
            20
        )
    return network


@pytest.fixture(scope="module")
def raw():
    """A volume of no whole windows, far from 0, of which neighbours are alike."""
    noise = np.random.default_rng(0).normal(size=(22, 37, 44))
    return (1000 + 90 * gaussian_filter(noise, 1.5)).astype(np.float32)


def predict(network, info, raw, voxels=VOXELS, compute=CPU):
    """The levels, and what was read and written in which order."""
    found, reads, writes, steps = np.zeros(raw.shape, np.uint8), [], [], []

    def read(start, stop):
        reads.append((start, stop))
        return raw[start:stop]

    def write(start, levels):
        assert levels.dtype == np.uint8
        writes.append((start, start + len(levels)))
        found[start : start + len(levels)] = levels

    predict_volume(
        *(network, info, compute),
        **{"read_planes": read, "shape": raw.shape, "voxel_size_nm": voxels},
        **{"write_planes": write, "progress": lambda done, total: steps.append((done, total))},
    )
    assert [start for start, _ in writes] == [0, *(stop for _, stop in writes[:-1])]
    assert writes[-1][1] == len(raw)
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    return found, reads, writes


def expect(network, raw, smoothing_px=0):
    """Probabilities of a whole volume in one pass, mirrored to what the network takes."""
    smooth = raw.astype(np.float64)
    if smoothing_px:
        smooth = gaussian_filter(smooth, smoothing_px, mode="mirror")
    fed = (smooth - smooth.mean()) / smooth.std()
    fed = np.pad(fed, [(0, -side % 4) for side in raw.shape], mode="reflect")
    with torch.no_grad():
        logits = network(torch.from_numpy(fed.astype(np.float32))[None, None])
    return torch.sigmoid(logits)[0, 0].numpy()[tuple(map(slice, raw.shape))]


def assert_levels(levels, probability):
    assert probability.std() > 0.02
    assert np.abs(levels / 255 - probability).max() < 0.5 / 255 + 1e-4


@pytest.mark.parametrize("slab", [1, 5000, 2**20])
@pytest.mark.parametrize("smoothing_px", [0, 1.0])
def test_planes_in_parts_are_the_whole_volume(raw, monkeypatch, slab, smoothing_px):
    monkeypatch.setitem(volumes._SLAB_VOXELS, "cpu", slab)
    monkeypatch.setattr("bench.inference.volume_feed._READ_VOXELS", slab)
    monkeypatch.setattr(volumes, "_WRITTEN_VOXELS", slab)
    network = make_network(INFO)
    info = replace(INFO, inference={"smoothing_px": smoothing_px} if smoothing_px else {})
    levels, reads, writes = predict(network, info, raw)
    assert_levels(levels, expect(network, raw, smoothing_px))
    if slab == 1:
        assert (len(reads), len(writes)) == (2 * len(raw), len(raw))


def test_blocks_of_a_large_plane_are_the_whole_volume(raw, monkeypatch):
    """Each sees as far as it depends on, so there are no seams."""
    network = make_network(INFO)
    wide = np.tile(raw, (1, 2, 3))
    whole, _, _ = predict(network, INFO, wide)
    monkeypatch.setitem(volumes._WAITING_BYTES, "cpu", 32 * 4 * 4 * 20**2)
    parts, reads, _ = predict(network, INFO, wide)
    assert len(reads) > 2
    assert np.abs(parts.astype(int) - whole).max() <= 1
    assert (parts != whole).mean() < 1e-3
    assert_levels(parts, expect(network, wide))


def test_no_more_than_a_slab_is_held(monkeypatch):
    """Planes are made where they are read, and are gone when they are written."""
    shape = (64, 16, 16)
    monkeypatch.setitem(volumes._SLAB_VOXELS, "cpu", 4 * 16 * 16)
    monkeypatch.setattr("bench.inference.volume_feed._READ_VOXELS", 4 * 16 * 16)
    monkeypatch.setattr(volumes, "_WRITTEN_VOXELS", 16 * 16)
    read, written, apart = 0, 0, []

    def read_planes(start, stop):
        nonlocal read
        read = stop
        apart.append(read - written)
        return np.random.default_rng(start).normal(size=(stop - start, 16, 16))

    def write_planes(start, levels):
        nonlocal written
        written = start + len(levels)

    predict_volume(
        *(make_network(INFO), INFO, CPU),
        **{"read_planes": read_planes, "shape": shape, "voxel_size_nm": VOXELS},
        write_planes=write_planes,
    )
    # The pass that measures, then the one that predicts: as far ahead as the network reaches.
    assert read == written == 64
    assert max(apart[len(apart) // 2 + 1 :]) <= 24 + 2 * 4


@pytest.mark.parametrize("batch", [1, 2**21])
def test_windows_of_an_instance_norm_are_the_models_own(raw, monkeypatch, batch):
    monkeypatch.setitem(volume_windows._BATCH_VOXELS, "cpu", batch)
    network = make_network(ANISOTROPIC)
    levels, _, _ = predict(network, ANISOTROPIC, raw)
    fed = (raw - raw.mean(dtype=np.float64)) / raw.std(dtype=np.float64)
    margins = [(h, h + -s % t) for s, t, h in zip(raw.shape, (4, 16, 16), (2, 4, 4), strict=True)]
    padded = np.pad(fed, margins, mode="reflect").astype(np.float32)
    probability = np.zeros([-(-s // t) * t for s, t in zip(raw.shape, (4, 16, 16), strict=True)])
    for z, y, x in np.ndindex(6, 3, 3):
        corner = (slice(4 * z, 4 * z + 8), slice(16 * y, 16 * y + 24), slice(16 * x, 16 * x + 24))
        with torch.no_grad():
            found = torch.sigmoid(network(torch.from_numpy(padded[corner])[None, None]))[0, 0]
        inner = found[2:-2, 4:-4, 4:-4].numpy()
        probability[4 * z : 4 * z + 4, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = inner
    assert_levels(levels, probability[tuple(map(slice, raw.shape))])


def test_half_precision_is_close(raw):
    network = make_network(INFO)
    levels, _, _ = predict(network, INFO, raw, compute=Compute(torch.device("cpu"), "bf16"))
    assert np.abs(levels / 255 - expect(network, raw)).mean() < 0.01
    levels, _, _ = predict(
        make_network(ANISOTROPIC), ANISOTROPIC, raw, compute=choose_compute("cpu", "bf16")
    )
    single, _, _ = predict(make_network(ANISOTROPIC), ANISOTROPIC, raw)
    assert np.abs(levels.astype(int) - single).mean() < 5


def test_a_volume_of_another_voxel_size_is_fed_at_the_models(raw):
    network, voxels = make_network(INFO), (2.8, 2.0, 2.0)
    levels, _, _ = predict(network, INFO, raw, voxels)
    fed_shape = tuple(round(s * v / 2.2) for s, v in zip(raw.shape, voxels, strict=True))
    assert volume_at_model_scale(raw.shape, INFO, voxels) == fed_shape
    fed = resize(raw.astype(np.float64), fed_shape, order=1, anti_aliasing=True)
    found = np.round(expect(network, fed) * 255)
    expected = resize(found, raw.shape, order=1, anti_aliasing=True)
    assert np.abs(levels - expected).max() < 3
    assert np.abs(levels - expected).mean() < 0.6


@pytest.mark.parametrize(
    ("voxels", "info"),
    [
        ((2.2, 2.2, 2.2), INFO),
        ((2.21, 2.18, 2.24), INFO),
        (None, INFO),
        ((None, None, None), INFO),
        ((None, 5.0, 5.0), replace(INFO, input_pixel_size_nm=None, input_section_nm=None)),
        ((50.0, 2.2, 2.2), replace(INFO, input_section_nm=None)),
    ],
)
def test_it_is_fed_as_it_is_where_sizes_agree_or_are_unknown(voxels, info):
    assert volume_at_model_scale((9, 8, 7), info, voxels) == (9, 8, 7)


def test_sizes_that_differ_are_resampled_on_all_axes():
    assert volume_at_model_scale((100, 100, 100), INFO, (2.2, 2.2, 2.3)) == (100, 100, 105)
    assert volume_at_model_scale((10, 100, 100), INFO, (22.0, 4.4, 1.1)) == (100, 200, 50)
    planes = replace(INFO, input_section_nm=None)
    assert volume_at_model_scale((10, 100, 100), planes, (None, 4.4, 4.4)) == (10, 200, 200)


def test_a_volume_that_says_nothing_of_its_planes_is_refused(raw):
    with pytest.raises(BenchError, match=r"voxels of 2.2 x 2.2 x 2.2 nm .* 5 x 5 nm .*section_nm"):
        predict(make_network(INFO), INFO, raw, (None, 5.0, 5.0))


@pytest.mark.parametrize("side", [4, 5, 7])
def test_a_volume_smaller_than_a_window_is_mirrored(raw, side):
    small = raw[:side, : side + 1, : side + 2]
    network = make_network(INFO)
    levels, _, _ = predict(network, INFO, small)
    assert np.abs(levels / 255 - expect(network, small)).max() < 0.5 / 255 + 1e-4
    assert predict(make_network(ANISOTROPIC), ANISOTROPIC, small)[0].shape == small.shape


def test_a_volume_smaller_than_the_network_needs_is_refused(raw):
    with pytest.raises(
        BenchError, match=r"unet3d needs at least 4 x 4 x 4 voxels .* has 3 x 37 x 4"
    ):
        predict(make_network(INFO), INFO, raw[:3])
    with pytest.raises(BenchError, match=r"needs at least 2 x 4 x 4 voxels .* has 1 x 37 x 44"):
        predict(make_network(ANISOTROPIC), ANISOTROPIC, raw[:1])
    with pytest.raises(BenchError, match=r"at least 4 x 4 x 4 .* has 3 x 4 x 4 at its voxel size"):
        predict(make_network(INFO), INFO, raw[:6, :8, :8], (1.1, 1.1, 1.1))


def test_a_network_of_sections_is_refused_for_volumes_and_the_reverse(raw, tmp_path):
    flat = replace(INFO, architecture="unet2d")
    with pytest.raises(BenchError, match="needs a network of volumes, received unet2d"):
        predict(make_network(INFO), flat, raw)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make_network(INFO), INFO)
    with pytest.raises(BenchError, match="network unet3d takes volumes, received sections"):
        open_predictor(path, CPU, "vesicles")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_grey_values_of_any_scale_are_the_same(raw, dtype):
    """A range of 0.001 far from 0 is as good as 8 bits; what has no range is 0."""
    network = make_network(INFO)
    ranks = np.round((raw - raw.min()) / np.ptp(raw) * 100)
    expected, _, _ = predict(network, INFO, ranks)
    scaled = (ranks / 1e5).astype(np.float32) if dtype is np.float32 else ranks.astype(dtype)
    levels, _, _ = predict(network, INFO, scaled)
    assert np.abs(levels.astype(int) - expected).max() <= 1
    flat, _, _ = predict(network, INFO, np.full(raw.shape, 7, dtype))
    with torch.no_grad():
        zeros = torch.sigmoid(network(torch.zeros(1, 1, 24, 40, 44)))[0, 0, :22, :37].numpy()
    assert np.abs(flat / 255 - zeros).max() < 0.5 / 255 + 1e-4


@pytest.mark.parametrize("count", [1, 2, 5, 9, 22])
@pytest.mark.parametrize("deviations", [(1.0, 1.0, 1.0), (1.3, 0, 0), (0, 0.7, 2.0)])
def test_planes_are_smoothed_as_scipy_does_a_volume(raw, count, deviations):
    found = np.stack(list(blur_planes(raw[:count], count, deviations)))
    expected = gaussian_filter(raw[:count].astype(np.float64), deviations, mode="mirror")
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize(
    "shape", [(22, 37, 44), (30, 50, 61), (11, 20, 22), (40, 20, 44), (3, 9, 5)]
)
def test_planes_are_resized_as_scikit_image_does_a_volume(raw, shape):
    found = np.stack(list(resize_planes(raw, raw.shape, shape)))
    expected = resize(raw.astype(np.float64), shape, order=1, anti_aliasing=True)
    assert found.shape == shape
    assert np.abs(found - expected).max() < 2e-3


def test_planes_are_measured_as_a_whole(raw):
    moments = measure_planes(raw)
    assert moments.mean == pytest.approx(raw.mean(dtype=np.float64), rel=1e-12)
    assert moments.deviation == pytest.approx(raw.std(dtype=np.float64), rel=1e-9)


def test_a_model_may_want_its_planes_normalised_one_by_one(raw):
    feed = VolumeFeed(lambda a, b: raw[a:b], raw.shape, raw.shape, 0, "section")
    planes = np.stack(list(feed.planes()))
    assert np.abs(planes.mean(axis=(1, 2))).max() < 1e-4
    assert np.abs(planes.std(axis=(1, 2)) - 1).max() < 1e-4
