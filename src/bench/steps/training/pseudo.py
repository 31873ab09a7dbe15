"""The pseudo-masks that a training learns from beside annotated sections."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import is_pseudo, read_unsure
from bench.dataset.shared_sections import find_shared_section
from bench.errors import BenchError
from bench.inference.feeding import resize_labels
from bench.methods import Method
from bench.models.networks import find_network
from bench.steps.training.data import TrainingData
from bench.tracking.opening import finished_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store
from bench.tracking.unlisted import find_pseudo
from bench.words import NONE

# What says how they are learned from, where there are any.
_SETTINGS = ("pseudo_weight", "pseudo_fraction")


@dataclass(frozen=True)
class PseudoMasks:
    """Sections whose objects a model found.

    Attributes:
        data: The sections, at the scale of the training.
        annotated: The dataset that is learned from besides, and validated on.
    """

    data: TrainingData
    annotated: PreparedDataset

    @property
    def digest(self) -> str:
        """Content hash of their dataset."""
        return self.data.dataset.content_hash

    @property
    def objects(self) -> int:
        """How many objects they have."""
        return self.data.dataset.instances("train", self.data.structure)

    @property
    def tag(self) -> str:
        """What tells a training with them from others, in tags and names of rows."""
        return f"{self.objects}-{self.digest[:8]}"

    def train(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Reads raw and labels (y, x) of the sections, at the scale at which they are fed."""
        return self.data.train()

    def unsure(self, shapes: Iterable[tuple[int, ...]]) -> list[np.ndarray]:
        """Where nobody is sure what they show, bool, each of the shape (y, x) that it is fed in."""
        structure = self.data.structure
        return [
            resize_labels(read_unsure(self.data.dataset, name, structure), shape)
            for name, shape in zip(self.data.names, shapes, strict=True)
        ]


def find_pseudo_masks(
    config: FinetuneConfig, method: Method, data: Any, store: Store
) -> PseudoMasks | None:
    """Finds the pseudo-masks that a config names; None without.

    Raises:
        BenchError: If there are none, they are not of the structure or not a model's, their pixel
            size alone is unknown, they show a section that validates or tests, or the method does
            not learn from them.
    """
    if config.pseudo == NONE:
        _check_unused(config)
        return None
    if not isinstance(data, TrainingData) or len(data.structures) > 1 or not learns_pseudo(method):
        raise BenchError(
            "pseudo-masks are of one structure of sections, and our own loop learns from them, "
            f"received pseudo={config.pseudo} with method {method.name}: choose another method"
        )
    if config.batch_size == 1:
        raise BenchError(
            "a batch has a patch of annotated sections and one of pseudo-masks at least, received "
            "batch_size=1: raise it"
        )
    dataset = _open_pseudo(config.pseudo, data.structure, store)
    if data.dataset.pixel_size_nm and not dataset.pixel_size_nm:
        raise BenchError(
            f"pseudo-masks must have a pixel size where the annotated sections have one "
            f"({data.dataset.pixel_size_nm:g} nm), received {dataset.root} without: make them of "
            "images whose pixel size is known"
        )
    shared = find_shared_section(data.dataset, ("val", "test"), dataset, ("train",))
    if shared:
        raise BenchError(
            f"what validates or tests is not learned from, section {shared[1]} of the pseudo-masks "
            f"{dataset.root} is {shared[0]} of {data.dataset.root}: make them of other images"
        )
    sections = dataclasses.replace(data, dataset=dataset, names=dataset.sections("train"))
    return PseudoMasks(sections, data.dataset)


def learns_pseudo(method: Method) -> bool:
    """Whether a method can learn from pseudo-masks: of one structure, of sections, by our loop."""
    network = find_network(method.network)
    by_us = network.dims == 2 and network.trained_by is None
    return method.step == "finetune" and by_us and not method.of_classes


def _open_pseudo(named: str, structure: str, store: Store) -> PreparedDataset:
    """Opens a dataset of pseudo-masks by the run that made it, or by its folder.

    Raises:
        BenchError: If it is none, was changed since, or has another structure.
    """
    folder, digest = (Path(named), "") if Path(named).is_dir() else find_pseudo(store, named)
    dataset = PreparedDataset.open(folder)
    if not is_pseudo(dataset):
        raise BenchError(
            f"pseudo names masks that a model made, received {folder}, a dataset of annotated "
            "sections: make some with -e pseudo, or give it as dataset"
        )
    if digest not in ("", dataset.content_hash):
        raise BenchError(
            f"pseudo-masks must be as run {named} made them, {folder} has changed since: make them "
            "again, or give the folder"
        )
    if structure not in dataset.structures:
        raise BenchError(
            f"pseudo-masks must be of the structure that is learned, received "
            f"{', '.join(dataset.structures)} in {folder} for {structure}: make others"
        )
    return dataset


def without_pseudo(config: FinetuneConfig) -> FinetuneConfig:
    """The settings of the same training on annotated sections alone."""
    defaults: dict[str, Any] = {name: getattr(FinetuneConfig(), name) for name in _SETTINGS}
    return dataclasses.replace(config, pseudo=NONE, **defaults)


def describe_gain(
    masks: PseudoMasks, config: FinetuneConfig, dice: float, plain: Identity, store: Store
) -> str:
    """Says what pseudo-masks brought on validation, which the table shows as a note of the row.

    Args:
        masks: Those of a training.
        config: Its settings.
        dice: Its validation Dice.
        plain: What the same training without them is.
        store: The tracking store, which may have that.
    """
    used = (
        f"learned from {masks.objects} pseudo-masks in {len(masks.data.names)} sections besides "
        f"(weight {config.pseudo_weight:g}): validation Dice {dice:.3f}"
    )
    other = finished_run(store, plain)
    if not other:
        return f"{used}; what they brought is not known, as the same training without is not there"
    before = store.client.get_run(other).data.metrics["best/dice"]
    sections = len(masks.annotated.sections("val"))
    return (
        f"{used}, {before:.3f} of the same training without (run {other}), {dice - before:+.3f}: "
        f"of one seed and {sections} validation section{'s' * (sections != 1)}, which may be chance"
    )


def _check_unused(config: FinetuneConfig) -> None:
    if config != without_pseudo(config):
        raise BenchError(
            f"{' and '.join(_SETTINGS)} say how pseudo-masks are learned from, received one "
            f"with pseudo={NONE}: add pseudo=ID, or leave it out"
        )


def resolved_pseudo(masks: PseudoMasks | None) -> dict[str, object]:
    """What a run's settings say of its pseudo-masks; nothing without any."""
    if masks is None:
        return {}
    return {
        "pseudo": str(masks.data.dataset.root),
        "pseudo_content": masks.digest,
        "pseudo_sections": len(masks.data.names),
        "pseudo_objects": masks.objects,
    }
