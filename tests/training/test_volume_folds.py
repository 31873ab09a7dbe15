"""Networks of which each never sees one part of the volumes, and their mean."""

import numpy as np
import pytest
import torch

from bench.inference.volume_feed import VolumeFeed
from bench.models.checkpoint import build_model
from bench.models.unet3d_folds import stream_unet3d_folds
from bench.training.volume_folds import FoldedPatchFeed, leave_out
from bench.training.volume_patches import VolumeAugmentation, VolumePatchSettings, hold_volume

ARGUMENTS = {"in_channels": 1, "out_channels": 1, "depth": 1, "features": 2, "folds": 3}


def hold(value, shape=(12, 8, 8)):
    """A volume whose every plane has a value of its own."""
    raw = np.zeros(shape, np.float32) + value + np.arange(shape[0])[:, None, None]
    labels = (raw % 2).astype(np.uint8)
    feed = VolumeFeed(lambda a, b: raw[a:b], raw.shape, raw.shape, 0.0, "volume")
    return hold_volume(raw, labels, feed)


def test_each_fold_lacks_a_volume_of_its_own():
    volumes = [hold(100 * number) for number in range(4)]
    seen = [leave_out(volumes, fold, 3) for fold in range(3)]
    assert [[volumes.index(each) for each in part] for part in seen] == [
        [1, 2],
        [0, 2, 3],
        [0, 1, 3],
    ]


def test_few_volumes_are_cut_into_blocks_of_planes():
    (volume,) = volumes = [hold(0)]
    for fold in range(3):
        seen = leave_out(volumes, fold, 3)
        planes = np.concatenate([part.image[:, 0, 0] for part in seen])
        np.testing.assert_array_equal(
            planes, np.delete(np.arange(12), np.s_[4 * fold : 4 * fold + 4])
        )
        for part in seen:
            assert np.shares_memory(part.image, volume.image)
            for centres in part.centres:
                assert part.target[tuple(centres.T)].all()
        found = sum(len(centres) for part in seen for centres in part.centres)
        assert found == sum(part.target.sum() for part in seen)


def test_a_batch_is_a_part_for_every_fold():
    settings = VolumePatchSettings((4, 8, 8), 6, 0.5, VolumeAugmentation(False, False, 0), seed=1)
    volume = hold(0)
    feed = FoldedPatchFeed([volume], settings, torch.device("cpu"), 3)
    left_out = [set(range(4 * fold, 4 * fold + 4)) for fold in range(3)]
    seen = [set() for _ in range(3)]
    for iteration in range(20):
        images, targets = feed.batch(iteration)
        assert images.shape == targets.shape == (6, 1, 4, 8, 8)
        planes = images[:, 0, :, 0, 0].double() * volume.moments.deviation + volume.moments.mean
        for fold, part in enumerate(planes.round().long().chunk(3)):
            seen[fold] |= set(part.flatten().tolist())
    for found, missing in zip(seen, left_out, strict=True):
        assert found == set(range(12)) - missing
    again = FoldedPatchFeed([volume], settings, torch.device("cpu"), 3).batch(7)
    assert all(torch.equal(a, b) for a, b in zip(again, feed.batch(7), strict=True))


def test_in_training_each_learns_from_its_part_alone():
    torch.manual_seed(0)
    network = build_model("unet3d_folds", ARGUMENTS).train()
    image = torch.randn(6, 1, 4, 4, 4)
    logits = network(image)
    assert logits.shape == image.shape
    logits[2:4].sum().backward()
    moved = [
        any(p.grad is not None and p.grad.abs().sum() > 0 for p in member.parameters())
        for member in network.members
    ]
    assert moved == [False, True, False]


def test_applied_it_is_the_mean_of_its_networks():
    torch.manual_seed(0)
    network = build_model("unet3d_folds", ARGUMENTS).eval()
    for member in network.members:
        member.out.bias.data += torch.randn(1)
    volume = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        wanted = torch.stack([torch.sigmoid(m(volume)) for m in network.members]).mean(dim=0)
        torch.testing.assert_close(torch.sigmoid(network(volume)), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("slab", [2, 8])
def test_streamed_it_is_the_same(slab):
    torch.manual_seed(0)
    network = build_model("unet3d_folds", ARGUMENTS).eval()
    volume = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        wanted = network(volume)
    found = torch.cat(
        list(stream_unet3d_folds(network, volume.split(slab, dim=2), torch.float32)), dim=2
    )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
