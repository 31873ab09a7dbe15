"""torch's optimisers without the compiler, which each would load before its first step.

That is a second of CPU in every process that trains, for steps that no compiler traces.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

_Optimiser = TypeVar("_Optimiser", bound=torch.optim.Optimizer)

# Methods that torch keeps out of what it compiles, by a decorator that loads the compiler.
_KEPT_OUT = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def _without_compiler(kind: type[_Optimiser]) -> type[_Optimiser]:
    """The same optimiser, whose methods are what those decorators wrap.

    Of a step the decorator has another effect, that no gradients are recorded: it is kept.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _KEPT_OUT}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})


EAGER_OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": _without_compiler(torch.optim.Adam),
    "adamw": _without_compiler(torch.optim.AdamW),
    "sgd": partial(_without_compiler(torch.optim.SGD), momentum=0.9),
}
