"""Networks that another program trains, in place of our loop.

The row of such a network names a function as ``trained_by``. It is called with the keywords
``config``, ``info``, ``data``, ``compute`` and ``run``: the settings, what the model is so far, the
annotated sections, the device, and the run; where the row says ``takes_source``, with ``source`` as
well, the path of the source's checkpoint. It logs ``checkpoint/best.safetensors`` and
``checkpoint/last.safetensors`` (``log_checkpoints``) and returns a Progress. ``run.work`` is its
folder until the run is finished, from which an interrupted one goes on.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bench.config.settings import typed_settings
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.models.networks import Network
from bench.training.loop import LoopSettings

# What a training is of, whoever does it; and of how much of it.
_OF = ("dataset", "structure", "method", "source", "trust_checkpoint")
_HOW_MUCH = ("labelled", "seed")
_OURS = {
    field.name for kind in (FinetuneConfig, LoopSettings) for field in dataclasses.fields(kind)
}
# Beside settings: what our loss weighs.
_WEIGHT = {"foreground_weight", "foreground_weight_origin", "precision"}


def check_settings(config: FinetuneConfig, network: Network) -> None:
    """Checks that nothing is typed that whoever trains the network does not follow.

    Raises:
        BenchError: If something is.
    """
    ignored = [name for name in typed_settings(config) if not _is_followed(name, network)]
    if ignored:
        raise BenchError(
            f"the network {network.name} has a training of its own, which follows "
            f"{', '.join((*_HOW_MUCH, *network.settings))} and no other setting, received "
            f"{', '.join(ignored)}: leave {'it' if len(ignored) == 1 else 'them'} out"
        )


def ignored_settings(network: Network) -> set[str]:
    """The settings of finetune that whoever trains a network does not follow; none of our own."""
    names = {field.name for field in dataclasses.fields(FinetuneConfig)}
    return {name for name in names if not _is_followed(name, network)}


def followed_settings(settings: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """Resolved settings without those that whoever trains the network does not follow."""
    if network.trained_by is None:
        return dict(settings)
    dropped = {name for name in _OURS | _WEIGHT if not _is_followed(name, network)}
    return {name: value for name, value in settings.items() if name not in dropped}


def _is_followed(name: str, network: Network) -> bool:
    return network.trained_by is None or name in (*_OF, *_HOW_MUCH, *network.settings)
