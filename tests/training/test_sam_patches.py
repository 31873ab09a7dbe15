import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.training.sam.patches import InstancePatchFeed, InstancePatchSettings, label_parts


def settings(**changes):
    return InstancePatchSettings(
        **({"patch_px": 64, "batch_size": 2, "distances": False, "seed": 0} | changes)
    )


@pytest.fixture
def sparse():
    """One instance of 10 x 10 px in a section of 400 x 300."""
    raw = np.random.default_rng(0).integers(0, 4000, (400, 300)).astype(np.uint16)
    labels = np.zeros(raw.shape, np.uint16)
    labels[200:210, 100:110] = 7
    return raw, labels


def test_every_patch_has_an_instance_however_sparse(sparse):
    feed = InstancePatchFeed([sparse], settings())
    places = set()
    for iteration in range(20):
        images, targets = feed.batch(iteration)
        assert images.shape == (2, 3, 64, 64)
        assert targets.shape == (2, 1, 64, 64)
        assert images.dtype == targets.dtype == torch.float32
        assert images.min() == 0
        assert 250 < images.max() <= 255
        assert torch.equal(images[:, 0], images[:, 2])
        for target in targets:
            ids, counts = target.unique(return_counts=True)
            assert ids.tolist() == [0, 1]
            assert 25 <= counts[1] <= 100
            places.add(tuple(torch.nonzero(target[0])[0].tolist()))
    assert len(places) > 15


def test_a_batch_depends_on_seed_and_iteration_alone(sparse):
    first, second = (InstancePatchFeed([sparse], settings()) for _ in range(2))
    first.batch(0)
    for a, b in zip(first.batch(5), second.batch(5), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.batch(5)[0], first.batch(6)[0])
    other = InstancePatchFeed([sparse], settings(seed=1))
    assert not torch.equal(first.batch(5)[0], other.batch(5)[0])


def test_a_section_smaller_than_the_patch_gets_a_black_margin():
    labels = np.zeros((40, 50), np.uint8)
    labels[10:20, 10:30] = 1
    feed = InstancePatchFeed([(labels * 100 + 50, labels)], settings(batch_size=1))
    images, targets = feed.batch(0)
    assert images.shape[-2:] == (64, 64)
    assert int((targets == 1).sum()) == 200
    # Bright inside the instance, whatever the patch was turned by.
    assert (images[0, 0][targets[0, 0] == 1] == 255).all()


def test_targets_of_the_decoder(sparse):
    images, targets = InstancePatchFeed([sparse], settings(distances=True)).batch(3)
    assert targets.shape == (2, 4, 64, 64)
    ids, foreground, centre, boundary = targets[0]
    assert torch.equal(foreground > 0, ids > 0)
    inside = ids > 0
    # micro_sam's distances are 0 in the middle, and 1 at the far end and outside.
    for distance in (centre, boundary):
        assert distance[~inside].min() == 1
        assert distance[inside].min() < 0.2
    assert images.shape == (2, 3, 64, 64)


def test_parts_are_instances_and_specks_are_not():
    labels = np.zeros((30, 30), int)
    labels[0:6, 0:6] = labels[20:26, 0:6] = 4
    labels[10:12, 20:22] = 5
    parts = label_parts(labels)
    assert parts.dtype == np.int32
    assert sorted(np.bincount(parts.ravel())[1:]) == [36, 36]
    # With nothing but specks, they are what is learned.
    only = np.where(labels == 5, 5, 0)
    assert np.bincount(label_parts(only).ravel())[1:].tolist() == [4]


def test_sections_without_instances():
    empty = np.zeros((64, 64), np.uint8)
    with pytest.raises(BenchError, match="received 2 sections without any"):
        InstancePatchFeed([(empty, empty)] * 2, settings())


def test_a_section_that_is_all_one_instance():
    full = np.ones((64, 64), np.uint8)
    with pytest.raises(BenchError, match="must hold an instance and background"):
        InstancePatchFeed([(full, full)], settings()).batch(0)


def test_a_fixed_number_of_patches_is_used_in_rounds(sparse):
    feed = InstancePatchFeed([sparse], settings(patches=6))
    rounds = []
    for start in (0, 3):
        drawn = [feed.batch(iteration)[0] for iteration in range(start, start + 3)]
        rounds.append([patch.numpy().tobytes() for patch in torch.cat(drawn)])
    assert len(set(rounds[0])) == 6
    # All of them in every round, in another order.
    assert set(rounds[0]) == set(rounds[1])
    assert rounds[0] != rounds[1]
    again = InstancePatchFeed([sparse], settings(patches=6)).batch(4)
    assert all(torch.equal(a, b) for a, b in zip(feed.batch(4), again, strict=True))
