"""From annotated images, whatever they were read from, to a tree that is ready to be written."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names
from bench.dataset.prepared import NO_SPLIT
from bench.errors import BenchError
from bench.ingest.classes import RESERVED, ClassMap
from bench.ingest.images.headers import ImageHeader
from bench.ingest.partial import leave_open
from bench.ingest.sources import SourceImage, SourceSection, SourceTree, describe_notes
from bench.ingest.splits import assign_splits, check_splits, warn_of_neighbours
from bench.ingest.volumes import choose_volumes, number_objects
from bench.models.scales import find_size_warnings
from bench.structures import order_structures
from bench.words import AUTO, NONE

_REMEDY = "give -P pixel_size_nm=..."
# Programs round resolution tags; 1 per mille of a section 2000 px wide is 2 px.
_RELATIVE_TOLERANCE = 1e-3


@dataclass
class FoundImages:
    """What was found in a user's files.

    Attributes:
        root: The folder that file names are relative to.
        sections: The sections with all their labels; their split is that of their folder.
        kinds: Objects of every class, taken or not.
        painted: What label images hold, a line each.
        warnings: What was noticed.
        section_nm: Distance of two sections in nm by the files.
        held: Sections that have their split whatever the rule.
    """

    root: Path
    sections: list[SourceSection]
    kinds: Counter[str] = field(default_factory=Counter)
    painted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    section_nm: float | None = None
    held: list[SourceSection] = field(default_factory=list)


def build_tree(
    found: FoundImages, structures: Sequence[str], classes: ClassMap, config: PrepareConfig
) -> SourceTree:
    """Splits the sections and agrees on their pixel size.

    Args:
        found: The sections.
        structures: The structures taken.
        classes: Which class is which structure, for the list of what was found.
        config: Settings of prepare.

    Raises:
        BenchError: If splits or pixel sizes do not fit.
    """
    structures = [name for name in structures if name.partition("/")[0] not in RESERVED]
    adding = config.add_to != NONE
    sections = found.sections
    if adding and config.splits == AUTO:
        sections = [replace(s, split="train") if s.split == NO_SPLIT else s for s in sections]
    sections, split_warnings = assign_splits(sections, config.splits, found.held)
    # What is added need not have every split.
    coverage_warnings = () if adding else check_splits(sections, tuple(structures))
    pixel_size_nm, pixel_warnings = _choose_pixel_size(
        _headers(section.raw for section in sections),
        _headers(mask for section in sections for mask in section.labels.values()),
        config.pixel_size_nm,
    )
    section_nm = config.section_nm or found.section_nm
    volumes = choose_volumes(sections, pixel_size_nm, section_nm, config)
    sections = leave_open(sections, classes, volumes=volumes)
    if volumes:
        sections = number_objects(sections)
    return SourceTree(
        given=Path(config.input),
        root=found.root,
        sections=tuple(sections),
        structures=tuple(structures),
        pixel_size_nm=pixel_size_nm,
        splits_rule="folders" if config.splits == AUTO else config.splits,
        warnings=(
            *dict.fromkeys(found.warnings),
            *classes.warn_of_others(found.kinds),
            *split_warnings,
            *coverage_warnings,
            *pixel_warnings,
            *describe_notes(_list_images(sections), sizes=config.pixel_size_nm is None),
            *find_size_warnings([pixel_size_nm] if pixel_size_nm else []),
            *warn_of_neighbours(sections, section_nm, config.min_gap_nm),
        ),
        section_nm=section_nm,
        found=(*classes.describe(found.kinds), *found.painted),
        volumes=volumes,
        ignore=",".join(classes.ignored),
    )


def _list_images(sections: Iterable[SourceSection]) -> list[SourceImage]:
    return [image for section in sections for image in section.images.values()]


def choose_taken(
    structures: Iterable[str], kinds: Counter[str], classes: ClassMap, where: Path
) -> tuple[str, ...]:
    """The structures that were found, in the order of `order_structures`.

    Raises:
        BenchError: If there is none, or one that the user named is missing.
    """
    found = {name for name in structures if name.partition("/")[0] not in RESERVED}
    if not found or set(classes.wanted) - found:
        return classes.choose([*kinds, *found], str(where))
    return order_structures(found)


def _choose_pixel_size(
    raw: Mapping[str, ImageHeader], masks: Mapping[str, ImageHeader], option: float | None
) -> tuple[float | None, tuple[str, ...]]:
    """Chooses the pixel size of a dataset; it is never guessed, and an option goes before files.

    Returns:
        The edge of a pixel in nm, or None where not every raw image states it; and warnings.
    """
    stated = {file: h.pixel_sides_nm for file, h in {**raw, **masks}.items() if h.pixel_sides_nm}
    if option is not None:
        other = [f for f, sides in stated.items() if not all(agree(option, s) for s in sides)]
        if not other:
            return option, ()
        return option, (
            f"pixel size {option:g} nm was given, but {len(other)} files state another: "
            f"{first_names(other)}",
        )
    silent = [file for file in raw if file not in stated]
    if not stated or len(silent) == len(raw):
        return None, (
            f"pixel size is unknown, so lengths stay in px and resampling off: {_REMEDY}",
        )
    size = next(iter(stated.values()))[0]
    for file, (y_nm, x_nm) in stated.items():
        if not agree(y_nm, x_nm):
            raise BenchError(
                f"pixels of {file} must be square, received {y_nm:g} x {x_nm:g} nm: resample the "
                f"image, or {_REMEDY}"
            )
        if not agree(size, y_nm):
            raise BenchError(
                f"files must have one pixel size, received {size:g} nm in {next(iter(stated))} "
                f"and {y_nm:g} nm in {file}: correct the files, or {_REMEDY}"
            )
    if silent:
        return None, (
            f"pixel size is taken as unknown: {len(silent)} of {len(raw)} raw images state none "
            f"({first_names(silent)}), the others {size:g} nm: {_REMEDY}",
        )
    return size, ()


def agree(first_nm: float, second_nm: float) -> bool:
    """Whether two lengths are the same but for rounding in the files."""
    return abs(first_nm - second_nm) <= _RELATIVE_TOLERANCE * first_nm


def _headers(images: Iterable[SourceImage]) -> dict[str, ImageHeader]:
    """The headers of images by file; annotation that is drawn has none of its own."""
    return {image.file: image.header for image in images if image.drawn is None}


def build_sections(
    stem: str,
    pages: Sequence[SourceImage],
    labels: dict[str, list[SourceImage]],
    *,
    split: str,
    region: str = "",
) -> list[SourceSection]:
    """The sections of one image.

    Args:
        stem: Its name; the sections of a stack are called ``stem_zNN``.
        pages: Its raw sections.
        labels: For each structure as many label images.
        split: Split of its folder.
        region: Name of the volume, where its sections are numbered by their place in it.
    """
    digits = max(2, len(str(len(pages) - 1)))
    return [
        SourceSection(
            split=split,
            stem=stem if len(pages) == 1 else f"{stem}_z{page:0{digits}}",
            raw=image,
            labels={structure: images[page] for structure, images in labels.items()},
            region=region,
            number=page if region else None,
        )
        for page, image in enumerate(pages)
    ]


def check_named_alike(raw: ImageHeader, mask: ImageHeader, what: str) -> None:
    """Raises BenchError if the order of a mask's axes is unknown, and that of raw unusual."""
    if raw.turned and mask.turned is None:
        raise BenchError(
            f"axes of {what} must have names where those of its raw image are named in another "
            "order than z, y, x, received none: name them alike"
        )


def check_alike(raw: SourceImage, mask: SourceImage, *, pages: int, mask_pages: int) -> None:
    """Raises BenchError unless a mask has the size and number of sections of its raw image."""
    check_named_alike(raw.header, mask.header, mask.file)
    if (raw.header.shape, pages) == (mask.header.shape, mask_pages):
        return
    channels = raw.header.channels
    if raw.header.shape == mask.header.shape and channels > 1:
        raise BenchError(
            f"{raw.file} must hold one channel, or {mask.file} a page for each, received "
            f"{channels} channels and labels of {mask_pages} pages: save the channel that was "
            "annotated as a file of its own"
        )
    stacks = max(pages, mask_pages) > 1
    raise BenchError(
        f"{mask.file} must have the size of {raw.file}, "
        f"{_describe(raw.header, pages if stacks else 0)}, received "
        f"{_describe(mask.header, mask_pages if stacks else 0)}: export the mask again at full size"
    )


def _describe(header: ImageHeader, pages: int) -> str:
    height, width = header.shape
    sections = f" in {pages} section{'s' * (pages > 1)}" if pages else ""
    return f"{height} x {width} px (height x width){sections}"
