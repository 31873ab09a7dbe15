"""The stored models of a structure, and what they say of images: where they disagree."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bench.advice.choosing import measure_disagreement
from bench.advice.pieces import ImagePiece, describe_look
from bench.config.advice import SuggestConfig
from bench.core.files import write_binary
from bench.core.hashing import file_sha256
from bench.core.progress import show_progress
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import Predictor, open_predictor
from bench.steps.advice.pool import Pool
from bench.steps.training.source import fetch_weights_of
from bench.structures import split_names
from bench.tracking.pretrained import rank_named, rank_trained
from bench.tracking.store import Store
from bench.words import AUTO

log = logging.getLogger(__name__)

_MOST = 4


@dataclass(frozen=True)
class AskedModel:
    """A stored model.

    Attributes:
        run_id: The run that trained it.
        weights: Its best checkpoint.
    """

    run_id: str
    weights: Path


def find_models(
    config: SuggestConfig, store: Store, structure: str, dataset: str
) -> list[AskedModel]:
    """The models that are asked, the best on validation first.

    Args:
        config: The settings.
        store: The tracking store.
        structure: What they must have learned.
        dataset: Content hash of the dataset that models of ``auto`` were trained on.

    Raises:
        BenchError: If there is none, or one that is named learned something else.
    """
    if config.models == AUTO:
        found = _open_runs(store, rank_trained(store, structure, dataset)[:_MOST])
    else:
        named = rank_named(store, split_names(config.models), structure)
        found = _open_runs(store, named)
    if not found:
        raise BenchError(
            f"models say what to annotate next, received none that was trained on {structure} of "
            f"{config.dataset}: run finetune first, with two seeds or methods, or name models"
        )
    return found


def best_model(store: Store, structure: str, dataset: str) -> AskedModel | None:
    """The best model that was trained on a structure of a dataset; None without one."""
    found = _open_runs(store, rank_trained(store, structure, dataset)[:1])
    return found[0] if found else None


def _open_runs(store: Store, ids: Iterable[str]) -> list[AskedModel]:
    return [AskedModel(each, fetch_weights_of(store, each)) for each in ids]


def hash_models(models: Sequence[AskedModel]) -> dict[str, str]:
    """Hashes of the models, by their place."""
    return {f"model{n}": file_sha256(each.weights) for n, each in enumerate(models)}


@dataclass(frozen=True, eq=False)
class _AskedImage:
    """What models say of an image.

    Attributes:
        best: Probability by the best model, (y, x) uint8, round(255 p).
        disagreement: Of all models, (y, x) uint8, round(255 d); 0 outside of the pieces.
        looks: What each of its pieces looks like (pieces, numbers).
    """

    best: np.ndarray
    disagreement: np.ndarray
    looks: np.ndarray


def ask_models(
    config: SuggestConfig,
    models: Sequence[AskedModel],
    structure: str,
    pool: Pool,
    folder: Path,
) -> dict[str, Path]:
    """Asks models of every image; what an earlier process kept in the folder is not asked again.

    Args:
        config: The settings.
        models: The models.
        structure: What is looked for.
        pool: The images, in pieces.
        folder: Where what they say is kept.

    Returns:
        By image the file that ``read_asked`` reads.
    """
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{name}.npz" for name in pool.images}
    compute = choose_compute(config.device, AUTO)
    opened = [open_predictor(each.weights, compute, structure)[0] for each in models]
    with show_progress("asking the models") as advance:
        for done, (name, image) in enumerate(pool.images.items(), start=1):
            if not files[name].is_file():
                asked = _ask(opened, image.read(), image.pixel_size_nm, pool.pieces[name])
                write_binary(files[name], partial(_save, asked))
            advance(done, len(files), name)
    return files


def _ask(
    models: Sequence[Predictor],
    raw: np.ndarray,
    pixel_size_nm: float | None,
    pieces: Sequence[ImagePiece],
) -> _AskedImage:
    said = [model(raw, pixel_size_nm).foreground for model in models]
    levels = np.zeros(raw.shape, dtype=np.uint8)
    # By piece, as numbers of a whole montage would fill the memory.
    for piece in pieces:
        found = measure_disagreement([each[piece.view] for each in said])
        levels[piece.view] = np.rint(255 * found)
    looks = np.stack([describe_look(raw[piece.view]) for piece in pieces])
    return _AskedImage(said[0], levels, looks)


def _save(asked: _AskedImage, file: BinaryIO) -> None:
    np.savez(file, **vars(asked))


def read_asked(file: Path) -> _AskedImage:
    """Reads what ``ask_models`` kept."""
    with np.load(file) as kept:
        return _AskedImage(**{name: kept[name] for name in kept.files})
