"""The work of a grid, and the time and disk that it takes at a measured speed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig, MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes
from bench.inference.symmetries import find_augmentations, find_volume_augmentations
from bench.models.networks import Network, find_network
from bench.steps.grid.cells import GridCell, evaluation_configs, model_config
from bench.steps.grid.checks import Checked
from bench.steps.grid.measure import Speed
from bench.steps.training.data import loop_settings, with_defaults
from bench.steps.training.microsam_task import sam_loop_settings
from bench.training.loop import LoopSettings
from bench.training.pixels.fitting import USUAL_WORK

# A mean teacher's own forward pass, beside the three that a step of its student takes.
_WITH_TEACHER = 4 / 3
# Windows of a validation of a SAM; predictions of the whole split to choose a tile.
_SAM_WINDOWS, _CHOICES = 4, 3
# Of a parameter: in the best and the last checkpoint; in the state, with the optimiser's moments.
_CHECKPOINTS_BYTES, _STATE_BYTES = 8, 12


@dataclass(frozen=True)
class Workload:
    """What there is to do.

    Attributes:
        config: The settings of the benchmark, resolved.
        dataset: The prepared dataset.
        cells: The cells.
    """

    config: BenchmarkConfig
    dataset: PreparedDataset
    cells: list[GridCell]

    def trainings(self) -> list[GridCell]:
        """The cells whose model is made, adaptations included, each once."""
        made = [
            each.trained
            for cell in self.cells
            for each in (cell.adaptation, cell)
            if each and each.method.step
        ]
        return list(dict.fromkeys(made))

    def evaluations(self) -> list[tuple[GridCell, str]]:
        """The cells and the splits on which each is scored."""
        return [(c, split) for c in self.cells for split in evaluation_configs(c, self.config, "")]

    def seconds(self, speeds: Mapping[str, Speed], checked: Checked) -> float:
        """Seconds of all that is not finished; networks without a speed count as none.

        Args:
            speeds: Of the networks, by name.
            checked: What is finished, and the sources of the cells.
        """
        trainings = [
            self._training_s(cell, speeds[cell.method.network], checked)
            for cell in self.trainings()
            if cell not in checked.models and cell.method.network in speeds
        ]
        evaluations = [
            self._maps(cell, split)
            * self._split_s(cell, split, speeds[cell.method.network], checked)
            for cell, split in self.evaluations()
            if (cell, split) not in checked.evaluations and cell.method.network in speeds
        ]
        return sum(trainings) + sum(evaluations)

    def disk_bytes(self, speeds: Mapping[str, Speed], checked: Checked) -> float:
        """Bytes of what is kept at most, and of the state of one training that goes on."""
        sizes = [
            speeds[cell.method.network].parameters
            for cell in self.trainings()
            if cell not in checked.models and cell.method.network in speeds
        ]
        maps = sum(
            self._maps(cell, split) * _channels(cell) * self._pixels(cell, split)
            for cell, split in self.evaluations()
            if (cell, split) not in checked.evaluations
        )
        return _CHECKPOINTS_BYTES * sum(sizes) + _STATE_BYTES * max(sizes, default=0) + maps

    def _training_s(self, cell: GridCell, speed: Speed, checked: Checked) -> float:
        settings = with_defaults(model_config(cell, self.config), cell.method)
        if settings.minutes is not None:
            return 60 * settings.minutes
        if isinstance(settings, PretrainConfig | DetectConfig):
            return settings.iterations * _iteration_s(settings, speed)
        if isinstance(settings, MicrosamConfig):
            windows_s = _SAM_WINDOWS * speed.tile_s
            if settings.mode != "finetune":
                return windows_s
            share = settings.batch_size / max(1, speed.batch_size)
            loop = sam_loop_settings(settings)
            return loop.iterations * share * speed.iteration_s + _epochs(loop) * windows_s
        if speed.pixels:
            validation_s = self._split_s(cell, "val", speed, checked)
            names = self.dataset.sections("train")
            pixels = sum(math.prod(self.dataset.shape(name)) for name in names)
            training_px = round(pixels * (cell.labelled or len(names)) / len(names))
            work = USUAL_WORK[cell.method.network]
            return speed.pixels.training_s(work, training_px, validation_s)
        loop = loop_settings(settings)
        validations = _epochs(loop) + _other_validations(settings, cell, speed.network())
        validation_s = validations * self._split_s(cell, "val", speed, checked)
        return loop.iterations * _iteration_s(settings, speed) + validation_s

    def _maps(self, cell: GridCell, split: str) -> int:
        """Predictions of every section in an evaluation."""
        settings = evaluation_configs(cell, self.config, "")[split]
        volumes = find_volumes(self._scored(cell), split)
        if find_network(cell.method.network).dims == 3 and volumes:
            size_nm = volumes[0].voxel_size_nm
            return len(find_volume_augmentations(settings.augmentations, size_nm))
        return len(find_augmentations(settings.augmentations))

    def _split_s(self, cell: GridCell, split: str, speed: Speed, checked: Checked) -> float:
        """Seconds of a prediction of a split, at the pixel size of the cell's own source."""
        dataset = self._scored(cell)
        shapes = [dataset.shape(name) for name in dataset.sections(split)]
        task = checked.unadapted.get(cell) or checked.tasks.get(cell.trained)
        info = getattr(task, "info", speed.info)
        size_nm = dataset.pixel_size_nm if self.config.rescale else None
        planes = 1.0
        if size_nm and info.input_section_nm:
            planes = float(dataset.manifest["section_nm"]) / info.input_section_nm
        tiles = speed.count_tiles(shapes, size_nm, info.input_pixel_size_nm, planes)
        return tiles * speed.tile_s

    def _pixels(self, cell: GridCell, split: str) -> int:
        dataset = self._scored(cell)
        return sum(y * x for y, x in map(dataset.shape, dataset.sections(split)))

    def _scored(self, cell: GridCell) -> PreparedDataset:
        """What a cell is scored on."""
        return PreparedDataset.open(cell.external) if cell.external else self.dataset


def _channels(cell: GridCell) -> int:
    """Maps that an evaluation keeps: of classes, that of the structure and those of all."""
    return 2 + len(cell.classes) if cell.classes else len(cell.method.outputs)


def _iteration_s(
    settings: FinetuneConfig | DomainAdaptConfig | PretrainConfig | DetectConfig, speed: Speed
) -> float:
    """Seconds of an iteration, by its pixels."""
    network = speed.network()
    patch_px = settings.patch_px or network.fit_patch(None, speed.info.arguments)
    size = settings.batch_size or network.batch_size
    share = size * patch_px**2 / max(1, speed.batch_size * speed.patch_px**2)
    if network.dims == 3:
        share *= network.patch_planes(patch_px) / network.patch_planes(speed.patch_px)
    teacher = _WITH_TEACHER if isinstance(settings, DomainAdaptConfig) else 1.0
    return share * teacher * speed.iteration_s


def _other_validations(
    settings: FinetuneConfig | DomainAdaptConfig, cell: GridCell, network: Network
) -> int:
    """Predictions of the validation split beside those of the epochs."""
    if isinstance(settings, DomainAdaptConfig):
        return 1
    if network.dims == 3:
        return 0
    if settings.tile_px is None and settings.halo_px is None:
        return _CHOICES
    return int("boundary" in cell.method.outputs)


def _epochs(loop: LoopSettings) -> int:
    return -(-loop.iterations // loop.epoch_iterations)
