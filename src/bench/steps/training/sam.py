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
from bench.inference.prediction import SectionPrediction
from bench.inference.sam.embedding_store import open_embeddings
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.masks import segment_part
from bench.inference.sam.windows import Box, whole_box
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
# Sections of which a window is validated.
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


@dataclass(frozen=True, eq=False)
class _ValidatedPart:
    """What of a validation section a SAM is scored on while it is made.

    Attributes:
        raw: The whole section (y, x), of which the part has its grey values.
        part: The part.
        labels: Instance ids (y, x) of the part.
    """

    raw: np.ndarray
    part: Box
    labels: np.ndarray


class SamReport(TrainingReport):
    """Callbacks of the training loop that score the instances SAM finds by itself."""

    def __init__(
        self,
        *,
        plain: Callable[[torch.nn.Module], torch.nn.Module],
        parts: Mapping[str, _ValidatedPart],
        trained: bool,
        **arguments: Any,
    ) -> None:
        """Starts a report.

        Args:
            plain: Makes of the trained network the one that is saved.
            parts: What it is scored on, see choose_parts.
            trained: Whether what is not frozen changes between two validations.
            arguments: The others of TrainingReport.
        """
        self.plain, self.parts, self.trained = plain, parts, trained
        self.scores: dict[str, float] = {}
        shown = {name: (each.raw[each.part.slices], each.labels) for name, each in parts.items()}
        super().__init__(sections=shown, **arguments)

    def validate(self, network: torch.nn.Module) -> float:
        """Segments the parts; returns Dice over all their pixels."""
        segment = self._open_network(network)
        result = SplitResult((HEADLINE, _OF_INSTANCES))
        for name, each in self.parts.items():
            prediction = segment(each)
            assert prediction.instances is not None
            self.predictions[name] = prediction.foreground >= HALF
            found = int(np.count_nonzero(prediction.instances))
            result.add(
                name,
                truth=each.labels,
                probability=prediction.foreground,
                instances=Instances(prediction.instances, found, found),
                levels=self.levels.get(name),
            )
        self.network = self.plain(network)
        self.scores = result.scores()
        return self.scores[HEADLINE]

    def _open_network(
        self, network: torch.nn.Module
    ) -> Callable[[_ValidatedPart], SectionPrediction]:
        """The network as something that segments parts of sections."""
        if isinstance(network, DetectorSam):
            # Its parts are whole.
            predict = make_prompted_predictor(network, self.info, self.compute)
            return lambda each: predict(each.raw, self.pixel_size_nm)
        assert isinstance(network, SamNetwork)
        keeps = encoder_is_frozen(network) or not self.trained
        encoder = KeptEncoder(network, open_embeddings() if keeps else None)
        return lambda each: segment_part(
            encoder, self.info, each.raw, self.pixel_size_nm, each.part
        )

    def on_epoch(self, iteration: int, score: float, best: bool) -> None:
        """Keeps the best checkpoint; logs the scores and overlays."""
        if iteration > self.validated:
            self.series.append((iteration, {f"val/{_OF_INSTANCES}": self.scores[_OF_INSTANCES]}))
        super().on_epoch(iteration, score, best)

    def found_nothing(self) -> bool:
        """Whether the last validation found no instance at all."""
        return not any(prediction.any() for prediction in self.predictions.values())


def choose_parts(
    sections: Mapping[str, tuple[np.ndarray, np.ndarray]], *, whole: bool
) -> dict[str, _ValidatedPart]:
    """Chooses what of validation sections a SAM is scored on while it is made.

    Args:
        sections: Raw and labels (y, x) by name.
        whole: Whether all of them count, as in an evaluation; otherwise, as a grid of points takes
            minutes a window without a GPU, the window around the foreground of the first few that
            have any.
    """
    if whole:
        return {name: _ValidatedPart(r, whole_box(r.shape), a) for name, (r, a) in sections.items()}
    annotated = {name: pair for name, pair in sections.items() if pair[1].any()}
    parts = {}
    for name, (raw, labels) in list(annotated.items())[:_VALIDATED_SECTIONS]:
        rows, columns = window_of_interest(labels)
        height, width = labels[rows, columns].shape
        part = Box(rows.start, columns.start, rows.start + height, columns.start + width)
        parts[name] = _ValidatedPart(raw, part, labels[part.slices])
    return parts


def cut_levels(
    parts: Mapping[str, _ValidatedPart], levels: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What is not annotated of the parts of sections on which a SAM is scored."""
    return {n: found[parts[n].part.slices] for n, found in levels.items() if n in parts}


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
