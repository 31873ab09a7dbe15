"""One cell of the benchmark: its stages, and how several processes share the cells."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig
from bench.config.scoring import EvaluateConfig, OptimizeConfig
from bench.config.settings import XY, StepConfig, parse_settings
from bench.config.training import DomainAdaptConfig, FinetuneConfig, MicrosamConfig
from bench.errors import BenchError
from bench.methods import DETECT, PRETRAIN, RANDOM, Method, find_stage, find_start
from bench.models.networks import find_network
from bench.steps.detect import detect
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.microsam import microsam
from bench.steps.optimize import optimize
from bench.steps.pretrain import pretrain
from bench.steps.training.outside import ignored_settings
from bench.structures import Structure, find_structure, join_structures
from bench.tracking.ownership.claims import BusyError
from bench.tracking.store import Store
from bench.words import AUTO, NONE

_Config = TypeVar("_Config", bound=StepConfig)
ModelConfig = DomainAdaptConfig | MicrosamConfig | FinetuneConfig | PretrainConfig | DetectConfig
# What a pretraining shares with the training that starts from it, beside the network itself.
_OF_NETWORKS = ("features", "width")
# A pretraining is of no structure: those of all structures are one cell.
_IMAGES = Structure("images")
# Settings that every stage shares with the benchmark, whatever else it is given.
_SHARED = ("dataset", "device", "precision", "rescale", "trust_checkpoint")
# Of the cells that learn from pseudo-masks.
_OF_PSEUDO_MASKS = ("pseudo", "pseudo_weight", "pseudo_fraction")
# Settings of networks of sections: in a grid beside them, those of volumes have their own.
_OF_SECTIONS = ("patch_px", "batch_size", "tile_px", "halo_px")
log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
# Between two looks whether others are done.
POLL_S = 3.0


@dataclass(frozen=True)
class GridCell:
    """A method on a structure with a seed, and so many annotated sections (None: all).

    Attributes:
        method: The method.
        structure: What is scored.
        seed: The seed.
        labelled: Annotated sections.
        classes: The structures that its one model learns, of a method of classes.
        external: Folder of the other data that its model is scored on; empty for its own data.
        pseudo: The pseudo-masks that its model learns from besides; empty for none.
    """

    method: Method
    structure: Structure
    seed: int
    labelled: int | None = None
    classes: tuple[str, ...] = ()
    external: str = ""
    pseudo: str = ""

    @classmethod
    def named(
        cls,
        method: str,
        structure: str,
        seed: int,
        labelled: int | None,
        classes: Sequence[str] = (),
        external: str = "",
        pseudo: str = "",
    ) -> "GridCell":
        """A cell by the names of its parts."""
        found = find_structure(structure)
        stage = find_stage(method)
        return cls(stage, found, seed, labelled, tuple(classes), external, pseudo)

    @property
    def trained(self) -> "GridCell":
        """The cell in whose name the model is trained: those of its classes and data share it."""
        if not self.classes:
            return self.own
        return dataclasses.replace(self.own, structure=find_structure(self.classes[0]))

    @property
    def own(self) -> "GridCell":
        """The cell of the same model on its own data."""
        return dataclasses.replace(self, external="")

    @property
    def searched(self) -> bool:
        """Whether a search has its model: of all annotations and its own data, and no oracle."""
        return self.labelled is None and not self.external and not self.method.oracle

    @property
    def adaptation(self) -> "GridCell | None":
        """The cell whose model this one's starts from or is prompted by; None without one."""
        stage = find_start(self.method)
        if stage is None:
            return None
        structure = _IMAGES if stage.step == PRETRAIN else self.structure
        # A detector learns from the same annotation as what it prompts.
        learns = stage.learns or stage.step == DETECT
        labelled = self.labelled if learns else None
        plain = dataclasses.replace(self.own, labelled=labelled, pseudo="")
        return dataclasses.replace(plain, method=stage, structure=structure)

    def __str__(self) -> str:
        """As people say it."""
        where = f" on {self.external}" if self.external else ""
        return self._describe(self.structure.name) + where

    def describe_training(self) -> str:
        """The training of its model, as people say it."""
        return self._describe(join_structures(self.classes or (self.structure.name,)))

    def _describe(self, structure: str) -> str:
        few = "" if self.labelled is None else f" labelled {self.labelled}"
        pseudo = " with pseudo-masks" if self.pseudo else ""
        return f"{self.method.name} {structure}{few}{pseudo} seed {self.seed}"


def evaluate_cell(
    cell: GridCell, config: BenchmarkConfig, store: Store, parent: str, model: str | None = None
) -> dict[str, str]:
    """Makes the cell's model, or takes it as it is, and evaluates it.

    A search for the best combination is made on validation, so that is evaluated too.

    Args:
        cell: The cell.
        config: The settings of the benchmark.
        store: The tracking store.
        parent: Id of the benchmark's run.
        model: Id of the run that has the model, if it was made before.

    Returns:
        Ids of the evaluations' runs, by split.
    """
    if cell.method.step and not model:
        model = make_model(cell, config, store, parent)
    return {
        split: evaluate(settings, store, parent)
        for split, settings in evaluation_configs(cell, config, model).items()
    }


def evaluation_configs(
    cell: GridCell, config: BenchmarkConfig, model: str | None
) -> dict[str, EvaluateConfig]:
    """The settings of a cell's evaluations, by split.

    Args:
        cell: The cell.
        config: The settings of the benchmark.
        model: Id of the run that has the model, where the cell's method makes one.
    """
    network = find_network(cell.method.network)
    # Neither has a mean over symmetries: of volumes they would move the axis of the beam.
    as_it_is = network.finds_instances or network.dims == 3
    settings: dict[str, Any] = {
        "dataset": cell.external or config.dataset,
        "protocol": config.protocol,
        "augmentations": NONE if as_it_is else config.augmentations,
        "metrics": config.metrics,
        "planes": XY if as_it_is else config.planes,
        "device": config.device,
        "engine": config.engine,
        "rescale": config.rescale,
        "trust_checkpoint": config.trust_checkpoint,
    }
    if cell.method.step:
        settings["run_id"] = model
        if cell.classes:
            settings["structure"] = cell.structure.name
    else:
        settings |= {
            "method": cell.method.name,
            "structure": cell.structure.name,
            "source": config.source,
        }
    # A search never sees other data, nor what reads the truth.
    searched = config.optimize and not cell.external and not cell.method.oracle
    splits = (config.split, "val") if searched else (config.split,)
    return {split: EvaluateConfig(**settings, split=split) for split in dict.fromkeys(splits)}


def make_model(cell: GridCell, config: BenchmarkConfig, store: Store, parent: str) -> str:
    """Runs the stages of the cell's method; returns the id of the run that has the model."""
    source = None
    if cell.adaptation:
        source = f"runs:/{make_model(cell.adaptation, config, store, parent)}"
    settings = model_config(cell, config, source)
    if isinstance(settings, DomainAdaptConfig):
        return domain_adapt(settings, store, parent)
    if isinstance(settings, MicrosamConfig):
        return microsam(settings, store, parent)
    if isinstance(settings, PretrainConfig):
        return pretrain(settings, store, parent)
    if isinstance(settings, DetectConfig):
        return detect(settings, store, parent)
    return finetune(settings, store, parent)


def model_config(cell: GridCell, config: BenchmarkConfig, source: str | None = None) -> ModelConfig:
    """The settings of the last step that makes a cell's model.

    Args:
        cell: The cell.
        config: The settings of the benchmark.
        source: The model that the cell starts from, or the detector that prompts it; None for what
            the settings say.

    Raises:
        BenchError: If the settings of a stage are none of its step's.
    """
    method = cell.method
    if method.step == PRETRAIN:
        return _pretrain_config(cell, config)
    if method.step == DETECT:
        return _detect_config(cell, config)
    own: dict[str, Any] = {
        "method": method.name,
        "structure": cell.structure.name,
        "seed": cell.seed,
        "source": source or config.source,
    }
    if method.step == "domain_adapt":
        own["confidence"] = method.confidence
        own |= parse_settings(DomainAdaptConfig, config.domain_adapt)
        return _stage_config(DomainAdaptConfig, config, own)
    if method.step == "microsam":
        return _microsam_config(cell, config, own, source)
    # What the settings of fine-tuning and the benchmark have in common is the cell's.
    names = {field.name for field in dataclasses.fields(FinetuneConfig)} & vars(config).keys()
    shared = {name: getattr(config, name) for name in names - _left_out(cell, config)}
    own |= {"source": AUTO} if method.start == RANDOM else {}
    # What weighs foreground is of one structure, and the other way round.
    if cell.classes:
        own |= {"structures": ",".join(cell.classes), "foreground_weight": None}
    else:
        own["class_weights"] = AUTO
    return FinetuneConfig(**shared | own | {"labelled": cell.labelled})


def _left_out(cell: GridCell, config: BenchmarkConfig) -> set[str]:
    """The settings of the benchmark that are none of a fine-tuning of its grid.

    Raises:
        BenchError: If its method cannot be given minutes.
    """
    network = find_network(cell.method.network)
    # That of the benchmark is of all cells.
    left_out = {"labelled", "structures"}
    if network.dims == 3:
        left_out |= set(_OF_SECTIONS)
    # What others of the grid follow; by itself, finetune refuses it.
    ignored = ignored_settings(network)
    if config.minutes is not None and "minutes" in ignored:
        raise BenchError(
            f"{cell.method.name} counts its iterations, received minutes={config.minutes:g}: leave "
            "it out of methods, and train it by a command of its own"
        )
    left_out |= ignored | ({"iterations"} if config.minutes is not None else set())
    return left_out | (set() if cell.pseudo else set(_OF_PSEUDO_MASKS))


def _pretrain_config(cell: GridCell, config: BenchmarkConfig) -> PretrainConfig:
    """The settings of a pretraining: the network is that of the trainings that start from it."""
    own: dict[str, Any] = {"network": cell.method.network, "seed": cell.seed}
    own |= {name: v for name in _OF_NETWORKS if (v := getattr(config, name)) is not None}
    typed = parse_settings(PretrainConfig, config.pretrain)
    return _stage_config(PretrainConfig, config, typed | own)


def _microsam_config(
    cell: GridCell, config: BenchmarkConfig, own: dict[str, Any], source: str | None
) -> MicrosamConfig:
    """The settings of a SAM, whose source the grid's is not: it starts from another network."""
    own = {name: value for name, value in own.items() if name != "source"}
    own |= {"mode": cell.method.mode, "labelled": cell.labelled}
    own |= parse_settings(MicrosamConfig, config.microsam)
    if cell.method.start == DETECT:
        own |= {"detector": source} if source else {}
    elif cell.adaptation:
        # What it starts from has the source that is typed.
        own["source"] = source or AUTO
    return _stage_config(MicrosamConfig, config, own)


def _detect_config(cell: GridCell, config: BenchmarkConfig) -> DetectConfig:
    """The settings of a detector that prompts the models of a cell."""
    own: dict[str, Any] = {
        "structure": cell.structure.name,
        "seed": cell.seed,
        "labelled": cell.labelled,
        # The grid's would place boxes less exactly.
        "precision": DetectConfig.precision,
    }
    return _stage_config(DetectConfig, config, own | parse_settings(DetectConfig, config.detect))


def _stage_config(
    config_type: type[_Config], config: BenchmarkConfig, own: dict[str, Any]
) -> _Config:
    names = {field.name for field in dataclasses.fields(config_type)}
    shared = {name: getattr(config, name) for name in _SHARED if name in names}
    # A stage whose iterations are typed has these; and what is not trained has no minutes.
    if "iterations" not in own and own.get("mode") in (None, "finetune"):
        shared["minutes"] = config.minutes
    return config_type(**shared | own)


def search_structure(
    structure: str, validations: list[str], config: BenchmarkConfig, store: Store, parent: str
) -> str:
    """Searches the best combination of evaluated cells; returns the id of the search's run."""
    search = OptimizeConfig(
        dataset=config.dataset,
        structure=structure,
        metric=config.metric,
        metrics=config.metrics,
        runs=",".join(validations),
        output=str(Path(config.output) / "best" / structure),
    )
    return optimize(search, store, parent)


def take_turns(items: Iterable[_Item], attempt: Callable[[_Item], None]) -> None:
    """Attempts every item; one that is busy is attempted again after the others, until it is not.

    An item whose other process dies is free again, so this always ends.

    Args:
        items: The work.
        attempt: Does an item, or raises BusyError.
    """
    pending, known = list(items), set()
    while pending:
        busy = []
        for item in pending:
            try:
                attempt(item)
            except BusyError as error:
                busy.append(item)
                if item not in known:
                    log.info("%s: later: %s", item, error)
                known.add(item)
        if len(busy) == len(pending):
            time.sleep(POLL_S)
        pending = busy
