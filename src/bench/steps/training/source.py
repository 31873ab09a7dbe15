"""Where a method's first weights come from."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.files import describe_absence
from bench.core.hashing import file_sha256, json_sha256
from bench.core.names import run_of, run_path
from bench.errors import BenchError
from bench.methods import DEFAULT_SOURCE, METHODS, PRETRAIN, RANDOM, Method, find_start
from bench.models.checkpoint import (
    ModelInfo,
    head_tensors,
    load_info,
    load_volume_checkpoint,
    load_weights,
)
from bench.models.synapsenet import SYNAPSENET, fetch_by_package, fetch_synapsenet
from bench.recipe.recipe import Recipe, read_recipe_folder
from bench.structures import STRUCTURES, find_structure, is_structure_name
from bench.tracking.pretrained import find_pretrained, get_with_weights
from bench.tracking.queries import fetch_artifact, find_trained, get_trained
from bench.tracking.registry import SCHEME, RegisteredModel, fetch_model, get_registered
from bench.tracking.runs import read_warnings
from bench.tracking.store import Store
from bench.words import AUTO, RECONSTRUCTION, OurNetworks

# What reads the files of others needs torch: it is imported where one is read.
if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_BEST = "checkpoint/best.safetensors"
_SYNAPSENET_PREFIX = "synapsenet:"
_CRYOVESNET_PREFIX = "cryovesnet:"
_RUNS_PREFIX = "runs:/"
# Before the name of a published 3D model that sees the planes of volumes, and none repeated.
_VOLUMES_PREFIX = "volumes:"
_FORMS = (
    "random, synapsenet:NAME, cryovesnet:FILE, moco:FILE, retina:FILE, timm:NAME, dino:FILE, "
    "runs:/ID, models:/NAME@champion, or a checkpoint file or folder that exists"
)


@dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
        name: As the user typed it.
        sha256: Hash of the weights file; empty for random weights.
        info: What the model is; None for random weights.
        path: The checkpoint in our format; None for random weights.
        warnings: What the run that made it warned of.
    """

    name: str
    sha256: str = ""
    info: ModelInfo | None = None
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Row of NETWORKS that its weights are of; empty for random weights."""
        return self.info.architecture if self.info else ""

    def weights(self) -> "dict[str, torch.Tensor]":
        """Its tensors by name; none for random weights, and no output that gives images back."""
        weights = load_weights(self.path) if self.path else {}
        if self.info and self.info.outputs == RECONSTRUCTION:
            for name in head_tensors(self.info):
                del weights[name]
        return weights


def resolve_source(store: Store, name: str, *, trust: bool = False, network: str = "") -> Source:
    """Finds the weights that a name stands for, as a checkpoint in our format.

    Args:
        store: The tracking store, for ``runs:/ID`` and ``models:/NAME@ALIAS``.
        name: ``random``, ``synapsenet:NAME``, ``cryovesnet:FILE``, ``moco:FILE``,
            ``retina:FILE``, ``timm:NAME``, ``dino:FILE``, ``runs:/ID``,
            ``runs:/ID/checkpoint/iteration_000100.safetensors``, ``models:/NAME@ALIAS``, the path
            of a checkpoint of ours, or of a file or folder of torch_em or synapse_net; auto is the
            default source. ``volumes:`` before the name of a published 3D model makes it one of
            volumes.
        trust: Whether a foreign file may run code of its own while it is read.
        network: Row of NETWORKS that it is for: a published 3D model sees volumes where that does.

    Raises:
        BenchError: If it is none of them, or cannot be read.
    """
    name = DEFAULT_SOURCE if name == AUTO else name
    if name == RANDOM:
        return Source(name)
    path = _locate_source(store, name, trust=trust)
    of_sections = load_info(path).architecture == OurNetworks.UNET3D_PLANES
    if of_sections and network == OurNetworks.UNET3D_ANISOTROPIC:
        return resolve_source(store, f"{_VOLUMES_PREFIX}{name}", trust=trust)
    if of_sections:
        log.info("%s is a 3D model: a section is repeated along z to fill its depth", name)
    warnings: tuple[str, ...] = ()
    if name.startswith(_RUNS_PREFIX):
        warnings = read_warnings(get_with_weights(store, run_of(name)))
    return Source(name, file_sha256(path), load_info(path), path, warnings)


def _locate_source(store: Store, name: str, *, trust: bool) -> Path:
    if name.startswith(_RUNS_PREFIX):
        best = fetch_weights_of(store, get_with_weights(store, run_of(name)).info.run_id)
        return named_checkpoint(best, name)
    if name.startswith(SCHEME):
        return _locate_registered(store, name)
    if name.startswith(_VOLUMES_PREFIX):
        return _convert_to_volumes(store, name.removeprefix(_VOLUMES_PREFIX), trust=trust)
    if name.startswith(_SYNAPSENET_PREFIX):
        return _convert_published(name.removeprefix(_SYNAPSENET_PREFIX), trust=trust)
    if name.startswith(_CRYOVESNET_PREFIX):
        from bench.models.cryovesnet import convert_cryovesnet

        file = Path(name.removeprefix(_CRYOVESNET_PREFIX))
        return convert_cryovesnet(file, folder=_converted_folder())
    from bench.models.foreign import convert_foreign
    from bench.models.foundation.sources import FOUNDATION_SCHEMES, convert_foundation
    from bench.models.retina.weights import PUBLISHED_FILES, convert_published

    if name.startswith(tuple(row.scheme for row in PUBLISHED_FILES)):
        return convert_published(name, folder=_converted_folder())
    if name.startswith(FOUNDATION_SCHEMES):
        return convert_foundation(name, folder=_converted_folder())
    path = Path(name)
    if not path.exists():
        raise BenchError(
            f"source must be {_FORMS}, received {name!r}, {describe_absence(path)}: check it"
        )
    if path.suffix == ".safetensors":
        return path
    return convert_foreign(path, folder=_converted_folder(), trust=trust)


def _locate_registered(store: Store, name: str) -> Path:
    """The checkpoint of a registered model; raises BenchError if it has several."""
    model, recipe, weights = open_registered(store, name)
    if len(weights) > 1:
        runs = (
            f"{_RUNS_PREFIX}{member.trained_run}" if member.trained_run else member.source
            for member in recipe.members
        )
        raise BenchError(
            f"source must be one model, {model.uri} combines {len(weights)}: give one of "
            f"{', '.join(runs)}"
        )
    return weights[0]


def open_registered(store: Store, name: str) -> tuple[RegisteredModel, Recipe, tuple[Path, ...]]:
    """Reads the recipe of a registered model, and finds the weights that it carries.

    Args:
        store: The tracking store.
        name: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        BenchError: If there is no such model, its files are gone, or it is none of this suite.
    """
    model = get_registered(store, name)
    folder = fetch_model(store, model) / "artifacts" / "recipe"
    if not folder.is_dir():
        raise BenchError(
            f"a registered model must carry a recipe of this suite, {model.uri} has none: run "
            "promote, and name what it registers"
        )
    return model, *read_recipe_folder(folder)


def _convert_published(name: str, *, trust: bool) -> Path:
    """Fetches a model of SynapseNet into the cache and converts it, each once."""
    from bench.models.foreign import convert_foreign

    if name in SYNAPSENET:
        path, model = fetch_synapsenet(name), SYNAPSENET[name]
    else:
        path, model = fetch_by_package(name)
    return convert_foreign(
        path,
        folder=_converted_folder(),
        outputs=model.outputs,
        input_pixel_size_nm=model.pixel_size_nm,
        tile_px=model.tile_px,
        halo_px=model.halo_px,
        trust=trust,
    )


def _convert_to_volumes(store: Store, name: str, *, trust: bool) -> Path:
    """The checkpoint of a published 3D model as one of volumes, made of that of sections, once."""
    path = _locate_source(store, name, trust=trust)
    info = load_info(path)
    if info.architecture != OurNetworks.UNET3D_PLANES:
        raise BenchError(
            f"{_VOLUMES_PREFIX} is for published 3D models, received {name}, a "
            f"{info.architecture}: leave {_VOLUMES_PREFIX} out"
        )
    said = json_sha256([file_sha256(path), file_sha256(path.with_suffix(".json"))])
    target = _converted_folder() / f"volumes-{said[:24]}.safetensors"
    from bench.models.foreign import convert_once

    return convert_once(target, path, lambda: load_volume_checkpoint(path))


def _converted_folder() -> Path:
    import pooch

    return Path(pooch.os_cache("synapse-bench")) / "converted"


def source_of(
    structure: str, given: str, known: Collection[str] | None = None, method: str = ""
) -> str:
    """The part of a source that is meant for a structure, or for a method.

    Args:
        structure: Name of the structure.
        given: One source for all, or ``ribbon=FILE,mitochondria=synapsenet:mitochondria``;
            structures that it leaves out take the default. Names of methods come first, as in
            ``retina=retina:FILE,unet_resnet50_moco=moco:FILE``.
        known: The structures of the dataset, beside those of STRUCTURES; None allows all names.
        method: Name of the method, where it is known.

    Raises:
        BenchError: If it names an unknown structure.
    """
    parts = [part.partition("=") for part in given.split(",")]
    if Path(given).exists() or not all(sign and is_structure_name(name) for name, sign, _ in parts):
        return given
    allowed = None if known is None else {*STRUCTURES, *known}
    sources = {name.strip(): source.strip() for name, _, source in parts}
    if method in sources:
        return sources[method]
    found = {
        find_structure(name, allowed).name: source
        for name, source in sources.items()
        if name not in METHODS
    }
    return found.get(structure, AUTO)


def find_adapted(store: Store, method: str, *, structure: str, dataset: str, seed: int) -> str:
    """The newest run of what a method starts from, as ``runs:/ID``."""
    row = METHODS[method]
    start = row.start
    if start == PRETRAIN:
        return _find_pretrained(store, row, dataset, seed)
    try:
        found = find_trained(store, method=start, structure=structure, dataset=dataset, seed=seed)
    except BenchError as error:
        raise BenchError(
            f"method {method} starts from a {start} model of {structure} (seed {seed}), the store "
            f"has none: run {METHODS[start].step} with the same dataset, structure and seed "
            "first, or give source=runs:/ID"
        ) from error
    return f"runs:/{found.id}"


def _find_pretrained(store: Store, method: Method, dataset: str, seed: int) -> str:
    stage = find_start(method)
    assert stage is not None
    found = find_pretrained(store, method=stage.name, dataset=dataset, seed=seed)
    if not found:
        raise BenchError(
            f"method {method.name} starts from a {method.network} that was pretrained on the "
            f"dataset (seed {seed}), the store has none: run pretrain with network="
            f"{method.network}, the same dataset and seed first, or give source=runs:/ID"
        )
    return f"{_RUNS_PREFIX}{found}"


def fetch_checkpoint(store: Store, run_id: str) -> Path:
    """Returns the local path of a trained run's best weights, with their JSON file beside."""
    return fetch_weights_of(store, get_trained(store, run_id).id)


def fetch_weights_of(store: Store, run_id: str) -> Path:
    """Returns the local path of the best weights of a run that is known to have some."""
    return fetch_artifact(store, run_id, "checkpoint") / Path(_BEST).name


def named_checkpoint(best: Path, name: str) -> Path:
    """The checkpoint of a run that a source names: the best, or another of the run's.

    Args:
        best: The run's best.
        name: ``runs:/ID``, or ``runs:/ID/checkpoint/FILE.safetensors``.

    Raises:
        BenchError: If the run has no such checkpoint.
    """
    folder, _, file = run_path(name).partition("/")
    if folder in ("", best.parent.name) and not file:
        return best
    there = sorted(path.name for path in best.parent.glob("*.safetensors"))
    if folder != best.parent.name or file not in there:
        listed = ", ".join(f"{best.parent.name}/{each}" for each in there)
        raise BenchError(
            f"source {name} names a checkpoint that its run does not have: choose one of {listed}"
        )
    return best.with_name(file)


def fetch_weights(store: Store, trained_run: str, source: str) -> Path:
    """Returns the local path of a model's checkpoint.

    Args:
        store: The tracking store.
        trained_run: The run that made it; empty for a source as it is.
        source: That source's name.
    """
    if trained_run:
        return fetch_checkpoint(store, trained_run)
    path = resolve_source(store, source).path
    assert path is not None, "random weights are not evaluated"
    return path
