"""The sections of a public data set's series, in the layout in which it was published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.core.names import first_names, natural_key
from bench.dataset.prepared import NO_SPLIT, UNLABELLED
from bench.dataset.public.rows import PublicLabels, PublicSeries
from bench.errors import BenchError
from bench.ingest.images.formats import list_pages, stem_of
from bench.ingest.sources import SourceImage, SourceSection
from bench.ingest.tree import check_alike

# Blocks of one series in different splits are at least so far apart, as min_gap_nm warns of.
_GAP_NM = 100.0


def list_series(
    folder: Path, series: PublicSeries, wanted: Mapping[str, str]
) -> list[SourceSection]:
    """Lists the sections of a series with their labels, in no split yet; reads no pixels.

    Args:
        folder: The data set's folder.
        series: The series.
        wanted: What structures of the data set are called here; others are left out.

    Raises:
        BenchError: If files are missing, or raw images and labels do not pair up.
    """
    raw = _list_files(folder, series.raw, series.key)
    labels: dict[str, dict[int, SourceImage]] = {}
    for name, rule in series.labels.items():
        if name in wanted:
            files = _list_files(folder, rule.files, rule.key, labels=True)
            _check_pairs(series, raw, files)
            labels[wanted[name]] = {
                number: _as_labels(mask, rule, series.first_row) for number, mask in files.items()
            }
    annotated = set[int]().union(*labels.values())
    digits = max(3, len(str(max(raw))))
    sections = []
    for number in sorted(annotated):
        image = _from_row(raw[number], series.first_row)
        masks = {name: found[number] for name, found in labels.items()}
        for mask in masks.values():
            check_alike(image, mask, pages=1, mask_pages=1)
        own = stem_of(Path(image.file))
        stem = f"{series.name}_z{number:0{digits}}" if series.ordered else f"{series.name}_{own}"
        place = (series.name, number) if series.ordered else ("", None)
        sections.append(SourceSection(NO_SPLIT, stem, image, masks, *place))
    return sections


def list_unlabelled(folder: Path, pattern: str) -> list[SourceSection]:
    """Lists images without labels."""
    pages = _list_files(folder, pattern, "") if pattern else {}
    return [SourceSection(UNLABELLED, f"{number:03}", image, {}) for number, image in pages.items()]


def _list_files(
    folder: Path, pattern: str, key: str, *, labels: bool = False
) -> dict[int, SourceImage]:
    """Lists sections by number: the pages of one stack, or files by the last number of a name."""
    paths = sorted(folder.glob(pattern), key=lambda path: natural_key(path.name))
    if not paths:
        raise BenchError(
            f"{folder} must hold {pattern} as it was published, received none: move the folder "
            "away, and what belongs there is fetched or unpacked anew"
        )
    pages = [list_pages(folder, path, key, labels=labels) for path in paths]
    if "*" not in pattern:
        return dict(enumerate(pages[0]))
    found: dict[int, SourceImage] = {}
    for path, own in zip(paths, pages, strict=True):
        numbers = re.findall("[0-9]+", stem_of(path))
        if len(own) > 1 or not numbers or int(numbers[-1]) in found:
            raise BenchError(
                f"files of {path.parent} must be single sections that end with numbers of their "
                f"own, received {path.name}: move it away"
            )
        found[int(numbers[-1])] = own[0]
    return found


def _check_pairs(
    series: PublicSeries, raw: Mapping[int, SourceImage], masks: Mapping[int, SourceImage]
) -> None:
    unlabelled = [] if series.partly else [raw[n].place for n in raw.keys() - masks.keys()]
    alone = [masks[number].place for number in masks.keys() - raw.keys()]
    if unlabelled or alone:
        received = [f"no labels for {first_names(unlabelled)}"] if unlabelled else []
        received += [f"no raw image for {first_names(alone)}"] if alone else []
        raise BenchError(
            f"every raw image of {series.name} must have labels of its number, received "
            f"{' and '.join(received)}: fetch it again"
        )


def _from_row(image: SourceImage, first_row: int) -> SourceImage:
    """An image without its first rows, as a single section."""
    height, width = image.header.shape
    header = replace(image.header, shape=(height - first_row, width))
    return replace(image, header=header, read=partial(_read_from, image, first_row))


def _read_from(image: SourceImage, first_row: int) -> np.ndarray:
    return image.read()[first_row:]


def _as_labels(mask: SourceImage, rule: PublicLabels, first_row: int) -> SourceImage:
    """A label image that holds what the published one means by a structure."""
    cut = _from_row(mask, first_row)
    return replace(cut, read=partial(_read_structure, cut, rule), ids=rule.ids)


def _read_structure(mask: SourceImage, rule: PublicLabels) -> np.ndarray:
    """Reads the labels (y, x) of a structure: ids, or 0 and what is not."""
    pixels = mask.read()
    if rule.values:
        return np.isin(pixels, np.array(rule.values, pixels.dtype)).astype(np.uint8)
    if rule.above is not None:
        return (pixels > rule.above).astype(np.uint8)
    if rule.nothing:
        nothing = np.array(rule.nothing, pixels.dtype)
        return np.where(np.isin(pixels, nothing), pixels.dtype.type(0), pixels)
    return pixels


def split_in_blocks(
    sections: Sequence[SourceSection], shares: Mapping[str, float], section_nm: float | None
) -> list[SourceSection]:
    """Gives blocks of a series their splits; sections between blocks are left out.

    Args:
        sections: The sections of a series, in order.
        shares: What part is of which split; they sum up to 1.
        section_nm: Distance of two sections. Blocks are at least 100 nm apart; where the distance
            is not known, as of images that stand for themselves, none is left out.

    Raises:
        BenchError: If there are too few sections.
    """
    left_out = max(0, int(np.ceil(_GAP_NM / section_nm)) - 1) if section_nm else 0
    kept = len(sections) - left_out * (len(shares) - 1)
    ends = [0, *(round(kept * share) for share in np.cumsum(list(shares.values())))]
    if len(shares) > 1 and any(first >= last for first, last in pairwise(ends)):
        raise BenchError(
            f"a series must have sections for {', '.join(shares)} with {left_out} left out between "
            f"them, received {len(sections)}: fetch the data set again"
        )
    return [
        replace(section, split=split)
        for place, (split, (first, last)) in enumerate(zip(shares, pairwise(ends), strict=True))
        for section in sections[first + place * left_out : last + place * left_out]
    ]
