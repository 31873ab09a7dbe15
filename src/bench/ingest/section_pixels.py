"""The pixels of one section: read, checked and measured; hashed and written."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.dataset.checks import check_raw, read_instances
from bench.dataset.partial import SHARE, count_open
from bench.dataset.prepared import (
    IGNORE,
    IMAGE_OF,
    SCHEMA,
    UNLABELLED,
    hash_array,
    hash_section,
    ignore_key,
)
from bench.dataset.section_file import write_section_file
from bench.ingest.images.headers import TOP_FIRST
from bench.ingest.inspection.measures import MaskMeasures, standardise_sample
from bench.ingest.inspection.orientation import measure_fits
from bench.ingest.inspection.reading import measure_mask
from bench.ingest.sources import SourceImage, SourceSection, SourceTree
from bench.postprocess.label_runs import LabelRuns, find_label_runs


@dataclass(frozen=True, eq=False)
class ReadSection:
    """The pixels of a section.

    Attributes:
        arrays: Its images (y, x) by HDF5 dataset.
        runs: The runs of each but ``raw``.
        masks: What was measured in each mask, by structure.
    """

    arrays: Mapping[str, np.ndarray]
    runs: Mapping[str, LabelRuns]
    masks: Mapping[str, MaskMeasures]


class SectionWriter:
    """Hashes and writes section after section."""

    def __init__(self, folder: Path, tree: SourceTree, sources: Mapping[str, str]) -> None:
        """Begins with nothing written; sources are the hashes of the tree's files."""
        self._folder, self._sources = folder, sources
        self._schema, self._pixel_size_nm = schema_of(tree), tree.pixel_size_nm
        self._written: dict[str, dict[str, Any]] = {}

    def write(self, section: SourceSection, read: ReadSection) -> tuple[dict[str, Any], str]:
        """Writes the file of a section; returns its entry of the manifest, and its image's hash."""
        hashes = {
            key: hash_array(key, pixels, self._schema, read.runs.get(key))
            for key, pixels in read.arrays.items()
        }
        image = hashes["raw"]
        entry = _describe_section(section, read, self._sources)
        entry["content_hash"] = hash_section(section.name, section.split, hashes)
        same = self._written.get(image)
        if section.split == UNLABELLED and same:
            return entry | {"file": same["file"], IMAGE_OF: same["name"]}, image
        path = self._folder / entry["file"]
        write_section_file(path, entry, read.arrays, self._pixel_size_nm, read.runs)
        self._written.setdefault(image, entry)
        return entry, image


def schema_of(tree: SourceTree) -> int:
    """The schema that a tree is written by: of a dataset that is added to, its own."""
    return tree.base.dataset.schema if tree.base else SCHEMA


def read_section_arrays(section: SourceSection, measurers: ThreadPoolExecutor) -> ReadSection:
    """Reads and checks the images of a section; a mask is measured while the next one is read.

    Readers keep what the next section needs, so that only one reads at a time.
    """
    raw = check_raw(section.raw.read(), section.raw.place, section.remedy)
    grey = standardise_sample(raw)

    def measure(image: SourceImage, mask: np.ndarray) -> tuple[np.ndarray, LabelRuns, MaskMeasures]:
        labels, kind = read_instances(mask, image.place, ids=image.ids)
        runs = find_label_runs(labels)
        return labels, runs, measure_mask(image, mask, labels, runs, kind, grey)

    measured = {
        structure: measurers.submit(measure, image, image.read())
        for structure, image in section.labels.items()
    }
    found = {structure: each.result() for structure, each in measured.items()}
    arrays, runs = {"raw": raw}, {}
    for structure, (labels, of_labels, _) in found.items():
        arrays[f"labels/{structure}"], runs[f"labels/{structure}"] = labels, of_labels
    for structure, image in section.ignored.items():
        levels = image.read()
        # What leaves nothing open is left out, and the section is as one that is annotated whole.
        if levels.any():
            key = ignore_key(structure)
            arrays[key], runs[key] = levels, find_label_runs(levels)
    fits = measure_fits(
        raw,
        {name: labels for name, (labels, _, _) in found.items()},
        {name: int(of_labels.lengths.sum()) for name, (_, of_labels, _) in found.items()},
    )
    masks = {name: replace(mask, fit=fits.get(name)) for name, (_, _, mask) in found.items()}
    return ReadSection(arrays, runs, masks)


def _describe_section(
    section: SourceSection, read: ReadSection, sources: Mapping[str, str]
) -> dict[str, Any]:
    arrays, datasets = read.arrays, {}
    for key, image in section.images.items():
        if key not in arrays:
            continue
        datasets[key] = {
            "dtype": str(arrays[key].dtype),
            "source": image.file,
            "source_page": image.page,
            "source_sha256": sources[image.file],
        }
        if key.startswith(IGNORE):
            datasets[key][SHARE] = count_open(arrays[key]) / arrays[key].size
            continue
        if key != "raw":
            datasets[key]["mask"] = read.masks[key.removeprefix("labels/")].kind
            continue
        if image.header.rows != TOP_FIRST:
            datasets[key]["rows"] = image.header.rows
        if image.header.origin_nm is not None:
            datasets[key]["origin_nm"] = list(image.header.origin_nm)
    return {
        "name": section.name,
        "split": section.split,
        "file": f"sections/{section.name}.h5",
        "shape": list(arrays["raw"].shape),
        "region": section.region,
        "number": section.number,
        "datasets": datasets,
    }
