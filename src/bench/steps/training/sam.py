"""Where the weights of a Segment Anything model come from."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.core.hashing import file_sha256, json_sha256
from bench.errors import BenchError
from bench.methods import DEFAULT_SAM
from bench.models.checkpoint import ModelInfo, load_info, load_weights
from bench.models.sam_weights import PUBLISHED, read_published, read_torch_file
from bench.steps.training.source import fetch_checkpoint
from bench.tracking.store import Store
from bench.words import AUTO

SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class SamSource:
    """Weights of a SAM.

    Attributes:
        name: As the user typed it, or the default's.
        digest: Hash of its files.
        info: What the model is, if it is a checkpoint of ours; None otherwise.
        read: Reads its tensors, named as in SamNetwork; fetches them where needed.
    """

    name: str
    digest: str
    info: ModelInfo | None
    read: Callable[[], dict[str, torch.Tensor]]


def resolve_sam(store: Store, name: str, *, trust: bool) -> SamSource:
    """Finds the SAM that a name stands for.

    Args:
        store: The tracking store, for ``runs:/ID``.
        name: A name of micro_sam's, ``runs:/ID``, or the path of a checkpoint; auto is the
            default.
        trust: Whether a foreign file may run code of its own while it is read.

    Raises:
        BenchError: If it is none of them.
    """
    name = DEFAULT_SAM if name == AUTO else name
    if name.startswith("runs:/"):
        return our_checkpoint(
            name, fetch_checkpoint(store, name.removeprefix("runs:/").split("/")[0])
        )
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return our_checkpoint(name, path)
    if path.is_file():
        digest = file_sha256(path)
        return SamSource(name, digest, None, functools.partial(read_torch_file, path, trust=trust))
    if path.suffix in (*SUFFIXES, ".safetensors") or path.name != name:
        raise BenchError(
            f"source must be a SAM that micro_sam publishes ({', '.join(sorted(PUBLISHED))}), "
            f"runs:/ID or a checkpoint file that exists, received {name!r}: check the path"
        )
    digests = [file.digest for file in PUBLISHED.get(name, ())]
    if not digests:
        # Says what is wrong with the name.
        read_published(name)
    return SamSource(name, json_sha256(digests), None, functools.partial(read_published, name))


def our_checkpoint(name: str, path: Path) -> SamSource:
    """The SAM of a checkpoint of ours."""
    info = load_info(path)
    if info.architecture != "sam":
        raise BenchError(
            f"microsam starts from a SAM, source {name} is a {info.architecture}: choose a run of "
            "microsam, a micro_sam model or a SAM file"
        )
    return SamSource(name, file_sha256(path), info, functools.partial(load_weights, path))
