"""A network of sections on an isotropic volume: what it says along z, y and x made one.

Planes across each axis are predicted as sections, and every voxel takes the mean of the three
probabilities, in float32. RETINA's code (2025) floors each probability times 255 / 3 to a whole
level and adds the levels up, so that three planes that are just above one half are background:
three times .505 give 126. That is the rule of ``protocol=paper``.

The volume, and what is predicted of it along an axis, lie on disk: a few planes are held at a time.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.core.memory import explain_out_of_memory
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.engines import open_network
from bench.inference.feeding import Moments, resize_bands
from bench.inference.kept_levels import KeptLevels
from bench.inference.prediction import (
    SectionPrediction,
    check_normalisation,
    feed_section,
    foreground_channel,
)
from bench.inference.symmetries import IDENTITY
from bench.inference.tiles import Pixels, TiledSection, fit_batch, predict_tiles
from bench.inference.volume_feed import Shape3d
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.networks import find_network
from bench.postprocess.ball_opening import are_cubes

# Rules by which three probabilities become one level.
MEAN_OF_PLANES, PUBLISHED_PLANES = "mean", "published"
_AXES = range(3)
# Bytes of the volume, or of what was predicted of it, that are held at a time.
_BAND_BYTES = 2**26
_RAW = "raw"
_FOREGROUND, _BOUNDARY = "foreground", "boundary"
_OWN_MAPS = (_FOREGROUND, _BOUNDARY)
_TOP = 255


def check_orthoplanes(
    info: ModelInfo, voxel_size_nm: Sequence[float], augmentations: Sequence[str]
) -> None:
    """Raises BenchError where a model cannot be applied along z, y and x.

    Args:
        info: What the model is.
        voxel_size_nm: Edges of a voxel of the volume along z, y, x.
        augmentations: Symmetries that it is to be averaged over.
    """
    network = find_network(info.architecture)
    if network.dims == 3:
        raise BenchError(
            f"planes along z, y and x are for networks of sections, {info.architecture} sees "
            "volumes: leave planes=xy"
        )
    if network.finds_instances or not network.tiled:
        raise BenchError(
            f"planes along z, y and x are averaged as probabilities, {info.architecture} finds "
            "instances itself, which have no mean: leave planes=xy"
        )
    if tuple(augmentations) != (IDENTITY,):
        raise BenchError(
            "planes along z, y and x are predicted as they are, received augmentations "
            f"{', '.join(augmentations)}: use augmentations=none, or planes=xy"
        )
    if not are_cubes(voxel_size_nm):
        edges = " x ".join(f"{edge:g}" for edge in voxel_size_nm)
        ratio = max(voxel_size_nm) / min(voxel_size_nm)
        raise BenchError(
            "planes along z, y and x are alike in isotropic volumes alone, received voxels of "
            f"{edges} nm (z, y, x), {ratio:.3g} to 1: leave planes=xy, or resample the volume"
        )


def join_probabilities(along: Sequence[np.ndarray], rule: str) -> np.ndarray:
    """Makes one of the probabilities along three axes.

    Args:
        along: Three arrays of one shape, float32, 0 to 1.
        rule: ``mean``, or ``published``.

    Returns:
        Levels uint8: round(255 times the mean), or the sum of the floors of 255 p / 3.

    Examples:
        >>> planes = [np.full(1, 0.505, np.float32)] * 3
        >>> [int(join_probabilities(planes, rule)[0]) for rule in ("mean", "published")]
        [129, 126]
    """
    parts = [np.asarray(each, np.float32) for each in along]
    if rule == PUBLISHED_PLANES:
        floors = [np.floor(part * np.float32(_TOP) / np.float32(3)) for part in parts]
        return np.asarray(np.sum(floors, axis=0), dtype=np.uint8)
    mean = (parts[0] + parts[1] + parts[2]) / np.float32(3)
    return np.asarray(np.rint(mean * np.float32(_TOP)), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Orthoplanes:
    """A model of sections for whole volumes of cubic voxels.

    Attributes:
        weights: Its checkpoint.
        compute: Where it runs.
        structure: What is looked for.
        rule: ``mean`` or ``published``.
        keep_classes: Whether maps of all classes are wanted, of a model that has any.
    """

    weights: Path
    compute: Compute
    structure: str
    rule: str
    keep_classes: bool = False

    def predict(
        self,
        read_planes: Callable[[int, int], np.ndarray],
        shape: Shape3d,
        pixel_size_nm: float | None,
        folder: Path,
        advance: Callable[[int], None],
    ) -> Iterator[tuple[int, list[SectionPrediction]]]:
        """Yields the number of a plane, and the maps of some planes from it on, in order of z.

        Args:
            read_planes: From the first plane and the one after the last to raw values (z, y, x).
            shape: Shape of the volume.
            pixel_size_nm: Edge of a voxel, by which planes are resampled; None feeds them as they
                are.
            folder: Where what is predicted is kept, for the caller to remove: a plane that is
                finished is not predicted again.
            advance: Takes how many planes more are done, of the sum of the three sides.
        """
        info = load_info(self.weights)
        check_normalisation(info)
        network = open_network(self.weights, self.compute)
        channels = self._channels(info)
        kept = {
            (axis, name): KeptLevels.of_planes(
                folder / f"{axis}_{name}", _turned(shape, axis), np.float32
            )
            for axis in _AXES
            for name in channels
        }

        def predict(plane: np.ndarray) -> np.ndarray:
            return _predict_plane(network, plane, info, pixel_size_nm, self.compute)

        for axis in _AXES:
            done = kept[axis, _FOREGROUND].count(0)
            advance(done)
            planes = shape[axis]
            if done == planes:
                continue
            raw = _copy_raw(read_planes, shape, folder / _RAW)
            for number, plane in _planes_across(raw, axis, done):
                found = predict(plane)
                # The foreground comes last, and says that a plane is finished.
                for name, channel in reversed(channels.items()):
                    if kept[axis, name].count(0) <= number:
                        kept[axis, name].append(0, found[channel][None])
                advance(1)
        shutil.rmtree(folder / _RAW, ignore_errors=True)
        yield from self._join(kept, tuple(channels), shape)

    def _channels(self, info: ModelInfo) -> dict[str, int]:
        """The outputs that are kept, the foreground first."""
        channels = {_FOREGROUND: foreground_channel(info, self.structure)}
        if _BOUNDARY in info.outputs:
            channels[_BOUNDARY] = info.outputs.index(_BOUNDARY)
        if self.keep_classes and info.classes:
            channels |= {f"class{number}": number for number in range(len(info.outputs))}
        return channels

    def _join(
        self, kept: dict[tuple[int, str], KeptLevels], names: tuple[str, ...], shape: Shape3d
    ) -> Iterator[tuple[int, list[SectionPrediction]]]:
        step = max(1, _BAND_BYTES // (3 * 4 * shape[1] * shape[2]))
        for start in range(0, shape[0], step):
            band = slice(start, start + step)
            maps = {
                name: join_probabilities(
                    [_turn_back(kept[axis, name].open(), axis, band) for axis in _AXES], self.rule
                )
                for name in names
            }
            classes = [levels for name, levels in maps.items() if name not in _OWN_MAPS]
            yield (
                start,
                [
                    SectionPrediction(
                        foreground,
                        maps[_BOUNDARY][number] if _BOUNDARY in maps else None,
                        classes=np.stack([each[number] for each in classes]) if classes else None,
                    )
                    for number, foreground in enumerate(maps[_FOREGROUND])
                ],
            )


def _turned(shape: Shape3d, axis: int) -> Shape3d:
    """The shape of a volume whose planes are those across an axis."""
    depth, height, width = shape
    return ((depth, height, width), (height, depth, width), (width, depth, height))[axis]


def _turn_back(turned: np.ndarray, axis: int, band: slice) -> np.ndarray:
    """Some planes (z, y, x) of what is stored plane after plane across an axis."""
    if axis == 0:
        return turned[band]
    return turned[:, band].transpose((1, 0, 2) if axis == 1 else (1, 2, 0))


def _copy_raw(
    read_planes: Callable[[int, int], np.ndarray], shape: Shape3d, folder: Path
) -> np.ndarray:
    """The volume as a file that is read in any direction; what is copied is not copied again."""
    depth, height, width = shape
    first = read_planes(0, 1)
    kept = KeptLevels.of_planes(folder, shape, first.dtype)
    step = max(1, _BAND_BYTES // (first.itemsize * height * width))
    for start in range(kept.count(0), depth, step):
        kept.append(0, read_planes(start, min(depth, start + step)))
    return kept.open()


def _planes_across(raw: np.ndarray, axis: int, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields number and pixels of the planes across an axis, from one on; some are read at once."""
    planes = raw.shape[axis]
    step = max(1, _BAND_BYTES * planes // raw.nbytes)
    for start in range(first, planes, step):
        part = np.moveaxis(raw, axis, 0)[start : start + step]
        yield from enumerate(np.array(part), start=start)


def _predict_plane(
    network: torch.nn.Module,
    raw: np.ndarray,
    info: ModelInfo,
    pixel_size_nm: float | None,
    compute: Compute,
) -> np.ndarray:
    """Probabilities (channels, y, x) of a plane, float32, as of a section but for the rounding."""
    fed: Pixels = feed_section(raw, info, pixel_size_nm)
    section = TiledSection(fed, info.tile_px, info.halo_px, Moments.of(fed))
    found = np.empty((len(info.outputs), *fed.shape), np.float32)
    remedy = f"lower tile_px (now {info.tile_px}) when you train, or use device=cpu"
    with explain_out_of_memory("a tile and its halo", remedy):
        for corners in section.batches(fit_batch(compute, info.tile_px + 2 * info.halo_px)):
            tiles = predict_tiles(
                network, section.read(corners), info.halo_px, compute, classes=bool(info.classes)
            )
            for (y, x), tile in zip(corners, tiles.cpu().numpy(), strict=True):
                place = found[:, y : y + info.tile_px, x : x + info.tile_px]
                place[...] = tile[:, : place.shape[1], : place.shape[2]]
    if fed.shape == raw.shape:
        return found
    return np.stack([np.concatenate(list(resize_bands(each, raw.shape))) for each in found])
