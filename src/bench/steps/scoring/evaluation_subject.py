"""What an evaluation is about: the model of a run, or a source as it is."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

from bench.config.scoring import EvaluateConfig
from bench.core.hashing import file_sha256
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.methods import Method, find_method, source_as_it_is
from bench.models.checkpoint import check_segments
from bench.models.networks import find_network
from bench.recipe.recipe import RecipeMember
from bench.steps.scoring.recipes import choose_class
from bench.steps.training.source import Source, fetch_checkpoint, resolve_source, source_of
from bench.structures import find_structure, split_structures
from bench.tracking.queries import ALL_CLASSES, Cell, FoundRun, find_trained, get_trained
from bench.tracking.store import Store
from bench.words import AUTO, OurNetworks

log = logging.getLogger(__name__)
# The method that applies a network of volumes as it is.
_AS_IT_IS: dict[str, str] = {OurNetworks.UNET3D_ANISOTROPIC: "anisotropic_unadapted"}


@dataclass(frozen=True)
class Subject:
    """A model that is evaluated.

    Attributes:
        cell: What its scores are about.
        run_id: The run that made it; empty where it is a source as it is.
        source: The name of that source; empty otherwise.
        weights: Its checkpoint.
        sha256: Hash of the checkpoint.
        warnings: What a reader of its scores must know.
        learned: All structures that it learned, as one name; empty where it is a source as it is.
    """

    cell: Cell
    run_id: str
    source: str
    weights: Path
    sha256: str
    warnings: tuple[str, ...] = ()
    learned: str = ""

    @property
    def member(self) -> RecipeMember:
        """What a recipe says of it, before it is evaluated."""
        return RecipeMember(
            name=self.cell.method,
            method=self.cell.method,
            seed=self.cell.seed,
            trained_run=self.run_id,
            source=self.source,
            evaluation="",
            weights_sha256=self.sha256,
        )


def find_subject(config: EvaluateConfig, dataset: PreparedDataset, store: Store) -> Subject:
    """Finds the model that a config names.

    Raises:
        BenchError: If there is none, or the config contradicts itself.
    """
    if config.method != AUTO and not find_method(config.method).step:
        return _find_source(config, dataset, store)
    if config.source != AUTO:
        raise BenchError(
            f"source is the model of a method without a stage of its own, received source="
            f"{config.source!r} with method={config.method}: add method=unadapted or cryovesnet, "
            "or give run_id"
        )
    trained = _find_run(config, dataset, store)
    cell = dataclasses.replace(trained.cell, structure=choose_class(trained, config.structure))
    weights = fetch_checkpoint(store, trained.id)
    sha256, learned = file_sha256(weights), trained.cell.structure
    return Subject(cell, trained.id, "", weights, sha256, trained.warnings, learned)


def each_structure(config: EvaluateConfig, store: Store) -> list[EvaluateConfig]:
    """The evaluations that a config stands for: one, or of all structures of a model of classes.

    All are those of a run that is named without a structure, or where the structure is ``all``.

    Raises:
        BenchError: If there is no such model.
    """
    every = config.structure.strip().lower() == ALL_CLASSES
    if not (every or (config.structure == AUTO and config.run_id != AUTO)):
        return [config]
    if config.run_id != AUTO:
        trained = get_trained(store, config.run_id)
    else:
        trained = find_trained(
            store,
            method=config.method,
            structure=ALL_CLASSES,
            dataset=PreparedDataset.open(config.dataset).content_hash,
            seed=config.seed,
        )
    names = split_structures(trained.cell.structure)
    if len(names) == 1 and not every:
        return [config]
    return [dataclasses.replace(config, structure=name, run_id=trained.id) for name in names]


def _find_source(config: EvaluateConfig, dataset: PreparedDataset, store: Store) -> Subject:
    """The model of a method without a stage of its own: its source as it is."""
    method = find_method(config.method)
    if config.structure == AUTO or config.run_id != AUTO:
        raise BenchError(
            f"method {config.method} evaluates a source as it is, received run_id={config.run_id} "
            f"and structure={config.structure}: give structure and source, and no run_id"
        )
    structure = find_structure(config.structure, dataset.structures).name
    given = source_of(structure, config.source, dataset.structures, method.name)
    if given == AUTO:
        given = source_as_it_is(method, structure, config.protocol)
        log.info("source of %s: %s, as none is given", structure, given)
    source = resolve_source(store, given, trust=config.trust_checkpoint, network=method.network)
    if source.path is None:
        raise BenchError(
            f"method {config.method} evaluates a trained model, received source={given}: "
            "give source=synapsenet:NAME, source=runs:/ID or a checkpoint file"
        )
    assert source.info is not None
    check_segments(source.info, f"source {source.name}")
    _check_network(method, source)
    cell = Cell(config.method, structure, dataset.content_hash, seed=0)
    return Subject(cell, "", source.name, source.path, source.sha256)


def _check_network(method: Method, source: Source) -> None:
    """Raises BenchError where a method of sections is given a network of volumes, or the reverse.

    Whichever network of sections is applied as it is, it is unadapted; one of volumes has its name.
    """
    given, wanted = find_network(source.network), find_network(method.network)
    if given.dims == wanted.dims and (wanted.dims == 2 or given == wanted):
        return
    kind, other = "sections", "unadapted"
    if given.dims == 3:
        kind, other = "volumes", _AS_IT_IS.get(given.name, "cryovesnet")
    raise BenchError(
        f"method {method.name} applies a {method.network} as it is, source {source.name} is a "
        f"{source.network}, of {kind}: choose another source"
        f"{'' if other == method.name else f', or method={other}'}"
    )


def _find_run(config: EvaluateConfig, dataset: PreparedDataset, store: Store) -> FoundRun:
    if config.run_id == AUTO:
        if config.structure == AUTO:
            raise BenchError("evaluate needs a model: give run_id, or structure (and method)")
        structure = find_structure(config.structure, dataset.structures).name
        return find_trained(
            store,
            method=config.method,
            structure=structure,
            dataset=dataset.content_hash,
            seed=config.seed,
        )
    trained = get_trained(store, config.run_id)
    learned = split_structures(trained.cell.structure)
    if config.structure != AUTO and find_structure(config.structure).name not in learned:
        raise BenchError(
            f"run {config.run_id} trained {', '.join(learned)}, received structure="
            f"{config.structure}: leave structure out, or give a run of that structure"
        )
    if config.method not in (AUTO, trained.cell.method):
        raise BenchError(
            f"run {config.run_id} is of method {trained.cell.method}, received method="
            f"{config.method}: leave one of both out"
        )
    return trained
