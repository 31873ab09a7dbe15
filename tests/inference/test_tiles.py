import numpy as np
import pytest
import torch
from torch_em.util.prediction import predict_with_halo

from bench.inference import tiles
from bench.inference.device import Compute
from bench.inference.feeding import normalise_section
from bench.inference.tiles import (
    fit_batch,
    mirror_indices,
    predict_batches,
    predict_sections,
)
from bench.models.unet2d import build_unet2d

CPU = Compute(torch.device("cpu"), "fp32")
SHAPES = [(64, 64), (65, 63), (20, 30), (1, 1), (200, 10), (7, 150), (128, 96), (100, 131)]


class Local(torch.nn.Module):
    """Convolutions that see 6 px around a pixel, and nothing that depends on the tile."""

    def __init__(self, channels=1):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 7, padding=3),
            torch.nn.ReLU(),
            torch.nn.Conv2d(4, channels, 7, padding=3),
        )

    def forward(self, image):
        return 4 * self.layers(image)


class Recorder(torch.nn.Module):
    """Passes the image on and keeps what it was fed."""

    def __init__(self):
        super().__init__()
        self.fed = []

    def forward(self, image):
        self.fed.append(image.clone())
        return image


def random_section(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def predict(network, raw, batch_size=4, tile_px=32, halo_px=16):
    (probability,) = predict_sections(
        network, [raw], tile_px=tile_px, halo_px=halo_px, compute=CPU, batch_size=batch_size
    )
    return probability


def predict_whole(network, raw):
    """The network on the whole mirrored section at once."""
    padded = np.pad(normalise_section(raw), 16, mode="reflect")
    with torch.no_grad():
        logits = network(torch.from_numpy(padded)[None, None])
    return 255 * torch.sigmoid(logits)[0, :, 16:-16, 16:-16].numpy()


def assert_rounded(stored, exact):
    """A stored level is the exact value, rounded (half a level, and float32's last digits)."""
    assert stored.dtype == np.uint8
    assert stored.shape == exact.shape
    np.testing.assert_allclose(stored, exact, atol=0.5 + 1e-3, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_tiles_of_a_local_network_are_the_whole(shape, channels):
    raw = random_section(shape)
    network = Local(channels)
    stored = predict(network, raw)
    assert stored.shape == (channels, *shape)
    assert_rounded(stored, predict_whole(network, raw))
    if min(shape) > 5:
        assert np.ptp(stored) > 30


@pytest.mark.parametrize(("tile_px", "halo_px"), [(16, 6), (48, 8), (256, 16), (20, 40)])
def test_tile_and_halo_do_not_matter_to_a_local_network(tile_px, halo_px):
    raw = random_section((100, 131))
    stored = predict(Local(), raw, tile_px=tile_px, halo_px=halo_px)
    assert_rounded(stored, predict_whole(Local(), raw))


def test_a_halo_smaller_than_what_the_network_sees_is_noticed_by_these_tests():
    raw = random_section((100, 131))
    with pytest.raises(AssertionError):
        assert_rounded(predict(Local(), raw, halo_px=2), predict_whole(Local(), raw))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_batch_size_is_a_matter_of_memory(batch_size):
    raw = random_section((100, 131))
    torch.manual_seed(0)
    network = build_unet2d(in_channels=1, out_channels=2, depth=2, features=4)
    stored = predict(network, raw, batch_size=batch_size).astype(int)
    alone = predict(network, raw, batch_size=4).astype(int)
    # Sums of float32 may be taken in another order: a level at a tie of rounding.
    assert np.abs(stored - alone).max() <= 1
    assert (stored != alone).mean() < 1e-3


@pytest.mark.parametrize("channels", [1, 2])
def test_interior_is_that_of_torch_em(channels):
    """Same block, halo and input; at the border they mirror without the outermost pixel."""
    raw = random_section((170, 140))
    torch.manual_seed(1)
    network = build_unet2d(in_channels=1, out_channels=channels, depth=2, features=4)
    network.eval()
    theirs = predict_with_halo(
        normalise_section(raw),
        network,
        gpu_ids=["cpu"],
        block_shape=(32, 32),
        halo=(16, 16),
        preprocess=None,
        postprocess=lambda logits: 1 / (1 + np.exp(-logits)),
        disable_tqdm=True,
    )
    stored = predict(network, raw)
    # Tiles whose halo lies within the section.
    assert_rounded(stored[:, 32:128, 32:96], 255 * theirs[:, 32:128, 32:96])
    assert np.ptp(stored) > 20


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tile_has_the_same_shape(shape):
    network = Recorder()
    predict(network, random_section(shape), batch_size=3)
    fed = torch.cat(network.fed)
    tiles = -(-shape[0] // 32) * -(-shape[1] // 32)
    assert fed.shape == (tiles, 1, 64, 64)
    assert fed.dtype == torch.float32


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_mirrors_to_whole_tiles(shape):
    for side in shape:
        found = mirror_indices(side, 32, 16)
        assert (found.size - 32) % 32 == 0
        np.testing.assert_array_equal(found[16 : 16 + side], np.arange(side))
        # Mirrored at the middle of the outermost pixels, as torch_em does it.
        period = max(1, 2 * (side - 1))
        places = np.arange(found.size) - 16 + side - 1
        np.testing.assert_array_equal(found, np.abs(places % period - (side - 1)))


@pytest.mark.parametrize("in_flight", [2, 3])
def test_batches_in_flight_as_on_a_gpu_come_out_in_order(monkeypatch, in_flight):
    """On a GPU the next batches are read and started before one is asked for."""
    sections = [random_section(shape) for shape in ((100, 131), (20, 30), (64, 64))]
    expected = [predict(Local(), raw) for raw in sections]
    monkeypatch.setitem(tiles.IN_FLIGHT, "cpu", in_flight)
    started, original = [], tiles.start_tiles

    def start(*given, **named):
        started.append(given)
        return original(*given, **named)

    monkeypatch.setattr(tiles, "start_tiles", start)
    found = predict_sections(
        Local(), iter(sections), tile_px=32, halo_px=16, compute=CPU, batch_size=4
    )
    for each, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(each, wanted)
    assert len(started) == 7
    keys = [(number, np.zeros((1, 8, 8), np.float32)) for number in range(5)]
    started.clear()
    batches = predict_batches(Local(), keys, 0, CPU)
    assert next(batches)[0] == 0
    assert len(started) == in_flight
    assert [key for key, _ in batches] == [1, 2, 3, 4]


@pytest.mark.parametrize(("edge", "tiles_at_once"), [(512, 4), (1024, 1), (2048, 1), (32, 4)])
def test_a_gpu_is_given_as_much_as_its_memory_holds_and_a_cpu_a_tile(edge, tiles_at_once):
    assert fit_batch(Compute(torch.device("cuda"), "fp16"), edge) == tiles_at_once
    assert fit_batch(CPU, edge) == 1


def test_a_section_among_others_is_as_alone():
    """Bit for bit: what evaluate scored among others, segment finds alone."""
    torch.manual_seed(0)
    network = build_unet2d(in_channels=1, out_channels=1, depth=2, features=4)
    sections = [random_section((100, 131), seed=seed) for seed in range(3)]
    together = predict_sections(network, sections, tile_px=24, halo_px=4, compute=CPU)
    for raw, found in zip(sections, together, strict=True):
        (alone,) = predict_sections(network, [raw], tile_px=24, halo_px=4, compute=CPU)
        np.testing.assert_array_equal(found, alone)


def test_stored_levels_are_rounded_probabilities():
    class Constant(torch.nn.Module):
        def forward(self, image):
            levels = torch.arange(256).reshape(16, 16).float() / 255
            return torch.logit(levels).expand(image.shape)

    stored = predict(Constant(), random_section((16, 16)), tile_px=16, halo_px=0)
    np.testing.assert_array_equal(stored[0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_bit_depth_of_the_section_does_not_matter(dtype):
    raw = random_section((50, 70))
    scaled = (raw.astype(np.int32) * 100).astype(dtype)
    difference = predict(Local(), raw).astype(int) - predict(Local(), scaled).astype(int)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_network_is_applied_in_evaluation_mode_and_keeps_no_gradient():
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), Local())
    network.train()
    raw = random_section((40, 40))
    assert_rounded(predict(network, raw), predict_whole(Local(), raw))
    assert all(parameter.grad is None for parameter in network.parameters())
