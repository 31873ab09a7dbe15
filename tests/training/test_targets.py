import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from torch_em.transform.label import BoundaryTransform

from bench.errors import BenchError
from bench.training.targets import find_boundaries, make_target, pack_channels, unpack_channels

BOTH = ("foreground", "boundary")


def random_labels(seed, dtype):
    """Blobs, half of them cut into touching instances."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(rng.integers(1, 60, size=2)), 3)
    labels = label(noise > 0)
    cut = rng.integers(labels.shape[1] + 1)
    labels[:, :cut] *= 2
    return labels.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
@pytest.mark.parametrize("seed", range(8))
def test_target_is_that_of_torch_em(seed, dtype):
    labels = random_labels(seed, dtype)
    target = make_target(labels, BOTH)
    assert target.dtype == np.uint8
    np.testing.assert_array_equal(target, BoundaryTransform(add_binary_target=True)(labels))
    np.testing.assert_array_equal(make_target(labels, ("foreground",)), target[:1])


def test_touching_instances_have_a_boundary_and_the_border_has_none():
    labels = np.zeros((4, 9), np.uint16)
    labels[:, :3], labels[:, 3:6] = 4, 300
    np.testing.assert_array_equal(find_boundaries(labels), [[0, 0, 1, 1, 0, 1, 1, 0, 0]] * 4)
    assert not make_target(labels[:, :3], BOTH)[1].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_thin_sections_have_a_target(shape):
    target = make_target(np.ones(shape, np.uint8), BOTH)
    assert target.shape == (2, *shape)
    assert target[0].all()
    assert not target[1].any()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (("foreground", "affinity"), "unknown output 'affinity': choose one of boundary, fore"),
        ((), "first output must be foreground"),
        (("boundary", "foreground"), "first output must be foreground"),
    ],
)
def test_other_outputs_are_refused(outputs, message):
    with pytest.raises(BenchError, match=message):
        make_target(np.zeros((4, 4), np.uint8), outputs)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_channels_in_one_come_out_as_they_were(channels):
    target = np.random.default_rng(channels).integers(0, 2, (channels, 9, 7)).astype(np.uint8)
    packed = pack_channels(target)
    assert packed.shape == (1, 9, 7)
    assert packed.dtype == np.uint8
    found = unpack_channels(torch.from_numpy(packed)[None].float(), channels)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found[0].numpy(), target)
