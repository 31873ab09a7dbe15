"""Sections that are added to a prepared dataset, whose validation and test stay as they are."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.names import first_names
from bench.dataset.checks import check_foreground
from bench.dataset.partial import check_partial, count_open, read_ignore_levels
from bench.dataset.prepared import SPLITS, VOLUMES, PreparedDataset
from bench.dataset.section_file import MaskCounter, warn_of_instances
from bench.errors import BenchError
from bench.ingest.adding.overlaps import Overlap, find_overlaps
from bench.ingest.images.headers import TOP_FIRST
from bench.ingest.rows import reverse_rows
from bench.ingest.sources import DatasetBase, SourceSection, SourceTree
from bench.ingest.tree import agree
from bench.postprocess.label_runs import find_label_runs

_JUDGED = ("val", "test")


def add_to_dataset(tree: SourceTree, dataset: PreparedDataset) -> SourceTree:
    """Makes a tree one of sections that are added to a dataset.

    A new section whose image is that of a training section takes its place, with the new
    annotation. Every other section of the dataset is kept as it is.

    Args:
        tree: The new sections, with their splits.
        dataset: The dataset; all its pixels are read.

    Raises:
        BenchError: If the new sections do not fit the dataset, an image of them is one of its
            validation or test sections, or the dataset is damaged.
    """
    dataset.verify()
    size_warnings = _check_pixel_size(tree, dataset)
    sections, structure_warnings = _take_structures(tree, dataset)
    overlaps = find_overlaps(sections, dataset)
    for overlap in overlaps:
        _check_unseen(overlap)
    same = {id(overlap.section): overlap for overlap in overlaps if overlap.same}
    replaced = [overlap.name for overlap in same.values()]
    if twice := sorted({name for name in replaced if replaced.count(name) > 1}):
        raise BenchError(
            f"an image must be added once, received several of {first_names(twice)}: remove all "
            "but one"
        )
    base = DatasetBase(dataset, frozenset(replaced))
    placed = [
        _take_place(same[id(section)], dataset) if id(section) in same else section
        for section in sections
    ]
    return replace(
        tree,
        sections=tuple(_name_apart(placed, base)),
        structures=dataset.structures,
        pixel_size_nm=dataset.pixel_size_nm,
        splits_rule=str(dataset.manifest["splits_rule"]),
        volumes=bool(dataset.manifest.get(VOLUMES)),
        section_nm=dataset.manifest.get("section_nm"),
        warnings=(
            *_lasting_warnings(dataset),
            *tree.warnings,
            *size_warnings,
            *structure_warnings,
            *_warn_of_parts(overlaps),
        ),
        unlabelled=(),
        base=base,
    )


def _check_pixel_size(tree: SourceTree, dataset: PreparedDataset) -> list[str]:
    """Raises BenchError unless the pixel sizes agree; returns a warning where only one is known."""
    ours, theirs = dataset.pixel_size_nm, tree.pixel_size_nm
    if ours is None:
        return [] if theirs is None else [
            f"pixel size {theirs:g} nm of the new sections is left out, because that of the "
            "dataset is not known: prepare it again with pixel_size_nm"
        ]  # fmt: skip
    if theirs is None:
        raise BenchError(
            f"new sections must have the pixel size of {dataset.root}, {ours:g} nm, received files "
            f"that state none: give -P pixel_size_nm={ours:g} if they have it"
        )
    if not agree(ours, theirs):
        raise BenchError(
            f"new sections must have the pixel size of {dataset.root}, {ours:g} nm, received "
            f"{theirs:g} nm: resample them, or give pixel_size_nm if their files are wrong"
        )
    return []


def _take_structures(
    tree: SourceTree, dataset: PreparedDataset
) -> tuple[list[SourceSection], list[str]]:
    """The sections with the structures of a dataset, all of which they must have."""
    for structure in dataset.structures:
        without = [section.stem for section in tree.sections if structure not in section.labels]
        if without:
            raise BenchError(
                f"new sections must be annotated for {structure} as those of {dataset.root} are, "
                f"received no masks of it for {first_names(without)}: add them (export takes "
                "several segmentations of the same images), empty where there is nothing"
            )
    sections = [
        replace(section, labels={name: section.labels[name] for name in dataset.structures})
        for section in tree.sections
    ]
    others = [name for name in tree.structures if name not in dataset.structures]
    if not others:
        return sections, []
    return sections, [f"{first_names(others)}: left out, because the dataset has no such structure"]


def _check_unseen(overlap: Overlap) -> None:
    """Raises BenchError where an image would be learned from, and judge what was learned."""
    kind = "which is" if overlap.same else "which has pixels of"
    found = f"received {overlap.section.raw.place}, {kind} {overlap.name}"
    if overlap.split in _JUDGED:
        raise BenchError(
            f"sections of validation and test must stay as they are and unseen in training, "
            f"{found}: leave it out of the input"
        )
    if overlap.section.split in _JUDGED:
        raise BenchError(
            f"sections of validation and test must be unseen in training, {found}: add it to "
            "train, or leave it out of the input"
        )


def _take_place(overlap: Overlap, dataset: PreparedDataset) -> SourceSection:
    """The section with name and place of the one that has its image, and its order of rows."""
    entry, section = dataset.find(overlap.name), overlap.section
    if overlap.turned:
        raw = reverse_rows(section.raw)
        rows = entry["datasets"]["raw"].get("rows", TOP_FIRST)
        section = replace(
            section,
            raw=replace(raw, header=replace(raw.header, rows=rows)),
            labels={name: reverse_rows(mask) for name, mask in section.labels.items()},
        )
    return replace(
        section,
        stem=overlap.name.removeprefix(f"{overlap.split}-"),
        region=entry["region"],
        number=entry["number"],
    )


def _name_apart(sections: Sequence[SourceSection], base: DatasetBase) -> Iterator[SourceSection]:
    """Yields the sections, with a number at the end of a name that the dataset has already."""
    taken = {entry["name"] for entry in base.kept}
    for section in sections:
        stem, number = section.stem, 1
        while section.name in taken:
            number += 1
            section = replace(section, stem=f"{stem}_{number}")
        taken.add(section.name)
        yield section


def _warn_of_parts(overlaps: Sequence[Overlap]) -> list[str]:
    parts = [f"{overlap.section.stem} / {overlap.name}" for overlap in overlaps if not overlap.same]
    if not parts:
        return []
    return [
        f"new sections share pixels with training sections, whose annotation is kept beside the "
        f"new one: {first_names(parts)}"
    ]


def _lasting_warnings(dataset: PreparedDataset) -> list[str]:
    """The warnings of a dataset but for those of its counts, which are counted anew."""
    summaries = dataset.manifest["structures"]
    counted = {line for name in summaries for line in warn_of_instances(name, summaries[name])}
    counted |= set(check_foreground(summaries))
    volumes = bool(dataset.manifest.get(VOLUMES))
    counted |= set(check_partial(dataset.manifest["sections"], summaries, "", volumes=volumes))
    return [line for line in dataset.manifest["warnings"] if line not in counted]


def copy_kept(base: DatasetBase, folder: Path, counter: MaskCounter) -> list[dict[str, Any]]:
    """Copies the files of the sections that are kept, and returns their entries of the manifest.

    Args:
        base: The dataset, and what is replaced of it.
        folder: The folder of the new version.
        counter: Takes the masks.
    """
    for entry in base.kept:
        shutil.copyfile(base.dataset.root / entry["file"], folder / entry["file"])
        for structure in base.dataset.structures:
            if mask := entry["datasets"].get(f"labels/{structure}"):
                runs = find_label_runs(base.dataset.read_labels(entry["name"], structure))
                region = entry.get("region", "")
                opened = count_open(read_ignore_levels(base.dataset, entry["name"], structure))
                counter.add(structure, entry["split"], region, runs, mask["mask"], opened)
    return base.kept


def order_entries(entries: list[dict[str, Any]], base: DatasetBase) -> list[dict[str, Any]]:
    """The entries by split, those of the dataset first and in its order."""
    places = {entry["name"]: place for place, entry in enumerate(base.dataset.entries)}
    splits = {split: place for place, split in enumerate(SPLITS)}
    last = len(places)
    return sorted(
        entries,
        key=lambda e: (splits.get(e["split"], len(splits)), places.get(e["name"], last)),
    )


def describe_additions(
    base: DatasetBase, sections: Sequence[SourceSection]
) -> list[dict[str, Any]]:
    """What a manifest says of the datasets that it came from, the oldest first."""
    names = [section.name for section in sections]
    step = {
        "to": base.dataset.content_hash,
        "sections": [name for name in names if name not in base.replaced],
        "annotated_anew": [name for name in names if name in base.replaced],
    }
    return [*base.dataset.manifest.get("additions", []), step]
