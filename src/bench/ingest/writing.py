"""Writes a prepared dataset: streams the sections, then puts the whole folder in place."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.files import write_json
from bench.core.folders import move_to_free, partial_folder, replace_folder, sync_folder
from bench.dataset.checks import check_foreground, check_raw, instance_areas, read_instances
from bench.dataset.prepared import (
    KIND,
    MANIFEST,
    PAPER,
    SCHEMA,
    UNLABELLED,
    PreparedDataset,
    hash_dataset,
    hash_pixels,
    hash_section,
    read_manifest,
)
from bench.dataset.section_file import (
    INSTANCES_RULE,
    SUSPICIOUS_RULE,
    MaskCounts,
    summarise_structure,
    warn_of_instances,
    write_section_file,
)
from bench.errors import BenchError
from bench.ingest.images.headers import TOP_FIRST, decode
from bench.ingest.inspection.findings import group_findings
from bench.ingest.inspection.orientation import Fit, judge_orientation, measure_fits
from bench.ingest.sources import SourceSection, SourceTree, source_files, source_hashes

# Up to 1.4 times the source files where those are PNG (ISBI 2012). The rest is a reserve.
_BYTES_PER_SOURCE_BYTE = 1.6
_OVERHEAD_BYTES = 64 * 1024
# Images of a section that are hashed at a time: hashing lets other threads run.
_HASHED_AT_ONCE = 2
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_logger = logging.getLogger(__name__)


def write_prepared(
    tree: SourceTree,
    output: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedDataset:
    """Checks the pixels of a tree and writes them as a prepared dataset.

    Two sections are in memory at a time. Output appears when it is whole: a kill leaves what was
    there before. A dataset of the same content is left as it is.

    Args:
        tree: The sections.
        output: The dataset's folder.
        overwrite: Whether a prepared dataset of other content may be replaced. A folder that is
            no prepared dataset never is.
        progress: Called with the sections done and their number.

    Returns:
        The dataset in output.

    Raises:
        BenchError: If the pixels fail a check, an image is in two splits, output may not be
            written, or there is no space.
    """
    needed = _estimate_bytes(tree)
    try:
        output = _check_output(tree.given, output)
        with partial_folder(output) as folder:
            check_space(folder, needed)
            manifest = _write_sections(tree, folder, progress)
            write_json(folder / MANIFEST, manifest)
            sync_folder(folder)
            _place_dataset(folder, output, overwrite)
    except OSError as error:
        raise _storage_error(error, output.parent, needed) from error
    dataset = PreparedDataset.open(output)
    for warning in dataset.manifest["warnings"]:
        _logger.warning(warning)
    return dataset


def _check_output(given: Path, output: Path) -> Path:
    source, output = given.resolve(), Path(output).resolve()
    if source == output or source in output.parents or output in source.parents:
        raise BenchError(
            f"output must lie outside of input {source}, received {output}: choose another output"
        )
    if output.exists():
        _check_ours(output)
    return output


def _check_ours(output: Path) -> None:
    """Raises BenchError unless what is in output is a prepared dataset, whole or not."""
    try:
        read_manifest(output)
    except BenchError as error:
        raise BenchError(
            f"output must be free or a prepared dataset, received {output}, which exists and is "
            "left alone: choose another output, or remove it yourself"
        ) from error


def _place_dataset(folder: Path, output: Path, overwrite: bool) -> None:
    """Moves a finished folder to output, unless the same content is there."""
    if not output.exists() and move_to_free(folder, output):
        return
    _check_ours(output)
    wanted = read_manifest(folder)["content_hash"]
    if _whole_content(output) == wanted:
        _logger.info("%s is unchanged: it has this content already", output)
        return
    if not overwrite:
        raise BenchError(
            f"output {output} must be free or hold the same content, received a prepared dataset "
            "that differs: choose another output, or give -P overwrite=true"
        )
    replace_folder(folder, output)


def _whole_content(output: Path) -> str | None:
    """Returns the content hash of a prepared dataset; None if it is damaged."""
    try:
        dataset = PreparedDataset.open(output)
        dataset.verify()
    except BenchError:
        return None
    return dataset.content_hash


# The entry of a section in the manifest, the hash of its raw image, and the fits of its masks.
_Written = tuple[dict[str, Any], str, dict[str, Fit]]


@dataclass
class _Found:
    """What is known of the sections so far.

    Attributes:
        counts: What was counted in the masks, by structure.
        fits: How well they lie on their images, by structure and section.
        entries: The entries of the sections that are written.
        first_of_image: The first section with the pixels of a hash.
    """

    counts: dict[str, list[MaskCounts]]
    fits: dict[str, dict[str, Fit]]
    entries: list[dict[str, Any]] = field(default_factory=list)
    first_of_image: dict[str, SourceSection] = field(default_factory=dict)

    def add(self, section: SourceSection, written: _Written, splits_rule: str) -> None:
        """Adds a section that is written; one that another split has as well is an error."""
        entry, image, fits = written
        first = self.first_of_image.setdefault(image, section)
        splits = {section.split, first.split}
        if len(splits) > 1 and not may_share(splits_rule, splits):
            raise BenchError(
                f"splits must share no image, received the same pixels in {first.raw.file} "
                f"({first.split}) and {section.raw.file} ({section.split}): remove one"
            )
        self.entries.append(entry)
        for structure, fit in fits.items():
            self.fits[structure][section.name] = fit


def _write_sections(
    tree: SourceTree, folder: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Writes the file of every section and returns the manifest.

    A section is hashed, its images side by side, and written while the next one is read: two are
    in memory at a time.
    """
    hashes = source_hashes(tree)
    (folder / "sections").mkdir()
    found = _Found(
        {structure: [] for structure in tree.structures}, {name: {} for name in tree.structures}
    )
    total = len(tree.sections) + len(tree.unlabelled)

    def finish(section: SourceSection, written: Future[_Written]) -> None:
        found.add(section, written.result(), tree.splits_rule)
        if progress is not None:
            progress(len(found.entries), total)

    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(_HASHED_AT_ONCE) as hasher:
        before = None
        for section in (*tree.sections, *tree.unlabelled):
            arrays, kinds = _read_arrays(section)
            for structure, kind in kinds.items():
                labels = arrays[f"labels/{structure}"]
                areas = instance_areas(labels)
                counts = MaskCounts(section.split, areas, labels.size, kind)
                found.counts[structure].append(counts)
            if before is not None:
                finish(*before)
            written = writer.submit(
                _hash_and_write, folder, section, arrays, kinds, hashes, tree.pixel_size_nm, hasher
            )
            before = (section, written)
        if before is not None:
            finish(*before)
    sync_folder(folder / "sections")
    return _build_manifest(tree, found)


def _hash_and_write(
    folder: Path,
    section: SourceSection,
    arrays: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    sources: Mapping[str, str],
    pixel_size_nm: float | None,
    hasher: ThreadPoolExecutor,
) -> _Written:
    pixels = dict(zip(arrays, hasher.map(hash_pixels, arrays.values()), strict=True))
    entry = _describe_section(section, arrays, kinds, sources)
    entry["content_hash"] = hash_section(section.name, section.split, pixels)
    write_section_file(folder / entry["file"], entry, arrays, pixel_size_nm)
    masks = {key.removeprefix("labels/"): mask for key, mask in arrays.items() if key != "raw"}
    return entry, pixels["raw"], measure_fits(arrays["raw"], masks)


def _read_arrays(section: SourceSection) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads and checks the images of a section, by HDF5 dataset; and the kind of each mask."""
    raw = check_raw(section.raw.read(), section.raw.file)
    arrays, kinds = {"raw": raw}, {}
    for structure, image in section.labels.items():
        labels, kinds[structure] = read_instances(image.read(), image.file, ids=image.ids)
        arrays[f"labels/{structure}"] = labels
    return arrays, kinds


def may_share(rule: str, splits: set[str]) -> bool:
    """Whether sections of two splits may be one image."""
    if UNLABELLED in splits:
        return not splits & {"val", "test"}
    return rule == PAPER and "test" not in splits


def _describe_section(
    section: SourceSection,
    arrays: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    datasets = {}
    for key, image in section.images.items():
        datasets[key] = {
            "dtype": str(arrays[key].dtype),
            "source": image.file,
            "source_page": image.page,
            "source_sha256": sources[image.file],
        }
        if key != "raw":
            datasets[key]["mask"] = kinds[key.removeprefix("labels/")]
        elif image.header.rows != TOP_FIRST:
            datasets[key]["rows"] = image.header.rows
    return {
        "name": section.name,
        "split": section.split,
        "file": f"sections/{section.name}.h5",
        "shape": list(arrays["raw"].shape),
        "region": section.region,
        "number": section.number,
        "datasets": datasets,
    }


def _build_manifest(tree: SourceTree, found: _Found) -> dict[str, Any]:
    """Returns the manifest of a dataset; holds no path outside of it and no time."""
    entries = found.entries
    structures = {name: summarise_structure(masks) for name, masks in found.counts.items()}
    labelled = [entry for entry in entries if entry["split"] != UNLABELLED]
    turned = group_findings(judge_orientation(found.fits))
    warnings = [
        *tree.warnings,
        *check_foreground(structures),
        *(group.sentence for group in turned),
    ]
    for name, summary in structures.items():
        warnings += warn_of_instances(name, summary)
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "content_hash": hash_dataset([e["content_hash"] for e in entries], tree.pixel_size_nm),
        "pixel_size_nm": tree.pixel_size_nm,
        "splits_rule": tree.splits_rule,
        "instances_rule": INSTANCES_RULE,
        "suspicious_rule": SUSPICIOUS_RULE,
        "section_nm": tree.section_nm,
        "structures": structures,
        "sections": labelled,
        "unlabelled": [entry for entry in entries if entry["split"] == UNLABELLED],
        "warnings": warnings,
    }


def _estimate_bytes(tree: SourceTree) -> int:
    sizes = [decode(path, _measure_bytes) for path in source_files(tree).values()]
    return int(sum(sizes) * _BYTES_PER_SOURCE_BYTE) + _OVERHEAD_BYTES * len(tree.sections)


def _measure_bytes(path: Path) -> int:
    """The bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def check_space(folder: Path, needed: int) -> None:
    """Raises BenchError unless a folder's disk has the bytes needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _space_error(folder.parent, needed, f"{free} bytes free")


def _storage_error(error: OSError, folder: Path, needed: int) -> BenchError:
    if error.errno in _NO_SPACE:
        return _space_error(folder, needed, os.strerror(error.errno or 0))
    return BenchError(
        f"{folder} must be a folder that can be written, received {error.strerror!r} for "
        f"{error.filename}: give yourself permission, or choose another output"
    )


def _space_error(folder: Path, needed: int, received: str) -> BenchError:
    return BenchError(
        f"{folder} must have space for about {needed} bytes, received {received}: free some, or "
        "choose another output"
    )
