"""What is post-processed, matched and scored as one: a section, or a volume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.dataset.partial import read_ignore_levels
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import Volume, find_volumes, stack_levels
from bench.inference.prediction import SectionPrediction
from bench.inference.prediction_file import read_classes, read_mean, read_prediction
from bench.postprocess.instances import Instances
from bench.recipe.recipe import Recipe
from bench.recipe.sections import segment_by_recipe
from bench.recipe.volumes import StageReport, segment_volume


@dataclass(frozen=True, eq=False)
class Unit:
    """A section, or a volume, whose planes are sections of the dataset.

    Attributes:
        name: Its name in scores and pictures.
        sections: The section, or the planes in the order of z.
        dataset: The dataset that it is of.
        volume: The volume; None for a section.
    """

    name: str
    sections: tuple[str, ...]
    dataset: PreparedDataset
    volume: Volume | None = None

    @property
    def voxel_size_nm(self) -> tuple[float, ...] | None:
        """Edges of a voxel along z, y, x; None for a section."""
        return self.volume.voxel_size_nm if self.volume else None

    def read_raw(self) -> np.ndarray:
        """Reads its image, (y, x) or (z, y, x)."""
        return self._stack(self.dataset.read_raw)

    def read_labels(self, structure: str) -> np.ndarray:
        """Reads the ids of a structure, (y, x) or (z, y, x).

        Raises:
            BenchError: If the structure is not annotated in it.
        """
        return self._stack(lambda name: self.dataset.read_labels(name, structure))

    def read_levels(self, structure: str) -> np.ndarray | None:
        """Reads what of a structure is not annotated, (y, x) or (z, y, x); None if all of it is.

        See ``dataset.partial``.
        """
        planes = [read_ignore_levels(self.dataset, name, structure) for name in self.sections]
        if self.volume is None:
            return planes[0]
        return stack_levels(planes, self.volume.shape[1:])

    def read_prediction(self, file: Path, augmentation: str) -> SectionPrediction:
        """Reads the maps that an evaluation stored of it, under one augmentation."""
        return self._join([read_prediction(file, name, augmentation) for name in self.sections])

    def read_mean(self, file: Path, augmentations: Sequence[str]) -> SectionPrediction:
        """Reads the mean of its stored maps over augmentations."""
        return self._join([read_mean(file, name, augmentations) for name in self.sections])

    def read_classes(self, file: Path, augmentations: Sequence[str]) -> np.ndarray:
        """Reads the most probable class of every pixel, (y, x) or (z, y, x), by its stored maps."""
        return self._stack(lambda name: read_classes(file, name, augmentations))

    def _stack(self, read: Callable[[str], np.ndarray]) -> np.ndarray:
        if self.volume is None:
            return read(self.sections[0])
        return np.stack([read(name) for name in self.sections])

    def _join(self, planes: list[SectionPrediction]) -> SectionPrediction:
        """The maps of the planes as those of the volume.

        A model that finds instances itself does so plane by plane: in a volume its foreground
        counts alone.
        """
        if self.volume is None:
            return planes[0]
        boundaries = [plane.boundary for plane in planes if plane.boundary is not None]
        return SectionPrediction(
            np.stack([plane.foreground for plane in planes]),
            np.stack(boundaries) if len(boundaries) == len(planes) else None,
        )


def list_units(dataset: PreparedDataset, split: str, *, by_section: bool = False) -> list[Unit]:
    """Lists what of a split is scored as one: its volumes, else its sections.

    Args:
        dataset: The dataset.
        split: The split.
        by_section: Whether planes of volumes are taken one by one.

    Raises:
        BenchError: If the split has no sections.
    """
    if not by_section and (volumes := find_volumes(dataset, split)):
        return [Unit(each.name, each.sections, dataset, each) for each in volumes]
    return [Unit(name, (name,), dataset) for name in dataset.sections(split)]


def segment_unit(
    recipe: Recipe,
    unit: Unit,
    prediction: SectionPrediction,
    on_stage: StageReport | None = None,
) -> Instances:
    """Makes instances of the maps of a section or a volume by a recipe.

    Args:
        recipe: The recipe, of volumes where the unit is one.
        unit: The section or volume.
        prediction: Its maps.
        on_stage: Takes the labels after each stage of the spheres, or circles.
    """
    if recipe.volume is None or unit.volume is None:
        size_nm = unit.dataset.pixel_size_nm
        return segment_by_recipe(recipe, prediction, size_nm, unit.read_raw, on_stage)
    return segment_volume(recipe, prediction, unit.volume.voxel_size_nm, unit.read_raw, on_stage)
