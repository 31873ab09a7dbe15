"""The HDF5 file of a section, and the counts of its structures for the manifest."""

import io
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import imagecodecs
import numpy as np

from bench.core.pixels import BLOCK_PX, Block, all_blocks
from bench.dataset.prepared import SPLITS
from bench.postprocess.label_runs import LabelRuns

# Level 4 takes 1.4 times as long and saves 0.5 % more of EM images.
_GZIP_LEVEL = 1
# Of zlib-ng, which takes a fifth of libdeflate's time for labels and makes them 8 % larger.
_LABELS_LEVEL = 2
_RAW_CHUNK_PX = 256
# Raw that compression would not make a fifth smaller is stored as it is. EM images shrink to 0.86
# (EPFL6) to 0.96 (VNC), at 60 MB/s on the way in and 200 on the way out.
_LARGEST_SHARE = 0.8
_SAMPLES = 16
# Less is copied as fast as it is left out.
_LARGE_BYTES = 1 << 20

SUSPICIOUS_AREA_FACTOR = 3
INSTANCES_RULE = (
    "masks with one foreground value: 4-connected components; masks with several: their ids"
)
INSTANCES_OF_VOLUMES_RULE = (
    "masks with one foreground value: 6-connected components of a volume; with several: their ids"
)
SUSPICIOUS_RULE = (
    f"area above {SUSPICIOUS_AREA_FACTOR} times the median area of the structure's training "
    "instances: perhaps touching objects in one"
)


def write_section_file(
    path: Path,
    entry: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pixel_size_nm: float | None,
    runs: Mapping[str, LabelRuns],
) -> None:
    """Writes the HDF5 file of a section, which is made in memory first.

    HDF5 itself may abort on a full disk; writing bytes fails with an OSError.

    Args:
        path: The file.
        entry: The section's entry of the manifest.
        arrays: Its pixels (y, x) by HDF5 dataset.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        runs: The runs of each but ``raw``.
    """
    raw = np.ascontiguousarray(arrays["raw"]) if "raw" in arrays else None
    content = _AroundRaw(0 if raw is None else raw.nbytes)
    with h5py.File(content, "w") as file:
        file.attrs.update({key: entry[key] for key in ("name", "split", "content_hash")})
        if pixel_size_nm is not None:
            file.attrs["pixel_size_nm"] = pixel_size_nm
        for key, pixels in arrays.items():
            if key != "raw":
                # Blocks of background alone are left out, which reads as 0.
                blocks = runs[key].blocks()
                dataset = _write_blocks(file, key, pixels, blocks, BLOCK_PX, _compress_labels)
                dataset.attrs.update(entry["datasets"][key])
        # Last, so that what is left out lies at the end of the file.
        if raw is not None:
            _write_raw(file, raw, entry["datasets"]["raw"])
    with path.open("wb") as target:
        content.write_to(target, raw)
        target.flush()
        os.fsync(target.fileno())


class _AroundRaw(io.BytesIO):
    """A file in memory without the pixels of its raw image, which are in memory already."""

    def __init__(self, size: int) -> None:
        """Begins an empty file; a write of so many bytes is that of the raw image."""
        super().__init__()
        self._size = size
        self._place: int | None = None

    def write(self, content: Any) -> int:
        """Writes where the file stands; of the raw image it only keeps the place."""
        size = memoryview(content).nbytes
        if size != self._size or size < _LARGE_BYTES:
            return super().write(content)
        self._place = self.tell()
        self.seek(size, os.SEEK_CUR)
        return size

    def write_to(self, target: BinaryIO, raw: np.ndarray | None) -> None:
        """Writes the whole file, with the raw image where it belongs."""
        around = self.getbuffer()
        if raw is None or self._place is None:
            target.write(around)
            return
        target.write(around[: self._place])
        target.seek(self._place)
        target.write(raw.reshape(-1).view(np.uint8).data)
        target.write(around[self._place + raw.nbytes :])


def _write_raw(file: h5py.File, raw: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """Writes a raw image, compressed in blocks if a sample of them says that it pays."""
    blocks = all_blocks(raw.shape, _RAW_CHUNK_PX)
    sample = [raw[block] for block in blocks[:: -(-len(blocks) // _SAMPLES)]]
    packed = sum(len(_compress_raw(pixels)) for pixels in sample)
    if packed > _LARGEST_SHARE * sum(pixels.nbytes for pixels in sample):
        dataset = file.create_dataset("raw", raw.shape, raw.dtype)
        dataset.attrs.update(attributes)
        # Space for the pixels is found when they are written, after all else.
        dataset[...] = raw
        return
    dataset = _write_blocks(file, "raw", raw, blocks, _RAW_CHUNK_PX, _compress_raw)
    dataset.attrs.update(attributes)


def _write_blocks(
    file: h5py.File,
    key: str,
    pixels: np.ndarray,
    blocks: Sequence[Block],
    side: int,
    compress: Callable[[np.ndarray], bytes],
) -> h5py.Dataset:
    """Writes some blocks of an image as gzip chunks, which HDF5 would compress more slowly."""
    chunks = (min(side, pixels.shape[0]), min(side, pixels.shape[1]))
    dataset = file.create_dataset(
        key,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=chunks,
        compression="gzip",
        compression_opts=_GZIP_LEVEL,
    )
    for rows, columns in blocks:
        block = pixels[rows, columns]
        if block.shape != chunks:
            # Chunks at the ends are stored whole.
            beyond = [(0, whole - side) for whole, side in zip(chunks, block.shape, strict=True)]
            block = np.pad(block, beyond)
        dataset.id.write_direct_chunk((rows.start, columns.start), compress(block))
    return dataset


def _compress_raw(pixels: np.ndarray) -> bytes:
    """Compresses pixels as HDF5's gzip filter does, in zlib's format."""
    return bytes(imagecodecs.deflate_encode(pixels.tobytes(), _GZIP_LEVEL))


def _compress_labels(pixels: np.ndarray) -> bytes:
    """The same of ids, which need no search for long repetitions."""
    return bytes(imagecodecs.zlibng_encode(pixels.tobytes(), _LABELS_LEVEL))


@dataclass(frozen=True, eq=False)
class MaskCounts:
    """What is counted in one mask.

    Attributes:
        split: Split of its section.
        areas: Areas of its instances in px.
        pixels: Pixels of the section that are annotated.
        kind: ``binary``, ``ids`` or ``empty``, as `read_instances` says.
        ignored: Its pixels that nobody annotated.
    """

    split: str
    areas: np.ndarray
    pixels: int
    kind: str
    ignored: int = 0


class MaskCounter:
    """Counts the masks of a dataset: each by itself, or those of a volume's planes as one."""

    def __init__(self, *, volumes: bool) -> None:
        self._volumes = volumes
        self._found: dict[str, list[MaskCounts]] = {}
        self._planes: dict[tuple[str, str, str], list[tuple[np.ndarray, str]]] = {}
        self._voxels: Counter[tuple[str, str, str]] = Counter()
        self._ignored: Counter[tuple[str, str, str]] = Counter()

    def add(
        self,
        structure: str,
        split: str,
        region: str,
        runs: LabelRuns,
        kind: str,
        ignored: int = 0,
    ) -> None:
        """Adds a mask.

        Args:
            structure: What it is of.
            split: Split of its section.
            region: Region of its section; planes of a volume have the same.
            runs: The runs of its instance ids.
            kind: ``binary``, ``ids`` or ``empty``.
            ignored: Its pixels that nobody annotated.
        """
        ids, areas = runs.areas()
        annotated = runs.shape[0] * runs.shape[1] - ignored
        if not self._volumes:
            self._found.setdefault(structure, []).append(
                MaskCounts(split, areas, annotated, kind, ignored)
            )
            return
        key = (structure, split, region)
        self._planes.setdefault(key, []).append((np.stack([ids.astype(np.int64), areas]), kind))
        self._voxels[key] += annotated
        self._ignored[key] += ignored

    def counts(self) -> dict[str, list[MaskCounts]]:
        """What was counted, by structure; the areas in a volume are voxels."""
        found = {structure: list(masks) for structure, masks in self._found.items()}
        for key, planes in self._planes.items():
            structure, split, _ = key
            ids, areas = np.concatenate([plane for plane, _ in planes], axis=1)
            _, places = np.unique(ids, return_inverse=True)
            voxels = np.bincount(places, areas).astype(np.int64) if ids.size else areas
            kind = next((kind for _, kind in planes if kind != "empty"), "empty")
            counts = MaskCounts(split, voxels, self._voxels[key], kind, self._ignored[key])
            found.setdefault(structure, []).append(counts)
        return found


def summarise_structure(masks: Sequence[MaskCounts]) -> dict[str, Any]:
    """Counts a structure's instances by split.

    Instances whose area is more than three times the median of the training split's are counted
    as suspicious: touching objects that a mask drew as one. None are where that split is empty.

    Args:
        masks: The structure's masks.

    Returns:
        The structure's entry of the manifest; a split without masks of it has no count.
    """
    splits = [split for split in SPLITS if any(mask.split == split for mask in masks)]
    areas = {
        split: np.concatenate([mask.areas for mask in masks if mask.split == split])
        for split in splits
    }
    pixels, ignored = (
        {split: sum(count(mask) for mask in masks if mask.split == split) for split in splits}
        for count in (attrgetter("pixels"), attrgetter("ignored"))
    )
    training = areas.get("train", np.empty(0))
    median = float(np.median(training)) if training.size else None
    limit = np.inf if median is None else SUSPICIOUS_AREA_FACTOR * median
    return {
        "instances": {split: int(areas[split].size) for split in splits},
        "foreground_fraction": {
            split: float(areas[split].sum() / max(pixels[split], 1)) for split in splits
        },
        "suspicious": {split: int((areas[split] > limit).sum()) for split in splits},
        "median_area_px": median,
        "masks": dict(Counter(mask.kind for mask in masks)),
        # Of datasets all of whose pixels are annotated there is no such entry.
        **(
            {"ignored": {s: ignored[s] / (ignored[s] + pixels[s]) for s in splits}}
            if any(ignored.values())
            else {}
        ),
    }


def warn_of_instances(structure: str, summary: dict[str, Any]) -> list[str]:
    """Returns warnings on how a structure's instances came about."""
    warnings = []
    suspicious, instances = (sum(summary[key].values()) for key in ("suspicious", "instances"))
    if suspicious:
        warnings.append(
            f"{structure}: {suspicious} of {instances} instances are larger than "
            f"{SUSPICIOUS_AREA_FACTOR} times the training median: perhaps touching objects in one"
        )
    masks = summary["masks"]
    if "binary" in masks and "ids" in masks:
        warnings.append(
            f"{structure}: {masks['binary']} masks have one value and were cut into connected "
            f"components, {masks['ids']} have several and keep their ids"
        )
    return warnings
