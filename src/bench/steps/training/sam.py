"""A SAM's weights, the instances it may keep, and what its training shows."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.config.training import MicrosamConfig
from bench.core.hashing import file_sha256, json_sha256
from bench.core.names import run_of
from bench.dataset.checks import instance_areas
from bench.errors import BenchError
from bench.inference.detection.prompted import make_prompted_predictor
from bench.inference.device import Compute
from bench.inference.prediction import Predictor
from bench.inference.sam.embedding_store import EmbeddingStore, open_embeddings
from bench.inference.sam.masks import make_predictor
from bench.ingest.inspection.masks import is_network
from bench.methods import DEFAULT_SAM
from bench.metrics.table import HEADLINE
from bench.models.checkpoint import ModelInfo, load_info, load_weights
from bench.models.detection.detector_sam import DetectorSam
from bench.models.sam import SamNetwork
from bench.models.sam_weights import PUBLISHED, read_published, read_torch_file
from bench.postprocess.instances import Instances
from bench.postprocess.segmentation import measure_areas, paper_settings, settings_from_annotations
from bench.recipe.scores import SplitResult
from bench.steps.training.data import TrainingData
from bench.steps.training.reports.sections import HALF, TrainingReport, window_of_interest
from bench.steps.training.source import fetch_checkpoint, named_checkpoint
from bench.structures import Structure
from bench.tracking.store import Store
from bench.training.sam.interactive import encoder_is_frozen
from bench.words import AUTO, OurNetworks

_SUFFIXES = (".pt", ".pth")
# Automatic segmentation by a grid of points takes minutes a window without a GPU.
_VALIDATED_SECTIONS = 4
# Logged beside Dice, by which the best checkpoint is chosen.
_OF_INSTANCES = "instance_f1"
# An instance may be larger than the largest annotated one by this factor.
_LARGEST_FACTOR = 1.5


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
        best = fetch_checkpoint(store, run_of(name))
        return _our_checkpoint(name, named_checkpoint(best, name))
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return _our_checkpoint(name, path)
    if path.is_file():
        digest = file_sha256(path)
        return SamSource(name, digest, None, functools.partial(read_torch_file, path, trust=trust))
    if path.suffix in (*_SUFFIXES, ".safetensors") or path.name != name:
        raise BenchError(
            f"source must be a SAM that micro_sam publishes ({', '.join(sorted(PUBLISHED))}), "
            f"runs:/ID or a checkpoint file that exists, received {name!r}: check the path"
        )
    digests = [file.digest for file in PUBLISHED.get(name, ())]
    if not digests:
        # Says what is wrong with the name.
        read_published(name)
    return SamSource(name, json_sha256(digests), None, functools.partial(read_published, name))


def _our_checkpoint(name: str, path: Path) -> SamSource:
    info = load_info(path)
    if info.architecture != OurNetworks.SAM:
        raise BenchError(
            f"microsam starts from a SAM, source {name} is a {info.architecture}: choose a run of "
            "microsam, a micro_sam model or a SAM file"
        )
    return SamSource(name, file_sha256(path), info, functools.partial(load_weights, path))


class SamReport(TrainingReport):
    """Callbacks of the training loop that score the instances SAM finds by itself."""

    def __init__(
        self,
        *,
        plain: Callable[[torch.nn.Module], torch.nn.Module],
        trained: bool,
        **arguments: Any,
    ) -> None:
        """Starts a report.

        Args:
            plain: Makes of the trained network the one that is saved.
            trained: Whether what is not frozen changes between two validations.
            arguments: Those of TrainingReport; ``sections`` are windows, see choose_windows.
        """
        self.plain, self.trained = plain, trained
        self.scores: dict[str, float] = {}
        super().__init__(**arguments)

    def validate(self, network: torch.nn.Module) -> float:
        """Segments the windows; returns Dice over all their pixels."""
        frozen = not isinstance(network, SamNetwork) or encoder_is_frozen(network)
        keeps = frozen or not self.trained
        kept = open_embeddings() if keeps else None
        predict = _open_predictor(network, self.info, self.compute, kept)
        result = SplitResult((HEADLINE, _OF_INSTANCES))
        for name, (raw, labels) in self.sections.items():
            prediction = predict(raw, self.pixel_size_nm)
            assert prediction.instances is not None
            self.predictions[name] = prediction.foreground >= HALF
            found = int(np.count_nonzero(prediction.instances))
            result.add(
                name,
                truth=labels,
                probability=prediction.foreground,
                instances=Instances(prediction.instances, found, found),
                levels=self.levels.get(name),
            )
        self.network = self.plain(network)
        self.scores = result.scores()
        return self.scores[HEADLINE]

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the scores and overlays."""
        if iteration > self.validated:
            self.series.append((iteration, {f"val/{_OF_INSTANCES}": self.scores[_OF_INSTANCES]}))
        super().on_epoch(iteration, score, best)

    def found_nothing(self) -> bool:
        """Whether the last validation found no instance at all."""
        return not any(prediction.any() for prediction in self.predictions.values())


def _open_predictor(
    network: torch.nn.Module, info: ModelInfo, compute: Compute, store: EmbeddingStore | None
) -> Predictor:
    if isinstance(network, DetectorSam):
        return make_prompted_predictor(network, info, compute)
    assert isinstance(network, SamNetwork)
    return make_predictor(network, info, store)


def choose_windows(
    sections: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cuts the window around the foreground out of the first few sections with any."""
    annotated = {name: pair for name, pair in sections.items() if pair[1].any()}
    windows = {}
    for name, (raw, labels) in list(annotated.items())[:_VALIDATED_SECTIONS]:
        window = window_of_interest(labels)
        windows[name] = raw[window], labels[window]
    return windows


def cut_levels(
    sections: Mapping[str, tuple[np.ndarray, np.ndarray]], levels: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What is not annotated of the windows that ``choose_windows`` cuts out of sections."""
    return {name: found[window_of_interest(sections[name][1])] for name, found in levels.items()}


def check_objects(structure: Structure, data: TrainingData) -> None:
    """Raises BenchError where what is annotated are no objects, of which prompts are made."""
    if is_network(np.concatenate([instance_areas(labels) for _, labels in data.train()])):
        raise BenchError(
            f"prompts are made of annotated objects, received {structure.name}, most of whose "
            "foreground is in pieces far larger than the others, such as membrane: choose a "
            "structure of instances"
        )


def choose_areas(
    config: MicrosamConfig, structure: Structure, data: TrainingData
) -> tuple[int, int | None]:
    """Areas of the smallest and largest instance, in px at the scale SAM is fed at.

    By default they follow the annotated training instances, with room on both sides; under
    ``size_filter=paper`` the minimum is the paper's and there is no maximum. What the user sets
    comes before both.
    """
    high = None
    scale = (data.dataset.pixel_size_nm or 1.0) / (data.fed_nm or 1.0)
    if config.size_filter == "paper":
        low = round(paper_settings(structure).min_area_px * scale**2)
    else:
        labels = [annotated for _, annotated in data.train()]
        low = settings_from_annotations(labels).min_area_px
        high = int(_LARGEST_FACTOR * max(measure_areas(a).max(initial=0) for a in labels))
    if config.min_area_px is not None:
        low = round(config.min_area_px * scale**2)
    if config.max_area_px is not None:
        high = round(config.max_area_px * scale**2)
    if high is not None and high < low:
        raise BenchError(
            f"max_area_px must be at least min_area_px, received {high} and {low}: change one"
        )
    return low, high
