"""What a training on volumes shows while it runs: as sections do, with three planes of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import (
    Volume,
    find_volumes,
    plane_reader,
    read_volume,
    read_volume_levels,
)
from bench.inference.volumes import predict_volume
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score, find_open
from bench.recipe.scores import threshold_level
from bench.report.figures.overlays import draw_overlay, hatch_ignored
from bench.report.figures.planes import choose_planes, lay_out_planes
from bench.report.figures.scale_bar import draw_scale_bar
from bench.steps.training.reports.sections import TrainingReport
from bench.steps.training.volumes import known_voxel_size

# Volumes shown, and the edge in px of the piece of each, around most of the structure.
_SHOWN_VOLUMES = 3
_SHOWN_PX = 256


@dataclass(frozen=True, eq=False)
class _Piece:
    """The part of a volume that is shown.

    Attributes:
        window: Where it lies in the volume (z, y, x).
        raw: Its grey values.
        truth: Whether a voxel is annotated.
        place: The voxel in it through which the planes are laid (z, y, x).
        prediction: Whether a voxel was found last; nothing before the first validation.
        ignored: Whether nobody annotated a voxel; None where all of it is annotated.
    """

    window: tuple[slice, slice, slice]
    raw: np.ndarray
    truth: np.ndarray
    place: tuple[int, int, int]
    prediction: np.ndarray
    ignored: np.ndarray | None = None

    def take(self, start: int, found: np.ndarray) -> None:
        """Keeps what it shows of planes (z, y, x) of a prediction, of which the first is given."""
        planes, rows, columns = self.window
        first, end = max(start, planes.start), min(start + len(found), planes.stop)
        if first < end:
            self.prediction[first - planes.start : end - planes.start] = found[
                first - start : end - start, rows, columns
            ]


class VolumeTrainingReport(TrainingReport):
    """Callbacks of the training loop whose validation is of volumes, by slabs of planes."""

    def __init__(
        self, *, dataset: PreparedDataset, structure: str, threshold: float, **others: Any
    ) -> None:
        """Starts a report.

        Args:
            dataset: What has the validation volumes.
            structure: What is looked for in them.
            threshold: Probability from which a voxel counts as foreground.
            others: As for ``TrainingReport``, whose sections there are none of.
        """
        self.dataset, self.structure = dataset, structure
        self.level = threshold_level(threshold)
        self.volumes = find_volumes(dataset, "val")
        self.pieces = {
            volume.name: _cut_piece(dataset, volume, structure)
            for volume in self.volumes[:_SHOWN_VOLUMES]
        }
        super().__init__(sections={}, pixel_size_nm=dataset.pixel_size_nm, **others)

    def validate(self, network: torch.nn.Module) -> float:
        """Predicts the validation volumes as evaluate does; returns Dice over all their voxels."""
        self.network = network
        counts = PixelCounts(0, 0, 0, 0)
        for volume in self.volumes:
            counts += self._count(network, volume)
        return dice_score(counts)

    def _count(self, network: torch.nn.Module, volume: Volume) -> PixelCounts:
        counts = PixelCounts(0, 0, 0, 0)
        read_labels = plane_reader(self.dataset, volume, f"labels/{self.structure}")
        piece = self.pieces.get(volume.name)

        def score(start: int, levels: np.ndarray) -> None:
            nonlocal counts
            found = levels >= self.level
            stop = start + len(levels)
            here = slice(start, stop)
            opened = read_volume_levels(self.dataset, volume, self.structure, here)
            counts += count_pixels(
                truth=read_labels(start, stop), prediction=found, ignored=find_open(opened)
            )
            if piece is not None:
                piece.take(start, found)

        predict_volume(
            network,
            self.info,
            self.compute,
            read_planes=plane_reader(self.dataset, volume),
            shape=volume.shape,
            voxel_size_nm=known_voxel_size(volume),
            write_planes=score,
        )
        return counts

    def log_overlays(self, iteration: int) -> None:
        """Logs three planes of the same few volumes; before training, all is still missed."""
        for volume in self.volumes[:_SHOWN_VOLUMES]:
            piece, voxel_size_nm = self.pieces[volume.name], known_voxel_size(volume)
            raw, truth, prediction = (
                lay_out_planes(each, piece.place, voxel_size_nm or (1.0, 1.0, 1.0))
                for each in (piece.raw, piece.truth, piece.prediction)
            )
            ignored = piece.ignored
            if ignored is not None:
                ignored = lay_out_planes(ignored, piece.place, voxel_size_nm or (1.0, 1.0, 1.0))
                raw, prediction = hatch_ignored(raw, ignored), prediction & ~ignored
            overlay = draw_overlay(raw, truth=truth, prediction=prediction)
            shown = draw_scale_bar(overlay, self.pixel_size_nm)
            self.run.log_image(shown, key=f"val/{volume.name}", step=iteration)


def _cut_piece(dataset: PreparedDataset, volume: Volume, structure: str) -> _Piece:
    """The piece of _SHOWN_PX around the middle of a volume's foreground, inside the volume."""
    read_labels = plane_reader(dataset, volume, f"labels/{structure}")
    sums = [np.zeros(side, np.int64) for side in volume.shape]
    for z in range(volume.shape[0]):
        (plane,) = read_labels(z, z + 1) != 0
        sums[0][z] = np.count_nonzero(plane)
        sums[1] += plane.sum(axis=1)
        sums[2] += plane.sum(axis=0)
    planes, rows, columns = (_window(counts) for counts in sums)
    window = planes, rows, columns
    raw, labels = (
        read_volume(dataset, volume, key, planes)[:, rows, columns]
        for key in ("raw", f"labels/{structure}")
    )
    truth, nothing = labels != 0, np.zeros(labels.shape, dtype=bool)
    opened = find_open(read_volume_levels(dataset, volume, structure, planes))
    ignored = None if opened is None else opened[:, rows, columns]
    return _Piece(window, raw, truth, choose_planes(truth, nothing), nothing, ignored)


def _window(counts: np.ndarray) -> slice:
    """The window of _SHOWN_PX around the median of a side's counts, inside the side."""
    middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    start = min(max(middle - _SHOWN_PX // 2, 0), max(len(counts) - _SHOWN_PX, 0))
    return slice(start, min(start + _SHOWN_PX, len(counts)))
