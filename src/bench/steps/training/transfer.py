"""What a training takes from its source, and what of it stays as it was."""

import logging
from typing import Any

import torch

from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.prediction import check_depth
from bench.methods import RANDOM, Method
from bench.models.checkpoint import ModelInfo, build_model, transfer_weights
from bench.models.networks import Network, find_network
from bench.steps.training.data import measure_training_sections
from bench.steps.training.source import Source
from bench.tracking.runs import Run
from bench.words import AUTO, FIXED, NONE

log = logging.getLogger(__name__)
_ALL = "all"
# More names than these are counted.
_MOST_NAMES = 20


def check_transfer(config: FinetuneConfig, network: Network, source: str) -> None:
    """Checks that what is transferred and frozen fits the network and the source.

    Args:
        config: The settings, with the method's where they were ``auto``.
        network: What is trained.
        source: Name of the source; auto is one that the step finds.

    Raises:
        BenchError: If a part is named that the network does not have, or is frozen without being
            transferred.
    """
    for name in ("transfer", "freeze"):
        part = getattr(config, name)
        if part not in (_ALL, NONE, *network.parts):
            raise BenchError(
                f"{name} must be a part of the network {network.name} "
                f"({', '.join(network.parts) or 'it has none'}), received {part}: choose one, or "
                f"{name}={_ALL if name == 'transfer' else NONE}"
            )
    if source == RANDOM and (config.transfer, config.freeze) != (_ALL, NONE):
        raise BenchError(
            "transfer and freeze are of a source's weights, received transfer="
            f"{config.transfer} and freeze={config.freeze} with source={source}: give "
            "source=runs:/ID or a checkpoint file, or leave them out"
        )
    frozen, taken = (
        _prefixes(network, config.freeze) if config.freeze != NONE else (),
        _prefixes(network, config.transfer),
    )
    if not all(name.startswith(taken) for name in frozen):
        raise BenchError(
            f"what is frozen must be transferred, received freeze={config.freeze} with "
            f"transfer={config.transfer}: random weights would never be trained"
        )


def _prefixes(network: Network, part: str) -> tuple[str, ...]:
    """How the names of a part's tensors begin; all names begin with nothing."""
    return ("",) if part == _ALL else network.parts[part]


def check_source(source: Source, method: Method, typed: FinetuneConfig) -> None:
    """Raises BenchError where a source is of another network, or of another width than typed."""
    if source.network not in ("", method.network):
        raise BenchError(
            f"method {method.name} trains the network {method.network}, source {source.name} is a "
            f"{source.network}: choose a source, or a method, of the other's network, or evaluate "
            "the source as it is with method=unadapted"
        )
    width = (source.info.arguments if source.info else {}).get("width", typed.width)
    if typed.width not in (None, width):
        raise BenchError(
            f"width must be that of the source, {width} of {source.name}, received "
            f"{typed.width}: leave it {AUTO}, or choose another source"
        )


def choose_normalisation(
    typed: FinetuneConfig, config: FinetuneConfig, source: Source, dataset: PreparedDataset
) -> str:
    """The normalisation of a training: a fixed one where the source has it, each section's else.

    Args:
        typed: The settings as typed.
        config: The settings, with the method's where they were ``auto``.
        source: The source.
        dataset: The dataset, whose sections must have 8 bits for a fixed one.

    Raises:
        BenchError: If it was typed as fixed and the source has none, or sections have other depths.
    """
    if config.normalisation != FIXED:
        return config.normalisation
    if source.info is None or source.info.grey_scale is None:
        if typed.normalisation == FIXED:
            raise BenchError(
                "normalisation=fixed is that of a source that was published with it, as moco:FILE "
                f"and retina:FILE, received source={source.name}: leave it {AUTO}"
            )
        return "section"
    check_depth(measure_training_sections(dataset).depth)
    return FIXED


def transfer_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, without those of transfer where they are what all runs once did."""
    once = {"transfer": _ALL, "freeze": NONE}
    settings = {name: v for name, v in settings.items() if once.get(name) != v}
    if "freeze" not in settings:
        settings.pop("batch_norm", None)
    return settings


def start_network(config: FinetuneConfig, info: ModelInfo, source: Source, run: Run) -> Any:
    """Builds a network with what is transferred from its source, of which a part is frozen.

    How many tensors are transferred and frozen, of how many, is logged.

    Raises:
        BenchError: If the source does not have what is to be transferred.
    """
    network = build_model(info.architecture, info.arguments)
    if not source.info:
        return network
    row = find_network(info.architecture)
    part = () if config.transfer == _ALL else row.parts[config.transfer]
    transfer = transfer_weights(network, source.weights(), part)
    run.log_facts(
        {"source/tensors_transferred": transfer.transferred, "source/tensors": transfer.total}
    )
    fresh = transfer.reinitialised
    named = ", ".join(fresh) if len(fresh) <= _MOST_NAMES else f"{len(fresh)} tensors"
    run.set_tags({"bench.reinitialised": named or "none"})
    if config.freeze != NONE:
        frozen = _freeze(network, row.parts[config.freeze], still=config.batch_norm == "still")
        run.log_facts(frozen)
        log.info(
            "froze %d of %d tensors; statistics of batch norms among them: %s",
            frozen["source/tensors_frozen"],
            transfer.total,
            config.batch_norm,
        )
    return network


def _freeze(network: torch.nn.Module, part: tuple[str, ...], *, still: bool) -> dict[str, float]:
    """Keeps the parameters of a part from being trained, and says how many tensors stay.

    Args:
        network: The network.
        part: How the names of its tensors begin.
        still: Whether batch norms in it normalise by the statistics that they have; otherwise
            by each batch's, which they go on to average.
    """
    frozen = [p for name, p in network.named_parameters() if name.startswith(part)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    tensors = len(frozen)
    if still:
        buffers = [name for name, _ in network.named_buffers() if name.startswith(part)]
        tensors += len(buffers)
        for name, module in network.named_modules():
            if name.startswith(part) and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.register_forward_pre_hook(_stay_still)
    return {
        "source/tensors_frozen": tensors,
        "model/parameters_frozen": sum(parameter.numel() for parameter in frozen),
    }


def _stay_still(module: torch.nn.Module, _: Any) -> None:
    """Before each call: the loop puts the whole network into training."""
    module.eval()
