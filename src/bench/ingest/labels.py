"""The labels of one image, from whatever files annotate it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.config.data import PrepareConfig
from bench.errors import BenchError
from bench.ingest.annotations.annotations import (
    Annotation,
    draw_pages,
    is_annotation,
    read_annotation,
)
from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.sizes import fit_objects
from bench.ingest.classes import OTHER, UNANNOTATED, ClassMap
from bench.ingest.images.formats import list_pages
from bench.ingest.pyto import is_pyto, split_pyto
from bench.ingest.rows import orient_labels
from bench.ingest.sources import SourceImage, mark_ids
from bench.ingest.tree import check_alike
from bench.structures import order_structures
from bench.words import AUTO


@dataclass
class ImageLabels:
    """The annotation of an image.

    Attributes:
        pages: Label images by structure, one per section of the image.
        kinds: Objects of every class, taken or not.
        painted: What label images hold, a line each.
        warnings: What was left out.
    """

    pages: dict[str, list[SourceImage]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    painted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, structure: str, pages: list[SourceImage]) -> None:
        """Adds the labels of a structure; a second file with it is an error."""
        if structure in self.pages:
            raise BenchError(
                f"an image must have one annotation of {structure}, received "
                f"{self.pages[structure][0].file} and {pages[0].file}: remove one"
            )
        self.pages[structure] = pages


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A file that annotates an image.

    Attributes:
        path: The file.
        name: Its name relative to the root.
        kind: The class that its name says; empty where it says none.
        annotation: What is drawn in it; None for a label image.
        config: Settings of prepare: from which end its rows are counted, as in `orient_labels`, and
            whether what is drawn over a copy of another size is scaled to the image.
    """

    path: Path
    name: str
    kind: str
    annotation: Annotation | None
    config: PrepareConfig


def open_label_file(
    root: Path, path: Path, image: Path, kind: str = "", *, config: PrepareConfig
) -> LabelFile:
    """Reads what is drawn in an annotation file; of a label image nothing yet.

    Args:
        root: The folder that names are relative to.
        path: The file.
        image: The image that it annotates.
        kind: The class that its name says.
        config: Settings of prepare.
    """
    annotation = read_annotation(path, image) if is_annotation(path) else None
    return LabelFile(path, path.relative_to(root).as_posix(), kind, annotation, config)


def label_structure(
    labels: ImageLabels,
    structure: str,
    file: LabelFile,
    root: Path,
    raw: Sequence[SourceImage],
    classes: ClassMap,
) -> None:
    """Adds the labels of a file all of whose annotation is of one structure, or has its values."""
    if file.annotation is None:
        found = take_structure(_list_masks(root, file.path, raw), structure, classes)
    else:
        pages = draw_pages(_fit_to(raw, file, file.annotation), raw, {file.name: file.path})
        found = {structure: pages}
        labels.warnings += file.annotation.warnings
    _add_oriented(labels, found, file, raw)


def label_by_class(
    files: Sequence[LabelFile],
    root: Path,
    raw: Sequence[SourceImage],
    classes: ClassMap,
    drawn: Sequence[str],
) -> ImageLabels:
    """Sorts what the files of an image hold by class.

    Args:
        files: The files. The values of a label image whose name says no class are classes or, for
            a single structure, ids.
        root: The folder that names are relative to.
        raw: The sections of the image.
        classes: Which class is which structure.
        drawn: The structures of all files in which objects are drawn; one without objects here
            is empty here, not missing.
    """
    labels = ImageLabels()
    for file in files:
        if file.annotation is not None:
            fitted = _fit_to(raw, file, file.annotation)
            drawn_here = file.annotation.objects
            labels.kinds += Counter(classes.class_of(item.kind, item.title) for item in drawn_here)
            labels.warnings += file.annotation.warnings
            found = {}
            for structure in drawn:
                objects = [
                    item
                    for item in fitted
                    if classes.find(classes.class_of(item.kind, item.title)) == structure
                ]
                found[structure] = draw_pages(objects, raw, {file.name: file.path})
        elif is_pyto(file.path):
            found = split_pyto(_list_masks(root, file.path, raw), classes)
            labels.painted.append(f"{file.name}: labels of Pyto, with {', '.join(found)}")
        elif named := classes.find(file.kind):
            wanted = classes.values_of(named)
            found = take_structure(_list_masks(root, file.path, raw), named, classes)
            what = f"values {', '.join(map(str, wanted))}" if wanted else "label image"
            labels.painted.append(f"{file.name}: {what}, taken as {named}")
        else:
            found = _find_painted(labels, _list_masks(root, file.path, raw), classes)
        _add_oriented(labels, found, file, raw)
    return labels


def _add_oriented(
    labels: ImageLabels,
    found: dict[str, list[SourceImage]],
    file: LabelFile,
    raw: Sequence[SourceImage],
) -> None:
    """Adds the labels that a file holds, with their rows in the order of those of the image."""
    oriented, lines = orient_labels(found, file.path, raw, file.config.rows)
    for structure, pages in oriented.items():
        labels.add(structure, pages)
    labels.warnings += lines


def drawn_structures(files: Iterable[LabelFile], classes: ClassMap) -> tuple[str, ...]:
    """The structures of which objects are drawn in some files."""
    kinds = {
        classes.class_of(item.kind, item.title)
        for file in files
        if file.annotation
        for item in file.annotation.objects
    }
    return order_structures(found for kind in kinds if (found := classes.find(kind)))


def _find_painted(
    labels: ImageLabels, masks: list[SourceImage], classes: ClassMap
) -> dict[str, list[SourceImage]]:
    """What a label image holds whose name says no class: semantic values, or ids of a structure."""
    values: dict[str, list[int]] = {}
    for pattern, structure in classes.rules:
        if pattern.isdecimal():
            values.setdefault(structure, []).append(int(pattern))
    for structure, wanted in values.items():
        numbers = ", ".join(map(str, wanted))
        labels.painted.append(f"{masks[0].file}: values {numbers}, taken as {structure}")
    if values.keys() - {UNANNOTATED}:
        found = {name: _take_values(masks, wanted) for name, wanted in values.items()}
        return found | ({OTHER: _take_all(masks)} if classes.sparse else {})
    if classes.everything or len(classes.wanted) != 1:
        raise BenchError(
            f"{masks[0].file} must say which structure it labels, received no class in its name: "
            "give -P structures=mitochondria if it holds instances of one, or "
            "-P structures=1=vesicles,2=mitochondria if its values are classes"
        )
    (structure,) = classes.wanted
    labels.painted.append(f"{masks[0].file}: label image, taken as {structure}")
    return take_structure(masks, structure, classes)


def take_structure(
    masks: list[SourceImage], structure: str, classes: ClassMap
) -> dict[str, list[SourceImage]]:
    """Takes what label images of a structure hold: its values, and those that nobody annotated.

    Args:
        masks: The sections of a label image.
        structure: What its name says.
        classes: Which values are it, if they are not all, and which mean "not annotated".

    Returns:
        The structure's own labels. With others of its name: where it is not annotated, and where,
        if only labels are, there is any.
    """
    wanted, ignored = classes.values_of(structure), classes.values_of(UNANNOTATED)
    if structure in (UNANNOTATED, OTHER):
        return {structure: _take_all(masks)}
    found = {structure: _take_values(masks, wanted)}
    if ignored:
        left = [replace(m, read=partial(_read_without, m, ignored), ids=False) for m in masks]
        found[structure] = _take_values(masks, wanted) if wanted else mark_ids(left)
        found[f"{UNANNOTATED}/{structure}"] = _take_values(masks, ignored)
    if classes.sparse and wanted:
        found[f"{OTHER}/{structure}"] = _take_all(masks)
    return found


def _take_all(masks: list[SourceImage]) -> list[SourceImage]:
    """Takes where label images have any label, as 0 and 1."""
    return [replace(m, read=partial(_read_any, m), ids=False) for m in masks]


def _read_any(mask: SourceImage) -> np.ndarray:
    return np.asarray(mask.read() != 0, np.uint8)


def _read_without(mask: SourceImage, values: list[int]) -> np.ndarray:
    """Reads a label image (y, x) without some of its values."""
    pixels = mask.read()
    return np.asarray(np.where(np.isin(pixels, values), pixels.dtype.type(0), pixels))


def _take_values(masks: list[SourceImage], values: list[int]) -> list[SourceImage]:
    """Takes only some values of label images, as 0 and 1; images as they are if none is named."""
    if not values:
        return masks
    return [replace(m, read=partial(_read_values, m, values), ids=False) for m in masks]


def _read_values(mask: SourceImage, values: list[int]) -> np.ndarray:
    """Reads where a label image has one of some values (y, x), as 0 and 1."""
    return np.isin(mask.read(), values).astype(np.uint8)


def _list_masks(root: Path, file: Path, raw: Sequence[SourceImage]) -> list[SourceImage]:
    masks = list_pages(root, file, labels=True)
    check_alike(raw[0], masks[0], pages=len(raw), mask_pages=len(masks))
    return mark_ids(masks)


def _fit_to(
    raw: Sequence[SourceImage], file: LabelFile, annotation: Annotation
) -> tuple[DrawnObject, ...]:
    """The objects of a file in px of its image, which must have their sections."""
    channels = raw[0].header.channels
    if channels > 1:
        raise BenchError(
            f"{raw[0].file} must hold one channel, as {file.name} is drawn over it, received "
            f"{channels} channels: save the one that was annotated as a file of its own (or, if "
            "they are sections, save them as slices, not as channels)"
        )
    sections = [section for item in annotation.objects for section in item.shapes]
    beyond = [section for section in sections if not 0 <= section < len(raw)]
    if beyond:
        raise BenchError(
            f"annotation of {file.name} must lie in the {len(raw)} sections of {raw[0].file}, "
            f"received some in section {beyond[0]} (counted from 0): give the whole stack, or "
            "export the annotation of this image alone"
        )
    return fit_objects(
        annotation.objects,
        annotation.size,
        raw[0].header.shape,
        scale=file.config.scale == AUTO,
        where=file.name,
        image=raw[0].file,
    )
