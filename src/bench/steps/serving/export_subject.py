"""What an export is about: the instances of an evaluation, or a dataset's own annotation."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.config.data import ExportConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.export.stack import LabelStack, make_stack
from bench.inference.prediction_file import read_mean
from bench.ingest.images.formats import MRC_SUFFIXES
from bench.ingest.images.headers import BOTTOM_FIRST, TOP_FIRST
from bench.steps.scoring.recipes import read_evaluated
from bench.structures import find_structure, find_structures
from bench.tracking.evaluations import Evaluation, get_evaluation
from bench.tracking.queries import fetch_artifact
from bench.tracking.store import Store
from bench.words import AUTO

_NO_RUN = (AUTO, "none")
_DEFAULT_SPLIT = "val"


@dataclass(frozen=True)
class ExportSubject:
    """Labels to export.

    Attributes:
        dataset: The dataset that their sections are of.
        split: The split.
        structures: The structures.
        read: Reads the ids (y, x) of a section and structure.
        numbering: What tells, by section and structure, whose numbers these ids are: an id that
            two sections of one numbering share is one instance through both.
        run_id: The evaluation; empty for annotation.
        method: Row of METHODS of the evaluation; empty for annotation.
    """

    dataset: PreparedDataset
    split: str
    structures: tuple[str, ...]
    read: Callable[[str, str], np.ndarray]
    numbering: Callable[[str, str], Hashable]
    run_id: str = ""
    method: str = ""

    def sizes(self) -> dict[tuple[int, int], list[str]]:
        """The names of the sections by their height and width."""
        sizes: dict[tuple[int, int], list[str]] = {}
        for name in self.dataset.sections(self.split):
            height, width = self.dataset.find(name)["shape"]
            sizes.setdefault((height, width), []).append(name)
        return sizes

    def read_stack(self, names: Sequence[str], *, bottom_first: bool = False) -> LabelStack:
        """Reads sections of one size, with their image.

        Args:
            names: The sections.
            bottom_first: Whether the first row is to be the one that people see at the bottom.
        """
        turned = np.array([self.is_bottom_first(name) != bottom_first for name in names])
        labels = {structure: self.read_numbered(names, structure) for structure in self.structures}
        raw = np.stack([self.dataset.read_raw(name) for name in names])
        for pixels in (raw, *labels.values()):
            pixels[turned] = pixels[turned, ::-1]
        return make_stack(
            labels,
            raw=raw,
            names=tuple(names),
            pixel_size_nm=self.dataset.pixel_size_nm,
            section_nm=self.dataset.manifest.get("section_nm"),
        )

    def is_bottom_first(self, name: str) -> bool:
        """Whether the first row of a section is the one that 3dmod and Fiji show at the bottom."""
        raw = self.dataset.find(name)["datasets"]["raw"]
        # Datasets of earlier releases do not say it.
        unsaid = BOTTOM_FIRST if Path(raw["source"]).suffix.lower() in MRC_SUFFIXES else TOP_FIRST
        return bool(raw.get("rows", unsaid) == BOTTOM_FIRST)

    def read_numbered(self, names: Sequence[str], structure: str) -> np.ndarray:
        """Reads the ids (z, y, x) of sections, each instance with an id of its own."""
        images = [self.read(name, structure) for name in names]
        return number_instances(images, [self.numbering(name, structure) for name in names])


def find_export_subject(config: ExportConfig, store: Store) -> ExportSubject:
    """Finds what a config names.

    Raises:
        BenchError: If there is none, or the config contradicts itself.
    """
    dataset = PreparedDataset.open(config.dataset)
    if config.run_id in _NO_RUN:
        return _find_annotation(config, dataset)
    return _find_predicted(config, dataset, get_evaluation(store, config.run_id), store)


def _find_annotation(config: ExportConfig, dataset: PreparedDataset) -> ExportSubject:
    split = _DEFAULT_SPLIT if config.split == AUTO else config.split
    if config.structure == AUTO:
        structures = _list_annotated(dataset, split)
    else:
        named = find_structures(config.structure, dataset.structures)
        structures = tuple(structure.name for structure in named)

    def numbering(name: str, structure: str) -> Hashable:
        entry = dataset.find(name)["datasets"][f"labels/{structure}"]
        # The components of a mask are numbered in each section; ids are the file's.
        return entry["source"] if entry["mask"] == "ids" else name

    return ExportSubject(dataset, split, structures, dataset.read_labels, numbering)


def _list_annotated(dataset: PreparedDataset, split: str) -> tuple[str, ...]:
    """The structures that are annotated in every section of a split.

    An empty mask would say that a section has none of a structure, which nobody has looked for.
    """
    entries = [dataset.find(name)["datasets"] for name in dataset.sections(split)]
    found = tuple(s for s in dataset.structures if all(f"labels/{s}" in keys for keys in entries))
    if not found:
        raise BenchError(
            f"all sections of {split} must be annotated for a structure, received "
            f"{', '.join(dataset.structures)} in some of them only: prepare those alone"
        )
    return found


def _find_predicted(
    config: ExportConfig, dataset: PreparedDataset, found: Evaluation, store: Store
) -> ExportSubject:
    if found.dataset != dataset.content_hash:
        raise BenchError(
            f"run {found.id} evaluated a dataset of content {found.dataset[:12]}, received "
            f"{dataset.root} of content {dataset.content_hash[:12]}: give the dataset of the run"
        )
    if config.split not in (AUTO, found.split):
        raise BenchError(
            f"run {found.id} predicted {found.split}, received split={config.split}: leave split "
            "out, or evaluate that split"
        )
    if config.structure != AUTO and find_structure(config.structure).name != found.structure:
        raise BenchError(
            f"run {found.id} segmented {found.structure}, received structure={config.structure}: "
            "leave structure out, or give a run of that structure"
        )
    recipe = read_evaluated(found, store)
    predictions = fetch_artifact(store, found.id, "predictions.h5")

    def read(name: str, _: str) -> np.ndarray:
        prediction = read_mean(predictions, name, recipe.augmentations)
        return recipe.segment(prediction, dataset.pixel_size_nm).labels

    # A model sees one section at a time: its numbers start anew in each.
    return ExportSubject(
        dataset, found.split, (found.structure,), read, lambda name, _: name, found.id, found.method
    )


def number_instances(images: Sequence[np.ndarray], numberings: Sequence[Hashable]) -> np.ndarray:
    """Stacks ids of sections (y, x) so that different instances have different ids.

    Ids of a single numbering stay as they are; of several, they are numbered from 1 on.

    Args:
        images: Ids of each section.
        numberings: Whose numbers those are, by section.

    Returns:
        Ids (z, y, x).
    """
    if len(set(numberings)) == 1:
        return np.stack(images)
    values: dict[Hashable, np.ndarray] = {}
    for image, numbering in zip(images, numberings, strict=True):
        ids = np.unique(image[image != 0])
        values[numbering] = np.union1d(values.get(numbering, ids), ids)
    first = dict(zip(values, np.cumsum([1, *map(len, values.values())]), strict=False))
    instances = sum(map(len, values.values()))
    stack = np.zeros((len(images), *images[0].shape), np.min_scalar_type(instances))
    for section, image, numbering in zip(stack, images, numberings, strict=True):
        inside = image != 0
        section[inside] = np.searchsorted(values[numbering], image[inside]) + first[numbering]
    return stack
