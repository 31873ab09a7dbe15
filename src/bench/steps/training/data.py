"""The annotated sections that a training reads, and what the runs of trainings have in common."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.settings import StepConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.partial import (
    foreground_of_annotated,
    is_partial,
    read_ignore_levels,
    read_ignored,
)
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.feeding import resize_labels, resize_section
from bench.inference.prediction import model_shape
from bench.methods import Method
from bench.models.checkpoint import ModelInfo
from bench.models.grey_values import GREY, GreyValues
from bench.models.scales import find_scale_warnings
from bench.steps.training.minutes import check_minutes, first_rate, follow_the_clock
from bench.structures import TISSUE_SIZES, split_structures
from bench.tracking.runs import Run
from bench.training.loop import LoopSettings, Progress
from bench.words import AUTO

log = logging.getLogger(__name__)
_Config = TypeVar("_Config", bound=StepConfig)
# Training sections whose grey values are measured: all of a data set were recorded alike.
_MEASURED_SECTIONS = 8
# A patch should show this many instances side by side.
_INSTANCES_IN_A_PATCH = 2
# Settings that are a method's own where the user leaves them open.
_OF_THE_METHOD = (
    *("loss", "optimiser", "lr", "schedule", "weight_decay", "normalisation", "features"),
    *("transfer", "freeze", "batch_norm", "balance"),
)


@dataclass(frozen=True)
class TrainingData:
    """The sections of a training, and the scale at which the network sees them.

    Labels are (y, x), those of several structures (structures, y, x).

    Attributes:
        dataset: The prepared dataset.
        structure: Name of the structure, or of several that one model learns.
        names: Training sections whose annotation is used.
        fed_nm: Pixel size (nm) at which they are fed; None if not known.
    """

    dataset: PreparedDataset
    structure: str
    names: tuple[str, ...]
    fed_nm: float | None

    @classmethod
    def choose(
        cls,
        dataset: PreparedDataset,
        structure: str,
        *,
        labelled: int | None,
        seed: int,
        fed_nm: float | None,
    ) -> "TrainingData":
        """Chooses the training sections: all, or as many as ``labelled`` says.

        The few are drawn by the seed, those with instances first. A larger number keeps the
        sections of a smaller one, so that a learning curve adds sections and swaps none.

        Raises:
            BenchError: If there are fewer training sections.
        """
        names, structures = list(dataset.sections("train")), split_structures(structure)
        for each in structures:
            if dataset.instances("train", each) == 0:
                raise BenchError(
                    f"training needs instances of {each}, the {len(names)} training sections "
                    "have none: annotate some, or choose another split"
                )
        if labelled is None:
            return cls(dataset, structure, tuple(names), fed_nm)
        if labelled > len(names):
            raise BenchError(
                f"labelled must be at most the {len(names)} training sections there are, "
                f"received {labelled}: lower it, or annotate more"
            )
        drawn = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        # Those with instances of most structures.
        drawn.sort(
            key=lambda name: sum(not dataset.read_labels(name, each).any() for each in structures)
        )
        return cls(dataset, structure, tuple(drawn[:labelled]), fed_nm)

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that its labels are of."""
        return split_structures(self.structure)

    @property
    def kind(self) -> str:
        """What they are, for people."""
        return "sections"

    def train(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Reads raw and labels (y, x) of the training sections, at the scale they are fed at."""
        return [self.at_fed_scale(*self.read(name)) for name in self.names]

    def foreground_fraction(self) -> float:
        """Share of the pixels of the training sections that are in the structure."""
        if self.names == self.dataset.sections("train"):
            return self.dataset.foreground_fraction("train", self.structure)
        return foreground_of_annotated(self.dataset, self.names, self.structure)

    def usual_diameter_px(self) -> float:
        """Diameter (px, as they are fed) of instances: half of the foreground is in smaller ones.

        Specks, which are many and hold little, do not count. Of a disk of the same area.
        """
        read, cells = self.dataset.read_labels, itertools.product(self.names, self.structures)
        areas = np.concatenate([np.bincount(read(*cell).ravel())[1:] for cell in cells])
        areas.sort()
        usual_px = areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]
        own_nm = self.dataset.pixel_size_nm
        scale = own_nm / self.fed_nm if own_nm and self.fed_nm else 1.0
        return 2 * math.sqrt(usual_px / math.pi) * scale

    def ignored(self, split: str = "train") -> list[np.ndarray]:
        """Where the sections of a split are not annotated; empty where all of it is.

        Args:
            split: The training sections, or those of another split.
        """
        if not is_partial(self.dataset, self.structures, (split,)):
            return []
        names = self.names if split == "train" else self.dataset.sections(split)
        return [self.ignored_in(name) for name in names]

    def ignored_in(self, name: str) -> np.ndarray:
        """Where a section is not annotated, bool (y, x), at the scale it is fed at.

        Of several structures, where one of them is not.
        """
        own = self.dataset.shape(name)
        shape = model_shape(own, self.fed_nm, self.dataset.pixel_size_nm)
        opened = read_ignored(self.dataset, name, self.structures)
        return np.zeros(shape, bool) if opened is None else resize_labels(opened, shape)

    def validation_levels(self) -> dict[str, np.ndarray]:
        """What of the validation sections is not annotated, by name: see ``metrics.overlap``.

        Of several structures, where one of them is not. Sections that are annotated whole are none.
        """
        found: dict[str, np.ndarray] = {}
        for name in self.dataset.sections("val"):
            if len(self.structures) > 1:
                opened = read_ignored(self.dataset, name, self.structures)
                levels = None if opened is None else opened.astype(np.uint8)
            else:
                levels = read_ignore_levels(self.dataset, name, self.structure)
            if levels is not None:
                found[name] = levels
        return found

    def validation(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Reads raw and labels of the validation sections by name, at their own scale."""
        return {name: self.read(name) for name in self.dataset.sections("val")}

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads raw and labels of a section."""
        labels = [self.dataset.read_labels(name, each) for each in self.structures]
        return self.dataset.read_raw(name), np.stack(labels) if len(labels) > 1 else labels[0]

    def at_fed_scale(self, raw: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resamples a section where it is fed at another pixel size than its own."""
        shape = model_shape(raw.shape, self.fed_nm, self.dataset.pixel_size_nm)
        if shape == raw.shape:
            return raw, labels
        if labels.ndim > raw.ndim:
            return resize_section(raw, shape), np.stack([resize_labels(e, shape) for e in labels])
        return resize_section(raw, shape), resize_labels(labels, shape)


def fed_pixel_size(
    source: ModelInfo | None, dataset: PreparedDataset, *, rescale: bool
) -> float | None:
    """Pixel size (nm) at which a dataset is fed: the source's, or its own without one."""
    if rescale and source and source.input_pixel_size_nm and dataset.pixel_size_nm:
        return source.input_pixel_size_nm
    return dataset.pixel_size_nm


def note_grey_values(info: ModelInfo, dataset: PreparedDataset) -> ModelInfo:
    """What a model is, with the grey values of the training sections, to be told from others."""
    grey = measure_training_sections(dataset).to_json()
    return dataclasses.replace(info, training={**info.training, GREY: grey})


def measure_training_sections(dataset: PreparedDataset) -> GreyValues:
    """Measures the grey values of training sections, of a few where there are many."""
    names = dataset.sections("train")
    few = names[:: math.ceil(len(names) / _MEASURED_SECTIONS)]
    return GreyValues.measure(dataset.read_raw(name) for name in few)


def with_defaults(config: _Config, method: Method) -> _Config:
    """A config that has the method's settings where the user left ``auto``.

    Raises:
        BenchError: If the method's row has a setting of a name that there is not.
    """
    by_minutes = getattr(config, "minutes", None) is not None
    check_minutes(config)
    left_open = [name for name in _OF_THE_METHOD if getattr(config, name, "") in (None, AUTO)]
    own = {name: getattr(method, name) for name in left_open}
    own = follow_the_clock(own) if by_minutes else own
    # A method without a loss has that of whoever trains its network.
    return dataclasses.replace(config, **{n: value for n, value in own.items() if value != ""})


def loop_settings(
    config: FinetuneConfig | DomainAdaptConfig | PretrainConfig | DetectConfig,
) -> LoopSettings:
    """Resolves the settings of the loop that may still be ``auto`` (see ``with_defaults``)."""
    epoch = config.epoch_iterations or min(250, max(50, config.iterations // 20))
    return LoopSettings(
        iterations=config.iterations,
        epoch_iterations=epoch,
        checkpoint_iterations=config.checkpoint_iterations or epoch,
        lr=first_rate(config),
        schedule=config.schedule,
        plateau_factor=config.plateau_factor,
        plateau_patience=config.plateau_patience,
        optimiser=config.optimiser,
        weight_decay=getattr(config, "weight_decay", None),
    )


def warn_of_scales(
    run: Run, infos: Iterable[ModelInfo | None], sizes: Iterable[float | None], *, rescale: bool
) -> None:
    """Says in a run which pixel sizes are implausible, or far from those of its models.

    Args:
        run: The run.
        infos: Its models; None has no size, such as random weights.
        sizes: Pixel sizes of its images in nm; None where they are not known.
        rescale: Whether images are resampled to each model's pixel size.
    """
    known = (size for size in sizes if size)
    for warning in find_scale_warnings(filter(None, infos), known, rescale=rescale):
        run.add_warning(warning)


def warn_of_patches(run: Run, data: TrainingData, patch_px: int) -> None:
    """Says in a run where sections are enlarged so far that a patch shows hardly an instance.

    Args:
        run: The run.
        data: The training sections, and the scale at which they are fed.
        patch_px: Edge of a patch in px.
    """
    for structure in data.structures:
        _warn_of_patches(run, data, structure, patch_px)


def _warn_of_patches(run: Run, data: TrainingData, structure: str, patch_px: int) -> None:
    size_nm, fed_nm = data.dataset.pixel_size_nm, data.fed_nm
    area_px = data.dataset.manifest["structures"][structure].get("median_area_px")
    usual = TISSUE_SIZES.get(structure)
    is_sheet = usual is not None and usual.measure != "diameter"
    if not (size_nm and fed_nm and area_px) or fed_nm >= size_nm or is_sheet:
        return
    across_nm, shown_nm = 2 * math.sqrt(area_px / math.pi) * size_nm, patch_px * fed_nm
    if shown_nm < _INSTANCES_IN_A_PATCH * across_nm:
        run.add_warning(
            f"a patch of {patch_px} px at {fed_nm:.3g} nm, as the source was trained, shows "
            f"{shown_nm:.0f} nm, and {structure} are {across_nm:.0f} nm across (median): give "
            f"rescale=false, by which it shows {patch_px * size_nm:.0f} nm, or a larger patch_px"
        )


def measure_network(run: Run, network: torch.nn.Module, compute: Compute) -> None:
    """Logs how many parameters a network has, and starts to watch the memory of its GPU."""
    run.log_facts({"model/parameters": sum(part.numel() for part in network.parameters())})
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)


def conclude_run(run: Run, what: str, progress: Progress, compute: Compute) -> None:
    """Logs what a training came to, and on a GPU the most memory that tensors took in MiB."""
    # Of no step: a bar beside those of other trainings, not a curve of one point.
    run.log_metrics({"best/dice": progress.best_score})
    log_training_costs(run, progress, compute)
    log.info(
        "%s: validation Dice %.3f at iteration %d, %.0f s of training, run %s",
        what,
        progress.best_score,
        progress.best_iteration,
        progress.elapsed_s,
        run.id,
    )


def log_training_costs(run: Run, progress: Progress, compute: Compute) -> None:
    """Logs when the best model was there, the seconds, and on a GPU the most memory in MiB."""
    run.log_facts({"best/iteration": progress.best_iteration})
    run.set_tags({"bench.train_seconds": f"{progress.elapsed_s:.1f}"})
    if compute.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(compute.device) / 2**20
        run.log_facts({"train/peak_gpu_mib": peak})


def log_checkpoints(run: Run, names: tuple[str, ...]) -> None:
    """Logs checkpoints of the work folder as artifacts, each with its description."""
    for name in names:
        weights = run.work / f"{name}.safetensors"
        run.log_file(weights, "checkpoint")
        run.log_file(weights.with_suffix(".json"), "checkpoint")
