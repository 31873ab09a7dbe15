"""Writes a prepared dataset: streams the sections, then puts the whole folder in place."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.core.files import write_json
from bench.core.folders import move_to_free, partial_folder, replace_folder, sync_folder
from bench.dataset.checks import check_foreground
from bench.dataset.partial import check_partial, count_open
from bench.dataset.prepared import (
    KIND,
    MANIFEST,
    UNLABELLED,
    VOLUMES,
    PreparedDataset,
    hash_dataset,
    ignore_key,
    read_manifest,
)
from bench.dataset.section_file import (
    INSTANCES_OF_VOLUMES_RULE,
    INSTANCES_RULE,
    SUSPICIOUS_RULE,
    MaskCounter,
    MaskCounts,
    summarise_structure,
    warn_of_instances,
)
from bench.errors import BenchError
from bench.ingest.adding.adding import copy_kept, describe_additions, order_entries
from bench.ingest.images.headers import decode
from bench.ingest.inspection.watching import PixelWatch
from bench.ingest.section_pixels import (
    ReadSection,
    SectionWriter,
    read_section_arrays,
    schema_of,
)
from bench.ingest.sources import (
    SourceSection,
    SourceTree,
    source_files,
    source_hashes,
)
from bench.ingest.splits import may_share

# Up to 1.4 times the source files where those are PNG (ISBI 2012). The rest is a reserve.
_BYTES_PER_SOURCE_BYTE = 1.6
_OVERHEAD_BYTES = 64 * 1024
# Masks of a section that are measured at a time: most of it lets other threads run.
_MEASURED_AT_ONCE = 2
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
        output = _check_output(tree, output)
        with partial_folder(output) as folder:
            check_space(folder, needed)
            manifest = _write_sections(tree, folder, progress)
            write_json(folder / MANIFEST, manifest)
            sync_folder(folder)
            _place_dataset(folder, output, overwrite)
    except OSError as error:
        raise _storage_error(error, output.parent, needed) from error
    dataset = PreparedDataset.open(output)
    # Of now: the same content may have been written by a version that noticed less.
    for warning in manifest["warnings"]:
        _logger.warning(warning)
    return dataset


def _check_output(tree: SourceTree, output: Path) -> Path:
    source, output = tree.given.resolve(), Path(output).resolve()
    old = tree.base.dataset.root.resolve() if tree.base else source
    inside = any(path in output.parents or output in path.parents for path in (source, old))
    if inside or source == output:
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
    if _is_whole(output, read_manifest(folder)["content_hash"]):
        _logger.info("%s is unchanged: it has this content already", output)
        return
    if not overwrite:
        raise BenchError(
            f"output {output} must be free or hold the same content, received a prepared dataset "
            "that differs: choose another output, or give -P overwrite=true"
        )
    replace_folder(folder, output)


def _is_whole(output: Path, content_hash: str) -> bool:
    """Whether a prepared dataset has a content, and is not damaged."""
    try:
        dataset = PreparedDataset.open(output)
        dataset.verify()
        return dataset.is_content(content_hash)
    except BenchError:
        return False


def _write_sections(
    tree: SourceTree, folder: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Writes the file of every section and returns the manifest.

    A section is hashed and written while the next one is read: two are in memory at a time. An
    image without labels that is a section's is not written again.
    """
    hashes = source_hashes(tree)
    (folder / "sections").mkdir()
    counter = MaskCounter(volumes=tree.volumes)
    entries = copy_kept(tree.base, folder, counter) if tree.base else []
    split_of_image: dict[str, SourceSection] = {}
    writer = SectionWriter(folder, tree, hashes)
    watch = PixelWatch(tree)
    total = len(entries) + len(tree.sections) + len(tree.unlabelled)

    def finish(section: SourceSection, written: Future[tuple[dict[str, Any], str]]) -> None:
        entry, image = written.result()
        first = split_of_image.setdefault(image, section)
        splits = {section.split, first.split}
        if len(splits) > 1 and not may_share(tree.splits_rule, splits):
            raise BenchError(
                f"splits must share no image, received the same pixels in {first.raw.file} "
                f"({first.split}) and {section.raw.file} ({section.split}): remove one"
            )
        entries.append(entry)
        if progress is not None:
            progress(len(entries), total)

    with ThreadPoolExecutor(1) as thread, ThreadPoolExecutor(_MEASURED_AT_ONCE) as measurers:
        before = None
        for section in (*tree.sections, *tree.unlabelled):
            read = read_section_arrays(section, measurers)
            watch.add(section, read.arrays["raw"], read.masks)
            _count_masks(counter, section, read)
            if before is not None:
                finish(*before)
            before = (section, thread.submit(writer.write, section, read))
        if before is not None:
            finish(*before)
    sync_folder(folder / "sections")
    return _build_manifest(tree, entries, counter.counts(), watch.warn())


def _count_masks(counter: MaskCounter, section: SourceSection, read: ReadSection) -> None:
    """Adds the masks of a section to what is counted."""
    for structure, mask in read.masks.items():
        runs = read.runs[f"labels/{structure}"]
        opened = count_open(read.arrays.get(ignore_key(structure)))
        counter.add(structure, section.split, section.region, runs, mask.kind, opened)


def _build_manifest(
    tree: SourceTree,
    entries: list[dict[str, Any]],
    counts: Mapping[str, list[MaskCounts]],
    noticed: list[str],
) -> dict[str, Any]:
    """Returns the manifest of a dataset; holds no path outside of it and no time."""
    structures = {name: summarise_structure(counts.get(name, [])) for name in tree.structures}
    came_from: dict[str, Any] = {}
    # Terms stay with what was published when something is added to it.
    before = tree.base.dataset.manifest.get("published") if tree.base else None
    if published := dict(tree.published) or before:
        came_from["published"] = published
    if tree.base:
        entries = order_entries(entries, tree.base)
        came_from["additions"] = describe_additions(tree.base, tree.sections)
    labelled = [entry for entry in entries if entry["split"] != UNLABELLED]
    noted = check_partial(labelled, structures, tree.ignore, volumes=tree.volumes)
    warnings = [*tree.warnings, *check_foreground(structures), *noted]
    for name, summary in structures.items():
        warnings += warn_of_instances(name, summary)
    warnings += noticed
    return {
        "kind": KIND,
        "schema": schema_of(tree),
        "content_hash": hash_dataset(
            [e["content_hash"] for e in entries],
            tree.pixel_size_nm,
            tree.section_nm if tree.volumes else None,
            schema=schema_of(tree),
        ),
        "pixel_size_nm": tree.pixel_size_nm,
        "splits_rule": tree.splits_rule,
        "instances_rule": INSTANCES_OF_VOLUMES_RULE if tree.volumes else INSTANCES_RULE,
        "suspicious_rule": SUSPICIOUS_RULE,
        "section_nm": tree.section_nm,
        "structures": structures,
        "sections": labelled,
        "unlabelled": [entry for entry in entries if entry["split"] == UNLABELLED],
        "warnings": list(dict.fromkeys(warnings)),
        **came_from,
        **({VOLUMES: True} if tree.volumes else {}),
    }


def _estimate_bytes(tree: SourceTree) -> int:
    sizes = [decode(path, _measure_bytes) for path in source_files(tree).values()]
    if tree.base:
        root = tree.base.dataset.root
        sizes += [(root / entry["file"]).stat().st_size for entry in tree.base.kept]
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
