"""A volume predicted as it is seen under a symmetry of its planes, back in its own geometry."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.inference.device import Compute
from bench.inference.symmetries import find_symmetries
from bench.inference.volume_feed import Shape3d
from bench.inference.volumes import predict_volume
from bench.models.checkpoint import ModelInfo


def predict_volume_as_seen(
    symmetry: str,
    network: torch.nn.Module,
    info: ModelInfo,
    compute: Compute,
    *,
    read_planes: Callable[[int, int], np.ndarray],
    shape: Shape3d,
    voxel_size_nm: tuple[float, float, float] | None,
    write_planes: Callable[[int, np.ndarray], None],
    progress: Callable[[int, int], None] | None = None,
    keep: Path | None = None,
) -> None:
    """Predicts the foreground of a volume whose planes are mirrored or turned before.

    The network sees the volume so, with windows of its own, and the axis of the beam stays z.

    Args:
        symmetry: Name of the symmetry.
        network: See `predict_volume`, as for all that follow.
        info: See there.
        compute: See there.
        read_planes: See there; the planes as they are.
        shape: See there; of the volume as it is.
        voxel_size_nm: See there.
        write_planes: See there; takes the levels back in the volume's geometry.
        progress: See there.
        keep: See there; of each symmetry another folder.

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
        network,
        info,
        compute,
        read_planes=lambda start, stop: np.ascontiguousarray(row.forward(read_planes(start, stop))),
        shape=(shape[z], shape[y], shape[x]),
        voxel_size_nm=voxel_size_nm,
        write_planes=lambda start, levels: write_planes(
            start, np.ascontiguousarray(row.inverse(levels))
        ),
        progress=progress,
        keep=keep,
    )
