"""Reads a section and its masks once, and keeps only what a report needs of them."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from bench.core.pixels import shrink_factor, shrink_image, shrink_labels
from bench.dataset.checks import check_raw, read_instances
from bench.dataset.prepared import hash_pixels
from bench.errors import BenchError
from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.inspection.likeness import Look, take_windows
from bench.ingest.inspection.measures import (
    LARGEST_VALUE,
    MOST_INSTANCES,
    MaskMeasures,
    SectionMeasures,
    SmallSection,
    cut_numbers,
    inspect_instances,
    judge_raw,
    measure_contrast,
    measure_raw,
    standardise_sample,
)
from bench.ingest.inspection.orientation import measure_fits
from bench.ingest.inspection.values import measure_values
from bench.ingest.sources import SourceImage, SourceSection
from bench.metrics.overlap import IS_OPEN
from bench.postprocess.label_runs import LabelRuns, find_label_runs

# For pictures, sections are shrunk to it.
_SHOWN_SIDE_PX = 1100

# What is wrong with drawn objects, after the number of them, and what to do about it.
_DRAWN_FAULTS = {
    "outside": (
        "of {objects} objects have no pixel in the image",
        "is it the right image, and are offset and pixel size right?",
    ),
    "hidden": (
        "of {objects} objects keep no pixel, being drawn before others",
        "delete what was drawn twice",
    ),
    "overlap": (
        "px are of more than one object; the one drawn last has them",
        "correct the outlines if that is not meant",
    ),
    "cut": (
        "of {objects} objects lie partly outside of the image",
        "nothing to do where a crop cuts them; else check the offset",
    ),
}

Show = Callable[[SmallSection], None]


def inspect_section(
    section: SourceSection, show: Show | None = None
) -> tuple[SectionMeasures, np.ndarray | None]:
    """Reads and measures a section; what cannot be read becomes a finding.

    Args:
        section: The section.
        show: Called with small copies of its pixels if its raw image can be read.

    Returns:
        The measures, and its raw image (y, x) if that can be compared with others.
    """
    measures = SectionMeasures(section.name, section.split, section.raw.file)
    raw, usable = _read_raw(section, measures)
    grey = standardise_sample(raw) if raw is not None and usable else None
    factor = 1 if raw is None else shrink_factor(raw.shape, _SHOWN_SIDE_PX)
    small = {}
    for structure, image in section.labels.items():
        labels = _read_mask(image, structure, raw, grey, measures)
        if labels is not None and show is not None:
            small[structure] = shrink_labels(labels, factor)
        del labels  # before the next one is read
    opened = _read_open(section, raw, measures)
    if raw is not None and show is not None:
        finite = cut_numbers(raw) if raw.dtype.kind == "f" else raw
        ignored = None if opened is None else shrink_labels(opened, factor)
        show(SmallSection(section.name, shrink_image(finite, factor), small, factor, ignored))
    return measures, raw if usable else None


def _read_open(
    section: SourceSection, raw: np.ndarray | None, measures: SectionMeasures
) -> np.ndarray | None:
    """Reads where a section is not annotated for a structure, bool (y, x), and counts it."""
    opened: np.ndarray | None = None
    for structure, image in section.ignored.items():
        # A mask that cannot be read has been told of.
        if (mask := measures.masks.get(structure)) is None:
            continue
        here = image.read() == IS_OPEN
        count = int(np.count_nonzero(here))
        measures.masks[structure] = replace(mask, pixels=mask.pixels - count, ignored=count)
        if count and raw is not None and raw.shape == here.shape:
            opened = here if opened is None else opened | here
    return opened


def _read_raw(section: SourceSection, measures: SectionMeasures) -> tuple[np.ndarray | None, bool]:
    """Reads and judges a raw image; returns it and whether it is fit for comparisons."""
    try:
        raw = section.raw.read()
        _check_plane(raw, section.raw.place)
    except BenchError as error:
        measures.findings.append(measures.finding("unusable", str(error)))
        return None, False
    measures.raw = measure_raw(raw)
    try:
        raw = check_raw(raw, section.raw.place, section.remedy)
        _check_range(raw, section.raw.place)
    except BenchError as error:
        measures.findings.append(measures.finding("unusable", str(error)))
        return raw, False
    fault = None if measures.raw is None else judge_raw(measures.raw)
    if fault is not None:
        measures.findings.append(measures.finding(*fault))
    measures.look = Look(
        section.name,
        section.split,
        section.raw.file,
        (raw.shape[0], raw.shape[1]),
        hash_pixels(raw),
        take_windows(raw),
    )
    return raw, True


def _check_plane(pixels: np.ndarray, file: str) -> None:
    """Raises BenchError unless an image is a section (y, x) of a pixel or more."""
    if pixels.ndim != 2 or not pixels.size:
        raise BenchError(
            f"{file} must hold a section (y, x), received {pixels.shape} px: save it again"
        )


def _check_range(raw: np.ndarray, file: str) -> None:
    if raw.dtype.kind == "f" and max(-float(raw.min()), float(raw.max())) > LARGEST_VALUE:
        raise BenchError(
            f"raw image {file} must hold numbers up to {LARGEST_VALUE:g}, received "
            f"{raw.min():g} to {raw.max():g}: fill what is no measurement"
        )


def _read_mask(
    image: SourceImage,
    structure: str,
    raw: np.ndarray | None,
    grey: np.ndarray | None,
    measures: SectionMeasures,
) -> np.ndarray | None:
    """Reads and measures a mask; returns its instances (y, x), or None if it has a fault."""
    try:
        drawn = image.drawn() if image.drawn is not None else None
        mask = image.read() if drawn is None else drawn.labels
        _check_plane(mask, image.place)
        labels, kind = read_instances(mask, image.place, ids=image.ids or drawn is not None)
        if kind == "binary" and labels.max() > MOST_INSTANCES:
            raise BenchError(
                f"mask {image.place} must hold at most {MOST_INSTANCES} connected components, "
                f"received {labels.max()}: is it a threshold of noise?"
            )
        fits = raw is None or raw.shape == labels.shape
        runs = find_label_runs(labels)
        found = measure_mask(image, mask, labels, runs, kind, grey if fits else None)
    except BenchError as error:
        fault = measures.finding("unusable", str(error), structure=structure, file=image.file)
        measures.findings.append(fault)
        return None
    if raw is not None and not fits:
        fact = f"the mask has {labels.shape[0]} x {labels.shape[1]} px (height x width), the image "
        fact += f"{raw.shape[0]} x {raw.shape[1]}"
        swapped = raw.shape == labels.shape[::-1]
        remedy = "transpose the mask" if swapped else "export the mask again at full size"
        fault = measures.finding("size-differs", fact, remedy, structure, file=image.file)
        measures.findings.append(fault)
        return None
    fitted = {}
    if raw is not None and grey is not None:
        fitted = measure_fits(raw, {structure: labels}, {structure: int(runs.lengths.sum())})
    measures.masks[structure] = replace(found, fit=fitted.get(structure))
    if drawn is not None:
        _judge_drawn(drawn, structure, measures)
    return labels


def measure_mask(
    image: SourceImage,
    mask: np.ndarray,
    labels: np.ndarray,
    runs: LabelRuns,
    kind: str,
    grey: np.ndarray | None,
) -> MaskMeasures:
    """Measures a mask.

    Args:
        image: Where it comes from.
        mask: Its pixels (y, x) as they are stored, or drawn.
        labels: Its instances (y, x).
        runs: Their runs.
        kind: What `read_instances` took it for.
        grey: The standardised sample of its raw image; None if that cannot be used.

    Raises:
        BenchError: If it has more instances than any annotation.
    """
    return MaskMeasures(
        image.file,
        labels.size,
        kind,
        inspect_instances(runs, image.place),
        None if grey is None else measure_contrast(grey, labels),
        measure_values(mask, runs, kind, image.file),
        image.drawn is not None,
    )


def _judge_drawn(drawn: DrawnLabels, structure: str, measures: SectionMeasures) -> None:
    mask = measures.masks[structure]
    ids = mask.instances.ids
    hidden = [lost for lost in drawn.covered if lost not in ids]
    # How many of each fault, and the ids of them that a picture can show.
    found: dict[str, tuple[int, Iterable[int]]] = {
        "outside": (len(drawn.outside), ()),
        "hidden": (len(hidden), ()),
        "overlap": (drawn.overlapping_px, drawn.covered),
        "cut": (len(drawn.cut), drawn.cut),
    }
    objects = len(ids) + len(hidden) + len(drawn.outside)
    for kind, (number, shown) in found.items():
        if number:
            fact, remedy = _DRAWN_FAULTS[kind]
            fact = f"{number} {fact.format(objects=objects)}"
            marks = mask.instances.marks(np.isin(ids, list(shown)))
            fault = measures.finding(
                kind, fact, remedy, structure, file=mask.file, count=number, marks=marks
            )
            measures.findings.append(fault)
