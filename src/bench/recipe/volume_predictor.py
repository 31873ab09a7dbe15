"""A recipe's models applied to a volume: its maps on disk, resumable, made one plane by plane."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.inference.device import Compute
from bench.inference.engines import with_recorded
from bench.inference.kept_levels import KeptLevels
from bench.inference.prediction import SectionPrediction
from bench.inference.symmetries import IDENTITY
from bench.inference.tile_store import has_maps, store_maps
from bench.inference.volume_feed import Shape3d
from bench.inference.volumes import check_volume, predict_volume_as_seen
from bench.models.checkpoint import ModelInfo, load_checkpoint
from bench.models.networks import find_network
from bench.recipe.orthoplanes import Orthoplanes, check_orthoplanes
from bench.recipe.predictor import Pass, RecipePredictor

# Takes how many planes more are done.
_Advance = Callable[[int], None]
_FOREGROUND, _BOUNDARY = "foreground", "boundary"


@dataclass(frozen=True, eq=False)
class _Whole:
    """The maps of a whole volume, on disk."""

    foreground: KeptLevels
    boundary: KeptLevels | None = None

    def plane(self, z: int) -> SectionPrediction:
        """The maps (y, x) of a plane."""
        boundary = None if self.boundary is None else next(self.boundary.planes(z))
        return SectionPrediction(next(self.foreground.planes(z)), boundary)

    def open(self) -> SectionPrediction:
        """The maps (z, y, x), read where they are used."""
        boundary = None if self.boundary is None else self.boundary.open()
        return SectionPrediction(self.foreground.open(), boundary)


@dataclass(frozen=True, eq=False)
class VolumePredictor:
    """The models of a recipe, of volumes or of sections, for whole volumes.

    Attributes:
        sections: The recipe, and those of its models that take sections, on their device.
        weights: The checkpoint of each model.
        compute: Where they run.
    """

    sections: RecipePredictor
    weights: Sequence[Path]
    compute: Compute

    @cached_property
    def of_volumes(self) -> tuple[int, ...]:
        """Numbers of the models that take volumes."""
        return tuple(n for n, info in enumerate(self.sections.infos) if takes_volumes(info))

    @cached_property
    def of_planes(self) -> tuple[int, ...]:
        """Numbers of the models of sections that are applied along all three axes."""
        volume = self.sections.recipe.volume
        if volume is None or volume.planes is None:
            return ()
        return tuple(n for n in range(len(self.sections.infos)) if n not in self.of_volumes)

    def check(self, shape: Shape3d, voxel_size_nm: tuple[float, float, float]) -> None:
        """Raises BenchError where a volume cannot be predicted."""
        augmentations = self.sections.recipe.augmentations
        for number in self.of_planes:
            check_orthoplanes(self.sections.infos[number], voxel_size_nm, augmentations)
        for number in self.of_volumes:
            check_volume(self.sections.infos[number], shape, self._fed_nm(voxel_size_nm))

    def count_steps(self, shape: Shape3d) -> int:
        """How many planes are predicted of a volume."""
        planes = shape[0] * (len(self._passes_of_volumes) + self._plane_by_plane)
        return planes + sum(shape) * len(self.of_planes)

    @property
    def _passes_of_volumes(self) -> list[Pass]:
        """Every model that takes volumes, under every augmentation."""
        return [each for each in self.sections.passes if each.member in self.of_volumes]

    @property
    def _plane_by_plane(self) -> bool:
        """Whether maps are predicted, or made one, plane by plane."""
        return len(self.sections.passes) > 1 or not (self.of_volumes or self.of_planes)

    def predict(
        self,
        read_planes: Callable[[int, int], np.ndarray],
        shape: Shape3d,
        voxel_size_nm: tuple[float, float, float],
        folder: Path,
        advance: _Advance,
    ) -> SectionPrediction:
        """Makes one map of a volume of all models. What is finished is not predicted again.

        Args:
            read_planes: From the first plane and the one after the last to raw values (z, y, x).
            shape: Shape of the volume.
            voxel_size_nm: Edges of a voxel along z, y, x.
            folder: Where maps, and what is finished of them, are kept, for the caller to remove.
            advance: Takes how many planes more are done.

        Returns:
            The maps (z, y, x), which are read from the folder where they are used.
        """
        found: dict[Pass, _Whole] = {
            each: _Whole(
                self._predict_volume(
                    each, read_planes, shape, voxel_size_nm, folder / _folder_of(each), advance
                )
            )
            for each in self._passes_of_volumes
        }
        for number in self.of_planes:
            found[Pass(number, IDENTITY)] = self._predict_planes(
                number, read_planes, shape, voxel_size_nm, folder / f"model{number}", advance
            )
        if not self._plane_by_plane:
            (only,) = found.values()
            return only.open()
        foreground, boundary = (
            KeptLevels.of_planes(folder / name, shape) for name in (_FOREGROUND, _BOUNDARY)
        )
        advance(foreground.count(0))
        for z in range(foreground.count(0), shape[0]):
            tiles = folder / "tiles" / str(z)
            for each, whole in found.items():
                maps = self.sections.maps_of(tiles, each)
                if not has_maps(maps):
                    store_maps(maps, whole.plane(z))
            raw = read_planes(z, z + 1)[0]
            plane = self.sections.predict(raw, voxel_size_nm[-1], tiles, lambda more: None)
            # The foreground comes last, and says that a plane is finished.
            if plane.boundary is not None and boundary.count(0) <= z:
                boundary.append(0, plane.boundary[None])
            foreground.append(0, plane.foreground[None])
            shutil.rmtree(tiles, ignore_errors=True)
            advance(1)
        return _Whole(foreground, boundary if boundary.count(0) == shape[0] else None).open()

    def _predict_planes(
        self,
        number: int,
        read_planes: Callable[[int, int], np.ndarray],
        shape: Shape3d,
        voxel_size_nm: tuple[float, float, float],
        folder: Path,
        advance: _Advance,
    ) -> "_Whole":
        """Predicts a volume by one of the models of sections, along z, y and x."""
        recipe = self.sections.recipe
        assert recipe.volume is not None
        assert recipe.volume.planes is not None
        foreground, boundary = (
            KeptLevels.of_planes(folder / name, shape) for name in (_FOREGROUND, _BOUNDARY)
        )
        if foreground.count(0) == shape[0]:
            advance(sum(shape))
            return _Whole(foreground, boundary if boundary.count(0) else None)
        compute = with_recorded(self.compute, recipe.members[number].engine)
        model = Orthoplanes(self.weights[number], compute, recipe.structure, recipe.volume.planes)
        size_nm = self.sections.fed_nm(voxel_size_nm[-1])
        for start, planes in model.predict(read_planes, shape, size_nm, folder / "along", advance):
            edges = [plane.boundary for plane in planes if plane.boundary is not None]
            # Joined again after a kill, planes that are kept come once more.
            for kept, levels in ((boundary, edges), (foreground, [p.foreground for p in planes])):
                if levels and kept.count(0) < start + len(levels):
                    kept.append(0, np.stack(levels[kept.count(0) - start :]))
        shutil.rmtree(folder / "along", ignore_errors=True)
        return _Whole(foreground, boundary if boundary.count(0) else None)

    def _predict_volume(
        self,
        each: Pass,
        read_planes: Callable[[int, int], np.ndarray],
        shape: Shape3d,
        voxel_size_nm: tuple[float, float, float],
        folder: Path,
        advance: _Advance,
    ) -> KeptLevels:
        """Predicts a volume by one of the models that take volumes, under one augmentation."""
        kept, told = KeptLevels.of_planes(folder, shape), 0
        if kept.count(0) == shape[0]:
            advance(shape[0])
            return kept

        def report(done: int, total: int) -> None:
            nonlocal told
            planes = done * shape[0] // total
            advance(planes - told)
            told = planes

        def write(start: int, levels: np.ndarray) -> None:
            left = levels[max(0, kept.count(0) - start) :]
            if len(left):
                kept.append(0, left)

        network, info = load_checkpoint(self.weights[each.member])
        predict_volume_as_seen(
            each.symmetry,
            network,
            info,
            self.compute,
            read_planes=read_planes,
            shape=shape,
            voxel_size_nm=self._fed_nm(voxel_size_nm),
            write_planes=write,
            progress=report,
            keep=folder / "fed",
        )
        shutil.rmtree(folder / "fed", ignore_errors=True)
        return kept

    def _fed_nm(
        self, voxel_size_nm: tuple[float, float, float]
    ) -> tuple[float, float, float] | None:
        """The voxel size by which a volume is resampled; None feeds it as it is."""
        return voxel_size_nm if self.sections.recipe.rescale else None


def _folder_of(each: Pass) -> str:
    """Where the map of a pass is kept."""
    turned = "" if each.symmetry == IDENTITY else f".{each.symmetry}"
    return f"model{each.member}{turned}"


def takes_volumes(info: ModelInfo) -> bool:
    """Whether a model takes volumes, not sections."""
    return find_network(info.architecture).dims == 3
