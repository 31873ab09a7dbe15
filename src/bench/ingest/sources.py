"""The annotated sections that were found in a user's files, before their pixels are read."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.hashing import path_sha256
from bench.core.names import first_names
from bench.dataset.prepared import PreparedDataset, ignore_key
from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.images.headers import ImageHeader, decode

# Hashing lets other threads run, and disks like to be asked for several files.
_HASHED_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One section that can be read: a plane of an image file, or annotation drawn over one.

    Attributes:
        files: The files that its pixels come from, by their paths relative to the tree's root;
            the first one stands for it in messages and in the manifest.
        page: The section in the file, from 0.
        header: What is known of it without its pixels.
        read: Reads its pixels (y, x).
        ids: Whether pixels are instance ids however few they are; those of a mask say it by
            their values.
        drawn: Draws the annotation, where it is drawn, and says what did not fit.
    """

    files: Mapping[str, Path]
    page: int
    header: ImageHeader
    read: Callable[[], np.ndarray]
    ids: bool = False
    drawn: Callable[[], DrawnLabels] | None = None

    @property
    def file(self) -> str:
        """The file that stands for it."""
        return next(iter(self.files))

    @property
    def place(self) -> str:
        """The file, with the number of the section if it is one of a stack; for messages."""
        return f"section {self.page} of {self.file}" if self.header.pages > 1 else self.file


@dataclass(frozen=True)
class SourceSection:
    """One annotated section.

    Attributes:
        split: train, val or test.
        stem: The files' name without ending; in a stack, with ``_zNN``.
        raw: Its raw image.
        labels: Its masks by structure.
        region: The annotated region, or the volume, that it is a section of; empty where each
            image stands for itself.
        number: Its number in the region's series, from 0; None where that is not known.
        ignored: By structure what of it is not annotated, as ``section_file`` keeps it.
    """

    split: str
    stem: str
    raw: SourceImage
    labels: Mapping[str, SourceImage]
    region: str = ""
    number: int | None = None
    ignored: Mapping[str, SourceImage] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the dataset."""
        return f"{self.split}-{self.stem}"

    @property
    def remedy(self) -> str:
        """What to do if it cannot be used."""
        if self.number is None:
            return "replace it, or remove it and its masks"
        ranges = ((0, self.number - 1), (self.number + 1, self.raw.header.pages - 1))
        kept = [str(a) if a == b else f"{a}-{b}" for a, b in ranges if a <= b]
        example = f", as in train={','.join(kept)}" if self.raw.header.pages > 1 else ""
        return f"replace it, or leave section {self.number} out of splits{example}"

    @property
    def images(self) -> dict[str, SourceImage]:
        """Its images by their HDF5 dataset."""
        return (
            {"raw": self.raw}
            | {f"labels/{key}": mask for key, mask in self.labels.items()}
            | {ignore_key(key): levels for key, levels in self.ignored.items()}
        )


@dataclass(frozen=True, eq=False)
class DatasetBase:
    """A prepared dataset that sections are added to.

    Attributes:
        dataset: The dataset.
        replaced: Names of its sections whose annotation comes anew.
    """

    dataset: PreparedDataset
    replaced: frozenset[str]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The manifest's entries of the sections that stay as they are."""
        return [entry for entry in self.dataset.entries if entry["name"] not in self.replaced]


@dataclass(frozen=True)
class SourceTree:
    """The sections of a folder tree; their pixels are not read yet.

    Attributes:
        given: The folder or file that the user named.
        root: The folder that names of files are relative to.
        sections: The sections by split, in natural order of their names.
        structures: The structures taken, in the order of `order_structures`.
        pixel_size_nm: Edge of a pixel in nm; None where it is not known.
        splits_rule: ``folders``, or the rule given.
        warnings: What was noticed and may be meant.
        section_nm: Distance of two sections in nm; None where it is not known.
        unlabelled: Images for adaptation, without labels and in no split.
        found: What the annotation holds, a line each, whether it is taken or not.
        base: What the sections are added to; None if they are a dataset of their own.
        volumes: Whether the sections are planes of volumes.
        published: Name, title, citation and licence of a public data set; empty of the user's own.
        ignore: What the user says is not annotated; empty where everything is.
    """

    given: Path
    root: Path
    sections: tuple[SourceSection, ...]
    structures: tuple[str, ...]
    pixel_size_nm: float | None
    splits_rule: str
    warnings: tuple[str, ...]
    section_nm: float | None = None
    unlabelled: tuple[SourceSection, ...] = ()
    found: tuple[str, ...] = ()
    base: DatasetBase | None = None
    volumes: bool = False
    published: Mapping[str, str] = field(default_factory=dict)
    ignore: str = ""


def mark_ids(masks: list[SourceImage]) -> list[SourceImage]:
    """Marks the sections of a stack that holds ids, so that one with a single id keeps it.

    Sections are read until two values are found, which in a stack of ids is soon; a single
    section says it by itself.
    """
    if len(masks) == 1:
        return masks
    values: set[float] = set()
    for mask in masks:
        pixels = mask.read()
        foreground = pixels[pixels != 0]
        if foreground.size:
            values |= {foreground.min(), foreground.max()}
        if len(values) > 1:
            return [replace(mask, ids=True) for mask in masks]
    return masks


def describe_notes(images: Iterable[SourceImage], *, sizes: bool) -> list[str]:
    """What the headers of images say that their user should know, a line for each kind.

    Args:
        images: The images.
        sizes: Whether their pixel sizes matter; they do not where the user gave one.
    """
    files: dict[str, dict[str, None]] = {}
    for image in images:
        header = image.header
        for note in (*header.notes, *([header.size_note] if sizes and header.size_note else [])):
            files.setdefault(note, {})[image.file] = None
    return [f"{first_names(list(named))}: {note}" for note, named in files.items()]


def source_hashes(tree: SourceTree) -> dict[str, str]:
    """Returns the SHA-256 of every file of a tree by its path relative to the root."""
    paths = source_files(tree)
    files = sorted(paths)
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        hashes = pool.map(lambda file: decode(paths[file], path_sha256), files)
        return dict(zip(files, hashes, strict=True))


def source_files(tree: SourceTree) -> dict[str, Path]:
    """Returns every file of a tree by its path relative to the root."""
    sections = (*tree.sections, *tree.unlabelled)
    images = [image for section in sections for image in section.images.values()]
    return {file: path for image in images for file, path in image.files.items()}
