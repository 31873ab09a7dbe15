"""Everything that cells need, looked at once before the first of them runs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.config.detection import DetectConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig
from bench.config.training import DomainAdaptConfig, MicrosamConfig
from bench.errors import BenchError, MissingFileError
from bench.methods import (
    DEFAULT_SAM,
    DEFAULT_SOURCE,
    DETECT,
    METHODS,
    PRETRAIN,
    RANDOM,
    choose_method,
    random_row_of,
    source_as_it_is,
)
from bench.models.networks import find_network
from bench.models.outside.packages import check_packages
from bench.models.sam_weights import PUBLISHED, fetch_published
from bench.steps.detection.detect_task import identify_detection, resolve_detection
from bench.steps.domain_adapt import identify_adaptation, resolve_adaptation
from bench.steps.grid.causes import describe_causes
from bench.steps.grid.cells import GridCell, ModelConfig, evaluation_configs, model_config
from bench.steps.pretrain import identify_pretraining, resolve_pretraining
from bench.steps.scoring.evaluation_task import identify_evaluation, resolve_evaluation
from bench.steps.training.finetune_task import identify_finetune, resolve_finetune
from bench.steps.training.microsam_task import identify_microsam, resolve_microsam
from bench.steps.training.source import resolve_source, source_of
from bench.tracking.opening import finished_run
from bench.tracking.store import Store
from bench.words import AUTO, OurNetworks


@dataclass
class Checked:
    """What is known of cells that can run.

    Attributes:
        tasks: What the step of every training is called with, resolved, by its cell ``trained``.
        models: Runs that have the model, of trainings that are finished.
        evaluations: Runs of the evaluations that are finished, by cell and split.
        unadapted: Resolved evaluations of sources as they are.
    """

    tasks: dict[GridCell, Any] = field(default_factory=dict)
    models: dict[GridCell, str] = field(default_factory=dict)
    evaluations: dict[tuple[GridCell, str], str] = field(default_factory=dict)
    unadapted: dict[GridCell, Any] = field(default_factory=dict)


class Sources:
    """The sources of cells, each resolved once."""

    def __init__(self, store: Store) -> None:
        """Knows none yet."""
        self.store = store
        self._known: dict[tuple[bool, str], MissingFileError | None] = {}

    def find_missing(
        self, cells: Sequence[GridCell], config: BenchmarkConfig
    ) -> dict[GridCell, MissingFileError]:
        """Returns the cells whose published weights cannot be had.

        Whatever else is wrong with a source is left to check_cells.
        """
        missing = {}
        for cell in cells:
            is_sam, name = source = _source_of_cell(cell, config)
            if source not in self._known:
                trust = config.trust_checkpoint
                self._known[source] = _try_source(self.store, name, is_sam, trust=trust)
            # A finished run needs no file, and that of a SAM is found without it.
            if (error := self._known[source]) and not (
                is_sam and _is_made(cell, config, self.store)
            ):
                missing[cell] = error
        return missing

    def had(self, cells: Sequence[GridCell], config: BenchmarkConfig) -> list[GridCell]:
        """The cells whose sources are known to be there; none is looked for."""
        return [
            cell for cell in cells if self._known.get(_source_of_cell(cell, config), cell) is None
        ]


def _source_of_cell(cell: GridCell, config: BenchmarkConfig) -> tuple[bool, str]:
    """Whether the first weights of a cell are a SAM's, and their name; auto is the default."""
    # What a detector prompts has published weights, not the detector.
    first = cell if cell.method.start == DETECT else cell.adaptation or cell
    if not first.method.step:
        given = source_of(cell.structure.name, config.source, method=first.method.name)
        if given == AUTO:
            given = source_as_it_is(first.method, cell.structure.name, config.protocol)
        return False, given
    settings = model_config(first, config)
    if isinstance(settings, PretrainConfig | DetectConfig):
        return False, RANDOM
    given = source_of(cell.structure.name, settings.source, method=first.method.name)
    if isinstance(settings, MicrosamConfig):
        return True, DEFAULT_SAM if given == AUTO else given
    if isinstance(settings, DomainAdaptConfig):
        return False, DEFAULT_SOURCE if given == AUTO else given
    return False, choose_method(settings.method, source=given, loss=settings.loss)[1]


def _try_source(store: Store, name: str, is_sam: bool, *, trust: bool) -> MissingFileError | None:
    try:
        if not is_sam:
            resolve_source(store, name, trust=trust)
        elif name in PUBLISHED:
            fetch_published(name)
    except MissingFileError as error:
        return error
    except BenchError:
        pass
    return None


def _is_made(cell: GridCell, config: BenchmarkConfig, store: Store) -> bool:
    try:
        return bool(_resolve_model(model_config(cell, config), store)[1])
    except BenchError:
        return False


def describe_missing(
    missing: dict[GridCell, MissingFileError], cells: Sequence[GridCell]
) -> tuple[str, str]:
    """Who needs which weights that are not here, and the methods that go on without them.

    Args:
        missing: The cells that cannot run, and why.
        cells: All cells.
    """
    needed: dict[str, list[str]] = {}
    files: dict[str, tuple[tuple[str, str], ...]] = {}
    for cell, error in missing.items():
        needed.setdefault(error.model, []).append(cell.method.name)
        files[error.model] = error.files
    parts = []
    for model, methods in needed.items():
        named = dict.fromkeys(methods)
        start = "start" if len(named) > 1 else "starts"
        put = ", ".join(f"{address} at {path}" for address, path in files[model])
        parts.append(
            f"{', '.join(named)} {start} from {model}, which is neither here nor can be fetched "
            f"(put {put})"
        )
    left = dict.fromkeys(cell.method.name for cell in cells if cell not in missing)
    # Of our U-Net: whoever has volumes, or means other networks, names the methods.
    unets = [row for row in METHODS.values() if row.network == OurNetworks.UNET2D]
    without = [row.name for row in unets if row.start == RANDOM and not row.of_classes]
    names = ",".join(left) or ",".join(without)
    return "; ".join(parts), names


def check_cells(cells: Sequence[GridCell], config: BenchmarkConfig, store: Store) -> Checked:
    """Resolves every step of every cell as that step will do itself.

    Raises:
        BenchError: If a setting does not fit; it names every cause once.
    """
    checked, failures = Checked(), {}
    for cell in cells:
        try:
            _check_cell(cell, config, store, checked)
        except BenchError as error:
            failures[cell] = str(error)
    if len(failures) == len(cells) and len(set(failures.values())) == 1:
        raise BenchError(next(iter(failures.values())))
    if failures:
        raise BenchError(
            f"all {len(cells)} cells must be able to run, {len(failures)} are not "
            f"({describe_causes(failures)}): mend the cause, or leave them out of methods, "
            "structures or labelled"
        )
    return checked


def _check_cell(cell: GridCell, config: BenchmarkConfig, store: Store, checked: Checked) -> None:
    check_packages(find_network(cell.method.network))
    model = _check_model(cell, config, store, checked) if cell.method.step else ""
    for split, settings in evaluation_configs(cell, config, model).items():
        if cell.method.step and not model:
            continue
        # Other data follows the recipe of the model's own.
        if cell.external and (cell.own, split) not in checked.evaluations:
            continue
        task = resolve_evaluation(settings, store)
        if not cell.method.step:
            checked.unadapted[cell] = task
        if run_id := finished_run(store, identify_evaluation(task)):
            checked.evaluations[cell, split] = run_id


def _check_model(cell: GridCell, config: BenchmarkConfig, store: Store, checked: Checked) -> str:
    """The run that has a cell's model; empty where it must be made."""
    cell = cell.trained
    if cell in checked.tasks:
        return checked.models.get(cell, "")
    source, adapted, resolved = None, "", cell
    if cell.adaptation:
        adapted = _check_model(cell.adaptation, config, store, checked)
        source = f"runs:/{adapted}" if adapted else None
        if not adapted and cell.method.start == DETECT:
            # Until there is a detector, the same SAM without one stands in for both.
            resolved = dataclasses.replace(cell, method=METHODS["microsam_zero_shot"])
        elif not adapted and cell.method.start == PRETRAIN:
            # Nothing has its weights yet: random ones of the same network stand in for them.
            resolved = dataclasses.replace(cell, method=random_row_of(cell.method))
        elif not adapted:
            # The adapted model will be like its own source.
            source = _named_source(cell, model_config(cell.adaptation, config))
    checked.tasks[cell], run_id = _resolve_model(model_config(resolved, config, source), store)
    if run_id and (adapted or not cell.adaptation):
        checked.models[cell] = run_id
    return checked.models.get(cell, "")


def _named_source(cell: GridCell, adaptation: ModelConfig) -> str:
    """The source of an adaptation as a training takes it: by its name."""
    assert not isinstance(adaptation, PretrainConfig | DetectConfig)
    method = cell.adaptation.method.name if cell.adaptation else ""
    name = source_of(cell.structure.name, adaptation.source, method=method)
    if isinstance(adaptation, MicrosamConfig):
        return DEFAULT_SAM if name == AUTO else name
    return choose_method(AUTO, source=name, loss=AUTO)[1]


def _resolve_model(settings: ModelConfig, store: Store) -> tuple[Any, str]:
    """What a step works with, and the run that has its result; empty without one."""
    if isinstance(settings, DomainAdaptConfig):
        adaptation = resolve_adaptation(settings, store)
        return adaptation, finished_run(store, identify_adaptation(adaptation))
    if isinstance(settings, MicrosamConfig):
        sam = resolve_microsam(settings, store)
        return sam, finished_run(store, identify_microsam(sam))
    if isinstance(settings, DetectConfig):
        detection = resolve_detection(settings, store)
        return detection, finished_run(store, identify_detection(detection))
    if isinstance(settings, PretrainConfig):
        pretraining = resolve_pretraining(settings)
        return pretraining, finished_run(store, identify_pretraining(pretraining))
    task = resolve_finetune(settings, store)
    return task, finished_run(store, identify_finetune(task))
