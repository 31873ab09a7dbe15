"""Foreground of volumes that need not fit in memory, plane after plane or window by window."""

import contextlib
import itertools
import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.kept_levels import KeptLevels
from bench.inference.prediction import check_normalisation, foreground_channel
from bench.inference.symmetries import find_symmetries
from bench.inference.tiles import read_ahead
from bench.inference.volume_feed import Shape3d, VolumeFeed, resize_planes
from bench.inference.volume_windows import predict_windows
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import Network, find_function, find_network

# Along z, y, x in nm; None where it is not known.
_VoxelSize = tuple[float | None, float | None, float | None]
_Advance = Callable[[int, int], None]
# Voxel sizes closer than this, relatively, count as the same: tomograms of 2.2 nm are not
# resampled for what their headers round.
_SAME_VOXELS = 0.02
# Voxels of the planes that a streamed network is given at a time.
_SLAB_VOXELS = {"cpu": 2**20, "cuda": 2**24}
# Bytes of what waits in a streamed network, and what it takes a pixel of the plane for that, in
# features of the first level: about 20 planes of the finest level, and half as much besides.
_WAITING_BYTES = {"cpu": 2**30, "cuda": 2**33}
_WAITING_PLANES = 32
# Slabs after which a stream's own ones have the sizes that they have from then on.
_STEPS_TO_SETTLE = 2
# Voxels of the result that are written at a time.
_WRITTEN_VOXELS = 2**22


def predict_volume(
    network: torch.nn.Module,
    info: ModelInfo,
    compute: Compute,
    *,
    read_planes: Callable[[int, int], np.ndarray],
    shape: Shape3d,
    voxel_size_nm: _VoxelSize | None,
    write_planes: Callable[[int, np.ndarray], None],
    progress: _Advance | None = None,
    structure: str = "",
    keep: Path | None = None,
) -> None:
    """Predicts the foreground of a volume, of which a few planes are held at a time.

    It is fed at the voxel size that the model was trained at, where both are known and differ by
    more than 2 %, and the result is mapped back. A network whose result does not depend on its
    window is given whole planes one after the other, and nothing is computed twice; around the
    volume there are zeros, as around the patches of its training. Any other has its own windows,
    mirrored at the border.

    Args:
        network: The network, of volumes.
        info: What the model is.
        compute: Device and precision.
        read_planes: From the first plane and the one after the last to raw values (z, y, x) of any
            bit depth; planes are read in order, twice where the volume is normalised as a whole.
        shape: Shape of the volume.
        voxel_size_nm: Its voxel size; None if not known.
        write_planes: Takes the first plane and levels (z, y, x) uint8, round(255 p), in order of
            z, every plane once.
        progress: Takes how many steps of how many are done.
        structure: What is looked for, where the model has channels for several.
        keep: Folder where levels are kept as they are found, for the caller to remove: what was
            killed goes on there, on a CPU to the same bits. The same network, volume and compute
            must come with it. None keeps them while it runs, where it must.

    Raises:
        BenchError: If the network is not of volumes, the volume is too small for it, or it is not
            known how far the planes are apart.
    """
    fed_shape = check_volume(info, shape, voxel_size_nm)
    row = find_network(info.architecture)
    feed = VolumeFeed(
        read_planes, shape, fed_shape, info.inference.get("smoothing_px", 0.0), info.normalisation
    )
    channel = foreground_channel(info, structure or info.structure)
    task = _Task(
        network.to(compute.device).eval(), row, info, compute, feed, channel, progress, keep
    )
    remedy = "use device=cpu, or a source of fewer features"
    with explain_out_of_memory("a part of the volume", remedy):
        levels = resize_planes(_predict(task), fed_shape, shape)
        _write(levels, shape, write_planes)


def predict_volume_as_seen(
    symmetry: str,
    network: torch.nn.Module,
    info: ModelInfo,
    compute: Compute,
    *,
    read_planes: Callable[[int, int], np.ndarray],
    shape: Shape3d,
    voxel_size_nm: _VoxelSize | None,
    write_planes: Callable[[int, np.ndarray], None],
    **others: Any,
) -> None:
    """Predicts a volume whose planes are mirrored or turned before, back in its own geometry.

    The network sees the volume so, with windows of its own; the axis of the beam stays z. All but
    the name of the symmetry is as of `predict_volume`.

    Raises:
        BenchError: As of `predict_volume`, or if there is no such symmetry.
    """
    (row,) = find_symmetries([symmetry])
    # A turn exchanges y and x, of the shape and of the voxels' edges.
    turned = row.forward(np.empty((1, 2))).shape == (2, 1)
    z, y, x = (0, 2, 1) if turned else (0, 1, 2)
    if voxel_size_nm is not None:
        voxel_size_nm = (voxel_size_nm[z], voxel_size_nm[y], voxel_size_nm[x])
    predict_volume(
        *(network, info, compute),
        read_planes=lambda start, stop: np.ascontiguousarray(row.forward(read_planes(start, stop))),
        shape=(shape[z], shape[y], shape[x]),
        voxel_size_nm=voxel_size_nm,
        write_planes=lambda start, levels: write_planes(
            start, np.ascontiguousarray(row.inverse(levels))
        ),
        **others,
    )


def volume_at_model_scale(
    shape: Shape3d, info: ModelInfo, voxel_size_nm: _VoxelSize | None
) -> Shape3d:
    """Shape of a volume at the model's voxel size; its own where they agree or are unknown.

    Raises:
        BenchError: If the distance of the planes is not known where the model needs it.
    """
    plane_nm, inside_nm = info.input_section_nm, info.input_pixel_size_nm
    z_nm, y_nm, x_nm = voxel_size_nm or (None, None, None)
    if inside_nm is None or y_nm is None or x_nm is None:
        return shape
    if plane_nm is not None and z_nm is None:
        raise BenchError(
            f"the model was trained on voxels of {plane_nm:g} x {inside_nm:g} x {inside_nm:g} nm "
            f"(z, y, x), the volume has pixels of {y_nm:g} x {x_nm:g} nm and says nothing of the "
            "distance of its planes: give section_nm when you prepare it"
        )
    scales = ((z_nm or 1) / (plane_nm or z_nm or 1), y_nm / inside_nm, x_nm / inside_nm)
    if all(abs(scale - 1) <= _SAME_VOXELS for scale in scales):
        return shape
    depth, height, width = (
        max(1, round(side * scale)) for side, scale in zip(shape, scales, strict=True)
    )
    return depth, height, width


def check_volume(info: ModelInfo, shape: Shape3d, voxel_size_nm: _VoxelSize | None) -> Shape3d:
    """Shape at which a model is fed a volume.

    Raises:
        BenchError: If it cannot be fed, as `predict_volume` says.
    """
    row = find_network(info.architecture)
    if row.dims != 3:
        raise BenchError(
            f"a volume needs a network of volumes, received {info.architecture}: choose another "
            "source, or apply it section by section"
        )
    check_normalisation(info)
    fed_shape = volume_at_model_scale(shape, info, voxel_size_nm)
    needed = row.multiples(info.arguments)
    if any(side < least for side, least in zip(fed_shape, needed, strict=True)):
        raise BenchError(
            f"network {row.name} needs at least {' x '.join(map(str, needed))} voxels (z, y, x), "
            f"the volume has {' x '.join(map(str, fed_shape))} at its voxel size: give a larger "
            "volume, or check its voxel size"
        )
    return fed_shape


@dataclass(frozen=True, eq=False)
class _Task:
    network: torch.nn.Module
    row: Network
    info: ModelInfo
    compute: Compute
    feed: VolumeFeed
    channel: int
    progress: _Advance | None
    keep: Path | None

    def advance(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def _predict(task: _Task) -> Iterator[np.ndarray]:
    """Yields levels (y, x) uint8 of every fed plane in order."""
    depth = task.feed.fed_shape[0]
    blocks = _cut_blocks(task)
    if task.keep is None and len(blocks) == 1:
        for start, levels in _predict_block(task, blocks[0], 0):
            task.advance(start + len(levels), depth)
            yield from levels
        return
    # Blocks are predicted one after the other, from the first plane to the last: their levels wait.
    with contextlib.ExitStack() as stack:
        folder = task.keep
        if folder is None:
            unkept = tempfile.TemporaryDirectory(prefix="synapse-bench-")
            folder = Path(stack.enter_context(unkept))
        kept = KeptLevels(folder, task.feed.fed_shape, [(b.rows, b.columns) for b in blocks])
        for number, block in enumerate(blocks):
            first = kept.count(number)
            task.advance(number * depth + first, len(blocks) * depth)
            for start, levels in _predict_block(task, block, first) if first < depth else ():
                kept.append(number, levels)
                task.advance(number * depth + start + len(levels), len(blocks) * depth)
        yield from kept.planes()


def _write(
    levels: Iterable[np.ndarray], shape: Shape3d, write_planes: Callable[[int, np.ndarray], None]
) -> None:
    """Writes planes in order, some at a time; what was resampled is rounded."""
    depth, height, width = shape
    step = max(1, _WRITTEN_VOXELS // (height * width))
    waiting: list[np.ndarray] = []
    for z, plane in enumerate(levels):
        waiting.append(plane if plane.dtype == np.uint8 else plane.round().astype(np.uint8))
        if len(waiting) == step or z == depth - 1:
            write_planes(z + 1 - len(waiting), np.stack(waiting))
            waiting = []


@dataclass(frozen=True)
class _Block:
    """Rows and columns of all planes that a network is streamed.

    Attributes:
        rows: Rows of the result.
        columns: Columns of the result.
        seen: Rows and columns that it is given for them.
    """

    rows: slice
    columns: slice
    seen: tuple[slice, slice]

    def cut(self, levels: np.ndarray) -> np.ndarray:
        """The result (planes, y, x) of what was seen."""
        (first_row, first_column) = (side.start for side in self.seen)
        rows = slice(self.rows.start - first_row, self.rows.stop - first_row)
        columns = slice(self.columns.start - first_column, self.columns.stop - first_column)
        return levels[:, rows, columns]


def _cut_blocks(task: _Task) -> list[_Block]:
    """One block of whole planes, or as few as the memory needs; each sees what it depends on."""
    _, height, width = task.feed.fed_shape
    whole = slice(0, height), slice(0, width)
    if task.row.streamed_by is None:
        return [_Block(*whole, whole)]
    arguments = task.info.arguments
    multiple, reach = task.row.multiples(arguments)[1], task.row.reach(arguments)
    bytes_a_pixel = _WAITING_PLANES * arguments["features"] * task.compute.dtype.itemsize
    most = _WAITING_BYTES.get(task.compute.device.type, 2**33) // bytes_a_pixel
    edge = max(4 * multiple, math.isqrt(most) // multiple * multiple)
    if height * width <= most:
        return [_Block(*whole, whole)]
    rows, columns = (_cut_side(side, edge, multiple, reach) for side in (height, width))
    return [_Block(y, x, (seen_y, seen_x)) for y, seen_y in rows for x, seen_x in columns]


def _cut_side(side: int, edge: int, multiple: int, reach: int) -> list[tuple[slice, slice]]:
    """Even parts of a side, and what each sees: the reach at either end, as far as there is any."""
    parts = -(-side // edge)
    edge = -(-side // (parts * multiple)) * multiple
    return [
        (slice(start, min(side, start + edge)), slice(max(0, start - reach), start + edge + reach))
        for start in range(0, side, edge)
    ]


def _predict_block(task: _Task, block: _Block, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first plane and levels (planes, y, x) of a block, in order of z, from a plane on.

    A stream begins before that plane, far enough for it to see what it would have seen, and where
    its slabs end as they would have: on a CPU that gives the same bits.
    """
    depth = task.feed.fed_shape[0]
    if task.row.streamed_by is None:
        start = first
        planes = task.feed.planes()
        for slab in predict_windows(
            task.network, planes, task.feed.fed_shape, task.info, task.compute, first
        ):
            yield start, slab[task.channel]
            start += slab.shape[1]
        return
    dtype = task.compute.dtype
    stream: Any = find_function(task.row.streamed_by)
    step = _planes_of_slabs(task, block)
    reach = task.row.reach(task.info.arguments)
    start = max(0, (first - reach) // step - _STEPS_TO_SETTLE) * step
    made = _make_slabs(task, block, start, step)
    with read_ahead(made, enabled=task.compute.device.type != "cpu") as slabs:
        given = (torch.from_numpy(slab)[None, None].to(task.compute.device) for slab in slabs)
        for logits in stream(task.network, given, dtype):
            known = max(0, first - start)
            levels = _to_levels(logits[0, task.channel, known:])[: depth - start - known]
            if len(levels):
                yield start + known, block.cut(levels)
            start += logits.shape[2]


def _planes_of_slabs(task: _Task, block: _Block) -> int:
    """How many planes a streamed network is given at a time."""
    plane_multiple, *inside = task.row.multiples(task.info.arguments)
    sides = [
        len(range(*part.indices(side)))
        for part, side in zip(block.seen, task.feed.fed_shape[1:], strict=True)
    ]
    fed = math.prod(side + -side % multiple for side, multiple in zip(sides, inside, strict=True))
    most = _SLAB_VOXELS.get(task.compute.device.type, 2**24) // fed
    return max(1, most // plane_multiple) * plane_multiple


def _make_slabs(task: _Task, block: _Block, start: int, step: int) -> Iterator[np.ndarray]:
    """Planes of what a block sees from one on, mirrored to what the network's sides must be."""
    plane_multiple, *inside = task.row.multiples(task.info.arguments)
    planes = itertools.islice(_complete(task.feed.planes(), plane_multiple), start, None)
    waiting: list[np.ndarray] = []
    for plane in planes:
        seen = plane[block.seen]
        margins = [(0, -side % multiple) for side, multiple in zip(seen.shape, inside, strict=True)]
        waiting.append(np.pad(seen, margins, mode="reflect"))
        if len(waiting) == step:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _complete(planes: Iterable[np.ndarray], multiple: int) -> Iterator[np.ndarray]:
    """Planes, of which there are a multiple at least, and mirrored ones that make them one."""
    last: deque[np.ndarray] = deque(maxlen=multiple)
    count = 0
    for plane in planes:
        last.append(plane)
        count += 1
        yield plane
    for number in range(-count % multiple):
        yield last[-2 - number]


@torch.inference_mode()
def _to_levels(logits: torch.Tensor) -> np.ndarray:
    levels: np.ndarray = (torch.sigmoid(logits.float()) * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def refuse_sections(path: Path, compute: Compute, structure: str) -> NoReturn:
    """Opens a network of volumes for sections, which cannot be.

    Raises:
        BenchError: Always.
    """
    raise BenchError(
        f"network {load_info(path).architecture} takes volumes, received sections to look for "
        f"{structure} in: prepare images whose planes are a volume, or choose a method of sections"
    )
