"""Patches with the paper's augmentations: our feed beside torch_em's default loader, 2 workers.

The peer draws by MinForegroundSampler and rejects as often as our feed draws at random; transforms
are of the same kinds and shares (training_transforms.py). Where drawing is alike, at random, the
statistics of both are compared. Ours is this process with torch's threads, no workers.

    PYTHONPATH=src python benchmarks/training_feed.py [--dataset FOLDER --structure NAME]
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch_em
from measuring import Line, report, time_in_turns
from torch.nn import functional
from torch_em.data import MinForegroundSampler
from torch_em.transform.label import BoundaryTransform, labels_to_binary
from torch_em.transform.raw import standardize
from training_sections import describe_sections, parse_options, read_sections, write_sections
from training_transforms import PeersTransform, compare_motion

from bench.training.augment import Augmentation
from bench.training.patches import PatchFeed, PatchSettings

CPU = torch.device("cpu")
BATCH, WORKERS = 8, 2
AUGMENTATION = Augmentation(rotate=True, flip=True, elastic_px=4.0, noise=0.1)
# Patches of a timed run, by edge; and of a comparison.
SAMPLES = {128: 480, 256: 160}
COMPARED = 400
TARGETS = {
    ("foreground",): (labels_to_binary, 5.0),
    ("foreground", "boundary"): (BoundaryTransform(add_binary_target=True), 10.0),
}


def make_feed(sections, patch_px, outputs, foreground_fraction):
    """Our feed."""
    settings = PatchSettings(patch_px, BATCH, foreground_fraction, AUGMENTATION, seed=0)
    return PatchFeed(sections, settings, CPU, outputs)


def make_loader(paths, moments, patch_px, outputs, samples, *, sampler):
    """torch_em's loader; its workers stay, so that starting them is not timed."""
    mean, deviation = moments
    return torch_em.default_segmentation_loader(
        paths,
        "raw",
        paths,
        "labels",
        batch_size=BATCH,
        patch_shape=(patch_px, patch_px),
        ndim=2,
        is_seg_dataset=True,
        label_transform=TARGETS[outputs][0],
        raw_transform=partial(standardize, mean=mean, std=deviation),
        transform=PeersTransform(AUGMENTATION, patch_px),
        sampler=sampler,
        n_samples=samples,
        num_workers=WORKERS,
        persistent_workers=True,
        shuffle=True,
    )


def describe_patches(batches) -> np.ndarray:
    """Means over patches of: share of each target, mean and deviation of the image.

    Only of the middle disc: outside of it the peer's free rotations leave empty corners.
    """
    rows = []
    for image, target in batches:
        edge = image.shape[-1]
        y, x = np.indices((edge, edge)) - (edge - 1) / 2
        inside = torch.from_numpy(np.hypot(y, x) < edge / 2 - 16)
        pixels = image[:, 0, inside]
        # The peer interpolates targets linearly.
        shares = (target[:, :, inside] >= 0.5).float().mean(-1)
        rows.append(torch.cat([shares, pixels.mean(1, True), pixels.std(1, keepdim=True)], dim=1))
    return torch.cat(rows).numpy()


def compare_patches(sections, paths, moments, patch_px, outputs) -> str:
    """Compares both feeds where the drawing is alike: anywhere in the sections."""
    feed = make_feed(sections, patch_px, outputs, 0.0)
    ours = describe_patches(feed.batch(i) for i in range(COMPARED // BATCH))
    loader = make_loader(paths, moments, patch_px, outputs, COMPARED, sampler=None)
    theirs = describe_patches(loader)
    names = [*outputs, "mean", "deviation"]
    spread = np.sqrt(ours.var(axis=0) / len(ours) + theirs.var(axis=0) / len(theirs))
    means = zip(names, ours.mean(axis=0), theirs.mean(axis=0), strict=True)
    apart = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / spread
    told = ", ".join(f"{name} {a:.3f}/{b:.3f}" for name, a, b in means)
    return f"{COMPARED} patches drawn at random, ours/peer: {told} (at most {apart.max():.1f} SE)"


def time_sampling(patch_px: int, channels: int) -> float:
    """Seconds per patch of a bare resampling of image and target, coordinates at hand."""
    edge = patch_px * 3 // 2
    image, mask = torch.rand(BATCH, 1, edge, edge), torch.rand(BATCH, channels, edge, edge)
    grid = (torch.rand(BATCH, patch_px, patch_px, 2) - 0.5) * 0.05
    axis = torch.linspace(-0.6, 0.6, patch_px)
    grid = grid + torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        functional.grid_sample(image, grid, mode="bilinear", align_corners=True)
        functional.grid_sample(mask, grid, mode="nearest", align_corners=True)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) / BATCH


def measure(sections, paths, patch_px, outputs, repeats) -> Line:
    """Times both feeds for one size and target."""
    samples = SAMPLES[patch_px]
    pixels = np.concatenate([raw.reshape(-1) for raw, _ in sections])
    moments = (float(pixels.mean(dtype=np.float64)), float(pixels.std(dtype=np.float64)))
    feed = make_feed(sections, patch_px, outputs, 0.5)
    sampler = MinForegroundSampler(0.1, p_reject=0.5)
    loader = make_loader(paths, moments, patch_px, outputs, samples, sampler=sampler)
    ways = {
        "ours": lambda: [feed.batch(i) for i in range(samples // BATCH)][-1],
        "peer": lambda: [batch for batch in loader][-1],  # noqa: C416
    }
    seconds, found = time_in_turns(ways, repeats=repeats)
    for ours, theirs in zip(found["ours"], found["peer"], strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
    rate = samples / seconds["ours"]
    share = time_sampling(patch_px, len(outputs)) * rate
    return Line(
        path=f"training feed, {' and '.join(outputs)}",
        size=f"{samples} patches of {patch_px} px from {describe_sections(sections)}",
        ours_s=seconds["ours"],
        peer=f"torch_em default loader, {WORKERS} workers",
        peer_s=seconds["peer"],
        goal=TARGETS[outputs][1],
        agreement=compare_patches(sections, paths, moments, patch_px, outputs)
        + f"; {compare_motion(AUGMENTATION, patch_px, 200)}",
        limit=f"{rate:.0f}/s (peer {samples / seconds['peer']:.0f}/s); bare grid_sample of image "
        f"and target takes {share:.0%} of ours",
    )


def main() -> None:
    """Measures both edges with and without boundaries."""
    options = parse_options(__doc__, repeats=3)
    sections = read_sections(options)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sections(Path(folder), sections)
        lines = [
            measure(sections, paths, patch_px, outputs, options.repeats)
            for outputs in TARGETS
            for patch_px in SAMPLES
        ]
    report(__file__, lines)


if __name__ == "__main__":
    main()
