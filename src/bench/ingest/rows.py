"""From which end programs count the rows of an image: docs/formats.md has the table.

Rows of a TIFF lie in the file as they are seen, those of an MRC from the bottom up; some programs
turn them when they read one, and some do not. What is drawn or painted over an image is turned
here so that its rows are those stored in the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.geojson import is_geojson
from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.images.formats import ARRAY_SUFFIXES, MRC_SUFFIXES
from bench.ingest.images.mrc import read_geometry
from bench.ingest.inspection.orientation import (
    AS_IT_IS,
    REVERSED_ROWS,
    Fit,
    choose_orientation,
    measure_fits,
    pool_fits,
)
from bench.ingest.sources import SourceImage
from bench.words import AUTO

REVERSED = "reversed"
_IMOD = ".mod"
# Selections and GeoJSON come from Fiji and QuPath, which read an MRC by Bio-Formats.
_BIO_FORMATS = (".roi", ".zip", ".geojson")
# Sections with annotation that are compared.
_COMPARED = 6


def orient_labels(
    labels: Mapping[str, list[SourceImage]], file: Path, raw: Sequence[SourceImage], rows: str
) -> tuple[dict[str, list[SourceImage]], list[str]]:
    """Turns the labels of a file so that their rows are those stored in the image.

    Args:
        labels: Its labels by structure, one per section of the image.
        file: The annotation file.
        raw: The sections of the image.
        rows: ``stored`` takes rows as they are counted in the file, ``reversed`` from the other
            end; ``auto`` goes by what wrote the file and, where that cannot be known, by what
            fits the image.

    Returns:
        The labels, and a line where they were not simply taken as they are.

    Raises:
        BenchError: If the order cannot be known, and no order clearly fits.
    """
    image = next(iter(raw[0].files.values()))
    masks = next(iter(labels.values()), [])
    if rows != AUTO or not masks:
        return turn_labels(labels, reverse=rows == REVERSED), []
    reverse, reason = _find_rule(file, image, raw[0].header.rows, masks[0].header.rows)
    if reverse is None:
        reverse, reason = _compare_rows(labels, file, raw)
    return turn_labels(labels, reverse=reverse), [reason] if reason else []


def _find_rule(file: Path, image: Path, rows: str, own_rows: str) -> tuple[bool | None, str]:
    """Whether rows of an annotation are counted from the last one stored in its image, and why.

    Args:
        file: The annotation file.
        image: The image.
        rows: How the image's rows are stored.
        own_rows: How those of the annotation are, if it is a label image.

    Returns:
        None, where programs differ, and a sentence if they are.
    """
    suffix, is_mrc = file.suffix.lower(), image.suffix.lower() in MRC_SUFFIXES
    if suffix == _IMOD:
        if image.suffix.lower() in ARRAY_SUFFIXES:
            return None, ""
        inverted = read_geometry(image).inverted if is_mrc else True
        what = "MRC that 3dmod inverts" if is_mrc else "images other than MRC"
        seen = f"rows of IMOD models over {what} are counted from the last stored one, as in 3dmod"
        return inverted, f"{seen} (-P rows=stored if they are not)" if inverted else ""
    if suffix in _BIO_FORMATS or (suffix == ".json" and is_geojson(file)):
        seen = "rows of what was drawn over MRC are counted from the last stored one, as Fiji and "
        seen += "QuPath show it (-P rows=stored if they are not)"
        return is_mrc, seen if is_mrc else ""
    # What reads or writes two images of one kind does it alike.
    return (False, "") if rows == own_rows else (None, "")


def _compare_rows(
    labels: Mapping[str, list[SourceImage]], file: Path, raw: Sequence[SourceImage]
) -> tuple[bool, str]:
    """Whether labels fit their image better from the other end, and how clearly."""
    fits = _measure_sections(labels, raw)
    if not fits:
        return False, ""
    fit = pool_fits(fits)
    chosen = choose_orientation(fit, (AS_IT_IS, REVERSED_ROWS))
    stored, turned = fit.shares[AS_IT_IS], fit.shares[REVERSED_ROWS]
    shown = f"grey values explain {stored:.1%} of {file.name} as stored, {turned:.1%} reversed"
    if chosen is None:
        raise BenchError(
            f"rows of {file.name} must be known to be counted from the first or the last stored "
            f"row of {raw[0].file}, as programs differ, received neither clearly ({shown}): give "
            "-P rows=stored if it was made with napari or mrcfile, -P rows=reversed if with "
            "mrc2tif or Fiji, and look at the pictures of check=true"
        )
    reverse = chosen == REVERSED_ROWS
    how = "from the other end than" if reverse else "in the order of"
    return reverse, (
        f"rows of {file.name} are taken {how} those of {raw[0].file}, because they fit it so "
        f"({shown}): -P rows=stored or rows=reversed says it for sure"
    )


def _measure_sections(
    labels: Mapping[str, list[SourceImage]], raw: Sequence[SourceImage]
) -> list[Fit]:
    """The fits of some sections that have foreground, from all of a stack."""
    fits: list[Fit] = []
    # The middle of a stack first, then those between.
    order = sorted(range(len(raw)), key=lambda page: (_rank(page, len(raw)), page))
    measured = 0
    for page in order:
        masks = {name: pages[page].read() for name, pages in labels.items()}
        masks = {name: mask for name, mask in masks.items() if mask.any()}
        if masks:
            found = measure_fits(raw[page].read(), masks)
            fits += found.values()
            measured += bool(found)
        if measured >= _COMPARED:
            break
    return fits


def _rank(page: int, pages: int) -> int:
    """How fine a grid over a stack must be to have a section on it: 0 is the coarsest."""
    steps = [max(1, pages // 2**level) for level in range(1, pages.bit_length() + 1)]
    return next(level for level, step in enumerate(steps) if page % step == 0)


def turn_labels(
    labels: Mapping[str, list[SourceImage]], *, reverse: bool
) -> dict[str, list[SourceImage]]:
    """Labels by structure, each with its last row first if ``reverse``, else as they are."""
    if not reverse:
        return dict(labels)
    return {name: [reverse_rows(mask) for mask in masks] for name, masks in labels.items()}


def reverse_rows(mask: SourceImage) -> SourceImage:
    """A label image whose last row comes first; what is drawn is drawn before it is turned."""
    drawn = None if mask.drawn is None else partial(_draw_reversed, mask)
    return replace(mask, read=partial(_read_reversed, mask), drawn=drawn)


def _read_reversed(mask: SourceImage) -> np.ndarray:
    return np.ascontiguousarray(mask.read()[::-1])


def _draw_reversed(mask: SourceImage) -> DrawnLabels:
    assert mask.drawn is not None
    drawn = mask.drawn()
    return replace(drawn, labels=np.ascontiguousarray(drawn.labels[::-1]))
