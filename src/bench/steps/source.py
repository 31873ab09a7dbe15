"""Where a training's first weights come from."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.errors import BenchError
from bench.hashing import file_sha256
from bench.models.checkpoint import ModelInfo, load_info, load_weights
from bench.tracking.queries import fetch_artifact, get_trained
from bench.tracking.store import Store

log = logging.getLogger(__name__)

BEST = "checkpoint/best.safetensors"


@dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
        name: As the user typed it.
        sha256: Hash of the weights file; empty for random weights.
        info: What the model is; None for random weights.
        weights: Its tensors; None for random weights.
    """

    name: str
    sha256: str = ""
    info: ModelInfo | None = None
    weights: dict[str, torch.Tensor] | None = None


def resolve_source(store: Store, name: str) -> Source:
    """Reads the weights of ``random``, ``runs:/ID`` or the path of a checkpoint file.

    Raises:
        BenchError: If it is none of them, or cannot be read.
    """
    if name == "random":
        return Source(name)
    if name.startswith("runs:/"):
        path = fetch_checkpoint(store, name.removeprefix("runs:/").split("/")[0])
    elif name.startswith(("synapsenet:", "models:/")):
        raise BenchError(
            f"source must be random, runs:/ID or a checkpoint file, received {name!r}: "
            "this release cannot fetch published or registered models yet"
        )
    else:
        path = Path(name)
        if path.suffix != ".safetensors" or not path.is_file():
            raise BenchError(
                f"source must be random, runs:/ID or a .safetensors file that exists, "
                f"received {name!r}: check the path"
            )
    return Source(name, file_sha256(path), load_info(path), load_weights(path))


def fetch_checkpoint(store: Store, run_id: str) -> Path:
    """Returns the local path of a trained run's best weights, with their JSON file beside."""
    run_id = get_trained(store, run_id).id
    folder = fetch_artifact(store, run_id, "checkpoint")
    return folder / Path(BEST).name
