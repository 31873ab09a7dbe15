"""The cells of a benchmark: methods x structures x numbers of labelled sections x seeds."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from bench.config.running import BenchmarkConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.errors import BenchError
from bench.methods import FIRST_RELEASE, Method, find_method
from bench.models.networks import find_trainable
from bench.postprocess.segmentation import paper_settings
from bench.steps.grid.cells import GridCell
from bench.steps.scoring.external import check_pixel_size, check_unseen
from bench.steps.training.pseudo import learns_pseudo
from bench.steps.training.source import source_of
from bench.structures import Structure, find_structures, split_names
from bench.words import AUTO, NONE

_ALL = "all"
# Methods that are not named one by one: those that cannot be had are left out.
NOT_NAMED = (AUTO, _ALL)


def make_grid(config: BenchmarkConfig, dataset: PreparedDataset) -> list[GridCell]:
    """The cells of a config.

    A method without a seed has one cell for all seeds; one that learns from no annotation, one
    for all numbers of labelled sections.

    Raises:
        BenchError: If a name is unknown, a structure is not in the dataset or not in the paper
            whose protocol is wanted, a method's step cannot train its network, or nothing is named.
    """
    named = FIRST_RELEASE if config.methods in NOT_NAMED else split_names(config.methods)
    methods = [find_method(name) for name in dict.fromkeys(named)]
    for method in methods:
        if method.step:
            find_trainable(method.network, method.step)
    structures = _find_scored(config, dataset)
    seeds = split_names("0" if config.seeds == AUTO else config.seeds)
    labelled = split_names(config.labelled)
    if not (methods and seeds and all(seed.isdecimal() for seed in seeds)):
        raise BenchError(
            "a benchmark needs methods, and seeds that are whole numbers, received "
            f"methods={config.methods!r} and seeds={config.seeds!r}"
        )
    if not (labelled and all(number == _ALL or number.isdecimal() for number in labelled)):
        raise BenchError(
            "labelled must be numbers of annotated training sections, or all, received "
            f"{config.labelled!r}"
        )
    numbers = [None if number == _ALL else int(number) for number in labelled]
    together = tuple(structure.name for structure in structures)
    _check_classes(methods, together, config)
    grid = [
        GridCell(
            method,
            structure,
            seed if method.seeded else 0,
            number if method.learns else None,
            together if method.of_classes else (),
        )
        for structure, method, number, seed in itertools.product(
            structures, methods, numbers, [int(seed) for seed in seeds]
        )
    ]
    grid = list(dict.fromkeys(grid))
    # After those without, so that a training can say what pseudo-masks brought.
    grid += _with_pseudo_masks(grid, config)
    return [*grid, *_on_other_data(grid, config)]


def _with_pseudo_masks(grid: Sequence[GridCell], config: BenchmarkConfig) -> list[GridCell]:
    """The cells that learn from pseudo-masks besides.

    Raises:
        BenchError: If pseudo-masks are named, and no method learns from them.
    """
    if config.pseudo == NONE:
        return []
    found = [
        dataclasses.replace(cell, pseudo=config.pseudo)
        for cell in grid
        if learns_pseudo(cell.method)
    ]
    if not found:
        raise BenchError(
            f"no method of this benchmark learns from pseudo-masks, received pseudo="
            f"{config.pseudo}: name one that finetune trains on sections, or leave pseudo out"
        )
    return found


def _on_other_data(grid: Sequence[GridCell], config: BenchmarkConfig) -> list[GridCell]:
    """The cells of models that are scored on other data besides; a source was trained on none."""
    return [
        dataclasses.replace(cell, external=folder)
        for folder in _list_external(config)
        for cell in grid
        if cell.method.step
    ]


def _list_external(config: BenchmarkConfig) -> list[str]:
    """The folders of other data that a config names."""
    names = split_names(config.external)
    return [name for name in dict.fromkeys(names) if name.lower() != NONE]


def check_external(config: BenchmarkConfig, dataset: PreparedDataset) -> None:
    """Checks the other data that a config names.

    Raises:
        BenchError: If one is not there, is the dataset itself or another of them, lacks the split
            or a structure, has no pixel size where the dataset has one, or has its sections.
    """
    known = {dataset.content_hash: dataset.root}
    for folder in _list_external(config):
        other = PreparedDataset.open(folder)
        check_annotated(other)
        if other.content_hash in known:
            raise BenchError(
                f"external must be other data than the dataset, each once, received {folder}, "
                f"which is {known[other.content_hash]}: leave it out"
            )
        known[other.content_hash] = other.root
        for structure in find_structures(config.structures, dataset.structures):
            other.instances(config.split, structure.name)
        check_pixel_size(other, dataset.pixel_size_nm)
        check_unseen(dataset, other, config.split)


def _find_scored(config: BenchmarkConfig, dataset: PreparedDataset) -> tuple[Structure, ...]:
    """The structures of a config, each in the split that is scored, and in the paper if asked."""
    structures = find_structures(config.structures, dataset.structures)
    for structure in structures:
        dataset.instances(config.split, structure.name)
        source_of(structure.name, config.source, dataset.structures)
        if config.protocol == "paper":
            paper_settings(structure)
    return structures


def _check_classes(
    methods: Iterable[Method], structures: Sequence[str], config: BenchmarkConfig
) -> None:
    """Raises BenchError where a method of classes has one structure to learn."""
    for method in methods:
        if method.of_classes and len(structures) < 2:
            raise BenchError(
                f"method {method.name} learns two structures or more in one model, received "
                f"structures={config.structures}: name more, or leave the method out"
            )
