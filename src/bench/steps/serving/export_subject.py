"""What an export is about: labels of sections with their images; and a dataset's annotation."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.config.data import LabelsConfig
from bench.dataset.partial import refuse_partial
from bench.dataset.prepared import PreparedDataset
from bench.dataset.volumes import find_volumes
from bench.errors import BenchError
from bench.export.sphere_table import SphereRow
from bench.export.stack import LabelStack, make_stack
from bench.ingest.images.formats import MRC_SUFFIXES
from bench.ingest.images.headers import BOTTOM_FIRST, TOP_FIRST
from bench.structures import find_structures
from bench.words import AUTO

DEFAULT_SPLIT = "val"


@dataclass(frozen=True, eq=False)
class ExportImage:
    """The image of a section.

    Attributes:
        shape: Height and width in px.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        bottom_first: Whether its first row is the one that 3dmod and Fiji show at the bottom.
        read: Reads its pixels (y, x).
        volume: Name of the volume that it is a plane of; empty where it is a single image.
        origin_nm: Where the first voxel of its volume lies, as z, y, x; None where not known.
    """

    shape: tuple[int, int]
    pixel_size_nm: float | None
    bottom_first: bool
    read: Callable[[], np.ndarray]
    volume: str = ""
    origin_nm: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class ExportSubject:
    """Labels to export.

    Attributes:
        images: The images of the sections, by name.
        split: The split that they are; of segmented images, that word.
        structures: The structures.
        read: Reads the ids (y, x) of a section and structure.
        numbering: What tells, by section and structure, whose numbers these ids are: an id that
            two sections of one numbering share is one instance through both.
        inputs: Hashes and ids of what the labels come from.
        settings: What else they depend on.
        section_nm: Distance of two sections in nm; None where it is not known.
        dataset: The dataset that their sections are of; None if they are of none.
        run_id: The run that made them; empty for annotation.
        method: Row of METHODS, or of a search; empty for annotation.
        warnings: What their reader must know.
        spheres: The spheres that are known, by structure, as their label images are stored.
    """

    images: Mapping[str, ExportImage]
    split: str
    structures: tuple[str, ...]
    read: Callable[[str, str], np.ndarray]
    numbering: Callable[[str, str], Hashable]
    inputs: Mapping[str, str]
    settings: Mapping[str, object] = field(default_factory=dict)
    section_nm: float | None = None
    dataset: PreparedDataset | None = None
    run_id: str = ""
    method: str = ""
    warnings: tuple[str, ...] = ()
    spheres: Mapping[str, Sequence[SphereRow]] = field(default_factory=dict)

    def groups(self) -> dict[str, list[str]]:
        """The names of the sections that belong together.

        Those of a volume do, by its name; others of one size and pixel size, by a name of these.
        """
        sizes = {image.pixel_size_nm for image in self.images.values()}
        groups: dict[str, list[str]] = {}
        for name, image in self.images.items():
            height, width = image.shape
            key = image.volume or f"{width}x{height}"
            if len(sizes) > 1 and not image.volume:
                key += f"_{image.pixel_size_nm:g}nm" if image.pixel_size_nm else "_unknown_nm"
            groups.setdefault(key, []).append(name)
        return groups

    def read_stack(self, names: Sequence[str], *, bottom_first: bool = False) -> LabelStack:
        """Reads sections of one size, with their image.

        Args:
            names: The sections.
            bottom_first: Whether the first row is to be the one that people see at the bottom.
        """
        images = [self.images[name] for name in names]
        turned = np.array([image.bottom_first != bottom_first for image in images])
        labels = {structure: self.read_numbered(names, structure) for structure in self.structures}
        raw = np.stack([image.read() for image in images])
        for pixels in (raw, *labels.values()):
            pixels[turned] = pixels[turned, ::-1]
        volume = images[0].volume
        return make_stack(
            labels,
            raw=raw,
            names=tuple(names),
            pixel_size_nm=images[0].pixel_size_nm,
            section_nm=self.section_nm,
            volume=volume,
            spheres=self._spheres_of(volume, images[0].shape[0] if turned[0] else None),
            origin_nm=images[0].origin_nm,
            split=self.split,
        )

    def _spheres_of(self, volume: str, turned_px: int | None) -> dict[str, list[SphereRow]]:
        """The spheres of a volume; with rows from the other end where it is said how many."""
        found = {
            structure: [row for row in rows if row.volume == volume]
            for structure, rows in self.spheres.items()
            if volume and structure in self.structures
        }
        if turned_px is None:
            return found
        return {
            structure: [replace(row, y=turned_px - 1 - row.y) for row in rows]
            for structure, rows in found.items()
        }

    def read_numbered(self, names: Sequence[str], structure: str) -> np.ndarray:
        """Reads the ids (z, y, x) of sections, each instance with an id of its own."""
        images = [self.read(name, structure) for name in names]
        return number_instances(images, [self.numbering(name, structure) for name in names])


def subject_of_split(
    dataset: PreparedDataset, split: str, structures: tuple[str, ...], **parts: Any
) -> ExportSubject:
    """Labels of the sections of a dataset's split; ``parts`` are the other fields."""
    images = {}
    for name, volume in _list_planes(dataset, split).items():
        height, width = dataset.shape(name)
        origin_nm = dataset.find(name)["datasets"]["raw"].get("origin_nm")
        images[name] = ExportImage(
            (height, width),
            dataset.pixel_size_nm,
            _is_bottom_first(dataset, name),
            partial(dataset.read_raw, name),
            volume,
            tuple(origin_nm) if origin_nm else None,
        )
    section_nm = dataset.manifest.get("section_nm")
    return ExportSubject(images, split, structures, section_nm=section_nm, dataset=dataset, **parts)


def _list_planes(dataset: PreparedDataset, split: str) -> dict[str, str]:
    """The sections of a split with the volume that each is a plane of; empty of single images."""
    volumes = find_volumes(dataset, split)
    if not volumes:
        return dict.fromkeys(dataset.sections(split), "")
    return {name: volume.name for volume in volumes for name in volume.sections}


def _is_bottom_first(dataset: PreparedDataset, name: str) -> bool:
    raw = dataset.find(name)["datasets"]["raw"]
    # Datasets of earlier releases do not say it.
    unsaid = BOTTOM_FIRST if Path(raw["source"]).suffix.lower() in MRC_SUFFIXES else TOP_FIRST
    return bool(raw.get("rows", unsaid) == BOTTOM_FIRST)


def export_annotation(config: LabelsConfig, dataset: PreparedDataset) -> ExportSubject:
    """The annotation of a dataset.

    Raises:
        BenchError: If it has no such structure or split.
    """
    split = DEFAULT_SPLIT if config.split == AUTO else config.split
    if config.structure == AUTO:
        structures = _list_annotated(dataset, split)
    else:
        named = find_structures(config.structure, dataset.structures)
        structures = tuple(structure.name for structure in named)

    refuse_partial(dataset, structures, "a file of annotation", (split,))

    def numbering(name: str, structure: str) -> Hashable:
        entry = dataset.find(name)["datasets"][f"labels/{structure}"]
        # The components of a mask are numbered in each section; ids are the file's.
        return entry["source"] if entry["mask"] == "ids" else name

    return subject_of_split(
        dataset,
        split,
        structures,
        read=dataset.read_labels,
        numbering=numbering,
        inputs={"evaluation": ""},
    )


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


def of_each_section(name: str, _: str) -> str:
    """A numbering of what a model found: it sees one section at a time, and begins anew in each."""
    return name


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
