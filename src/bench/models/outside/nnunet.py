"""nnU-Net's networks (Isensee et al. 2021), built of the plans that it made for a data set.

The package nnunetv2 is optional: it is imported when a network is built. All of its code is called
from here, bench.inference.outside.nnunet and bench.training.nnunet.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import torch

# Of the two configurations that nnU-Net plans for sections and volumes, that of sections.
CONFIGURATION = "2d"
# Which of a prediction's channels is the structure; the other is the background.
STRUCTURE_LABEL = 1


class PlannedNetwork(torch.nn.Module):
    """A network of nnU-Net's, whose tensors have one name each.

    Its own registers convolutions, norms and the encoder twice, under two names; a file of tensors
    takes none twice.
    """

    def __init__(self, planned: torch.nn.Module) -> None:
        """Takes a network as nnU-Net builds it, which stays the same object."""
        super().__init__()
        self.planned = planned
        self._first_names = _find_repeated(self)
        self.register_state_dict_post_hook(_drop_repeated)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_restore_repeated)  # type: ignore[no-untyped-call]

    def forward(self, sections: torch.Tensor) -> torch.Tensor:
        """From normalised sections (batch, 1, y, x) to logits (batch, channels, y, x)."""
        logits: torch.Tensor = self.planned(sections)
        return logits


def _find_repeated(module: torch.nn.Module) -> dict[str, str]:
    """The first name of every tensor that has more than one, by its other names."""
    tensors = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    first: dict[int, str] = {}
    return {
        name: first[id(tensor)]
        for name, tensor in tensors
        if first.setdefault(id(tensor), name) != name
    }


def _drop_repeated(module: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in module._first_names:
        del state[prefix + name]


def _restore_repeated(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, first in module._first_names.items():
        if prefix + first in state:
            state[prefix + name] = state[prefix + first]


def build_nnunet(
    *,
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    mirror_axes: list[int],
) -> PlannedNetwork:
    """Builds the network of plans, with random weights.

    Args:
        plans: nnU-Net's plans of a data set.
        dataset_json: Its description of the data set: channels and labels.
        mirror_axes: Along which a prediction is mirrored; the network does not depend on it.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    with silence_nnunet():
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            len(dataset_json["channel_names"]),
            manager.get_label_manager(dataset_json).num_segmentation_heads,
            # The outputs at lower resolutions are of the training only.
            deep_supervision=False,
        )
    return PlannedNetwork(network)


@contextlib.contextmanager
def silence_nnunet() -> Iterator[None]:
    """Keeps what nnU-Net says from the terminal: the plans and our curves say it, too.

    It prints, and setuptools, by which it copies files, says each to the root logger, which nothing
    of ours does.
    """
    root = logging.getLogger()
    root.addFilter(_is_warning)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(_is_warning)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
