"""The state of an unfinished training on disk, from which it goes on as if nothing happened."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.core.files import write_whole


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        iteration: Iterations done.
        best_score: Best validation score so far; -1 before the first.
        best_iteration: When it was reached.
        elapsed_s: Seconds trained so far, over all sessions.
    """

    iteration: int = 0
    best_score: float = -1.0
    best_iteration: int = 0
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Trainee:
    """Everything whose state changes while training. The patches need none: see PatchFeed.

    Attributes:
        network: What is trained. Its frozen parameters are the source's and are not saved.
        optimizer: Its optimiser.
        plateau: The schedule that has a state, where it is used.
        scaler: The scaler of the loss, for fp16.
        teacher: A second network that follows the first, in the mean-teacher method.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None
    scaler: torch.amp.GradScaler
    teacher: torch.nn.Module | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of both networks that training changes, by name."""
        frozen = {name for name, p in self.network.named_parameters() if not p.requires_grad}
        state = self.network.state_dict()
        tensors = {f"network/{name}": t for name, t in state.items() if name not in frozen}
        if self.teacher is not None:
            tensors |= {f"teacher/{n}": t for n, t in self.teacher.state_dict().items()}
        return tensors


def save_state(path: Path, trainee: Trainee, progress: Progress) -> None:
    """Writes the state as one safetensors file, whole or not at all; numbers in its header."""
    optimizer = trainee.optimizer.state_dict()
    tensors = trainee.tensors()
    for index, moments in optimizer["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    numbers: dict[str, Any] = {
        "progress": vars(progress),
        "param_groups": optimizer["param_groups"],
        "plateau": trainee.plateau.state_dict() if trainee.plateau else None,
        "scaler": trainee.scaler.state_dict(),
    }
    header = {"state": json.dumps(numbers)}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=header))


def load_state(path: Path, trainee: Trainee) -> Progress:
    """Puts a saved state into the trainee and returns how far it had come."""
    with safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, tensor in trainee.tensors().items():
            tensor.copy_(tensors[name])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
    trainee.optimizer.load_state_dict({"state": moments, "param_groups": numbers["param_groups"]})
    if trainee.plateau:
        trainee.plateau.load_state_dict(numbers["plateau"])
    trainee.scaler.load_state_dict(numbers["scaler"])
    return Progress(**numbers["progress"])
