"""Public data sets by name: ``dataset:NAME``."""

from dataclasses import replace
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.config.settings import typed_settings
from bench.dataset.public.fetching import fetch_public
from bench.dataset.public.rows import TEST, Edition, PublicDataset, PublicSeries
from bench.dataset.public.table import DATASETS
from bench.errors import BenchError, unknown_name
from bench.ingest.classes import parse_classes
from bench.ingest.layouts.series import list_series, list_unlabelled, split_in_blocks
from bench.ingest.sources import SourceTree
from bench.ingest.tree import FoundImages, build_tree
from bench.structures import order_structures
from bench.words import AUTO

_PREFIX = "dataset:"
# Settings about files whose layout is not known.
_NOT_ASKED = ("raw_key", "rows", "scale", "margin_px", "roots", "ignore")


def is_public(given: str) -> bool:
    """Whether an input names a public data set."""
    return given.startswith(_PREFIX)


def read_public(config: PrepareConfig) -> SourceTree:
    """Lists the sections of a public data set, which is fetched if it is not there.

    With ``splits=auto`` they have the published split, and where nobody published what validates,
    the last part of each training series does. A rule splits all but the published test part.

    Args:
        config: Settings of prepare; input is ``dataset:NAME``.

    Raises:
        BenchError: If there is no such data set, a setting does not fit it, it cannot be fetched,
            or its files are not those that were published.
    """
    row = _find_public(config)
    taken = _choose_structures(row, config)
    folder, edition = fetch_public(row)
    section_nm, _, pixel_size_nm = row.voxel_nm or (None, None, None)
    settings = replace(
        config,
        pixel_size_nm=config.pixel_size_nm or pixel_size_nm,
        section_nm=config.section_nm or section_nm,
        volumes=("true" if row.volumes else "false") if config.volumes == AUTO else config.volumes,
    )
    found = _find_sections(folder, edition, taken, settings)
    found.painted += [f"{row.name}: {note}" for note in row.notes]
    classes = parse_classes(config.structures)
    structures = order_structures(taken.values())
    tree = build_tree(found, structures, classes, settings)
    return replace(
        tree,
        given=folder,
        splits_rule="published" if config.splits == AUTO else config.splits,
        unlabelled=tuple(list_unlabelled(folder, edition.unlabelled)),
        published={
            "name": row.name,
            "title": row.title,
            "citation": row.citation,
            "licence": row.licence,
        },
    )


def _find_public(config: PrepareConfig) -> PublicDataset:
    """Finds the row of an input, and refuses settings that do not apply to it."""
    name = config.input.removeprefix(_PREFIX)
    if name not in DATASETS:
        raise unknown_name("public data set", name, DATASETS, "; docs/datasets.md has them")
    asked = [setting for setting in typed_settings(config) if setting in _NOT_ASKED]
    if asked:
        raise BenchError(
            f"{config.input} is read by its own layout, received {', '.join(asked)}: leave it out"
        )
    return DATASETS[name]


def _choose_structures(row: PublicDataset, config: PrepareConfig) -> dict[str, str]:
    """What the structures that are wanted are called here, by what the row calls them."""
    classes = parse_classes(config.structures)
    taken = {
        name: wanted for name in row.structures if (wanted := classes.find_folder(name)) is not None
    }
    if not taken or set(classes.wanted) - set(taken.values()):
        classes.choose(row.structures, config.input)
    if row.apart and len(taken) > 1:
        raise BenchError(
            f"an image of {row.name} is annotated for one structure, received "
            f"{', '.join(taken)}: prepare each apart, as in -P structures={next(iter(taken))}"
        )
    if len(set(taken.values())) < len(taken):
        raise BenchError(
            f"structures of {row.name} must stay apart, received {config.structures!r}, which "
            "calls two the same: map one of them"
        )
    return taken


def _find_sections(
    folder: Path, edition: Edition, taken: dict[str, str], settings: PrepareConfig
) -> FoundImages:
    """Lists the sections of all series that have a structure, each with its split."""
    found = FoundImages(folder, [])
    for series in edition.series:
        if not series.labels.keys() & taken.keys():
            continue
        sections = list_series(folder, series, taken)
        found.warnings += _warn_of_doubtful(series, taken)
        if settings.splits == AUTO:
            gap_nm = settings.section_nm if series.ordered else None
            found.sections += split_in_blocks(sections, series.shares, gap_nm)
        elif series.shares == TEST:
            found.held += split_in_blocks(sections, series.shares, None)
        else:
            found.sections += sections
    return found


def _warn_of_doubtful(series: PublicSeries, taken: dict[str, str]) -> list[str]:
    """Says which published values mean neither structure nor background."""
    return [
        f"labels of {name} have {value} for {what}, which counts as background"
        for name, labels in series.labels.items()
        if name in taken
        for value, what in labels.doubtful.items()
    ]
