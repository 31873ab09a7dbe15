"""What a training of several structures in one model adds: which they are, and what each weighs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.config.training import FinetuneConfig
from bench.dataset.partial import read_ignored
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.methods import CLASS_LOSS, METHODS, Method
from bench.models.networks import find_network
from bench.steps.training.data import TrainingData
from bench.structures import Structure, find_structures, join_structures, split_names
from bench.tracking.runs import Run
from bench.training.targets import make_classes
from bench.words import AUTO, BACKGROUND, NONE

# As of the weight of foreground in a loss of one structure.
_LARGEST_WEIGHT = 20.0
_ALL = "all"


def check_class_settings(config: FinetuneConfig, method: Method) -> None:
    """Sees that the settings of classes, and those of one structure, go with a method.

    Raises:
        BenchError: If they do not, or the method's network takes volumes.
    """
    if method.of_classes:
        _check_of_classes(config, method)
        return
    if config.structures != AUTO:
        raise BenchError(
            f"method {method.name} learns one structure, received structures={config.structures}: "
            f"choose {' or '.join(_rows_of_classes())}, whose network has class outputs, or give "
            "structure"
        )
    if config.class_weights != AUTO or config.loss == CLASS_LOSS:
        setting = f"class_weights={config.class_weights}"
        if config.class_weights == AUTO:
            setting = f"loss={config.loss}"
        raise BenchError(
            f"{setting} is of a method of classes, received method={method.name}: leave it out, or "
            f"choose {' or '.join(_rows_of_classes())}"
        )


def _rows_of_classes() -> list[str]:
    return [row.name for row in METHODS.values() if row.of_classes]


def _check_of_classes(config: FinetuneConfig, method: Method) -> None:
    if find_network(method.network).dims == 3:
        raise BenchError(
            f"class outputs are of networks of sections, method {method.name} trains the network "
            f"{method.network}, which takes volumes: choose another"
        )
    if config.loss != CLASS_LOSS:
        raise BenchError(
            f"method {method.name} learns classes, whose loss is {CLASS_LOSS}, received loss="
            f"{config.loss}: leave it auto"
        )
    if config.foreground_weight is not None:
        raise BenchError(
            f"foreground_weight is of one structure, received {config.foreground_weight:g} for "
            f"method {method.name}: give class_weights, of the background and every structure"
        )
    if config.class_weights != AUTO:
        _read_weights(config.class_weights)


def find_classes(config: FinetuneConfig, method: Method, dataset: PreparedDataset) -> Structure:
    """The structures that a model of classes learns, as one name, in the order of its classes.

    Raises:
        BenchError: If they are fewer than two or not in the dataset, or the weights are others'.
    """
    wanted = _ALL if config.structures == AUTO else config.structures
    names = [each.name for each in find_structures(wanted, dataset.structures)]
    if len(names) < 2:
        raise BenchError(
            f"method {method.name} learns two structures or more, received structures={wanted}, "
            f"which is {', '.join(names)} alone (the dataset has {', '.join(dataset.structures)}): "
            "name more, or choose a method of one structure"
        )
    if config.class_weights != AUTO:
        weights = _read_weights(config.class_weights)
        if len(weights) != 1 + len(names):
            raise BenchError(
                f"class_weights must be {1 + len(names)} numbers, of {BACKGROUND}, "
                f"{', '.join(names)}, received {config.class_weights}: give one of each"
            )
    return Structure(join_structures(names))


def _read_weights(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(number) for number in split_names(text))
    except ValueError:
        weights = ()
    if not weights or not all(math.isfinite(each) and each > 0 for each in weights):
        raise BenchError(
            f"class_weights must be auto, or positive numbers as in 1,2,2.5, received {text!r}"
        )
    return weights


@dataclass(frozen=True)
class ClassWeights:
    """What the classes of a training weigh in the cross-entropy.

    Attributes:
        values: Of the background and every structure, in the order of the classes; empty without
            classes.
        origin: Where they come from, one sentence.
        overlaps: Structures that share annotated pixels: the one that has them, the one that loses
            them, how many they are and their share of the latter.
    """

    values: tuple[float, ...] = ()
    origin: str = ""
    overlaps: tuple[tuple[str, str, int, float], ...] = ()

    def __str__(self) -> str:
        """As they are typed."""
        return ",".join(f"{value:g}" for value in self.values)


def weigh_classes(config: FinetuneConfig, data: TrainingData) -> ClassWeights:
    """Chooses the weights of classes: the user's, or by frequency in the training sections.

    A class that fills a share f of the pixels has the weight sqrt(g / f), 20 at most, where g is
    the share of the most frequent class, which thus has 1. Of two classes that is the weight which
    ``weight_of_frequency`` gives foreground.
    """
    counts, overlaps = _count_classes(data)
    if config.class_weights != AUTO:
        return ClassWeights(_read_weights(config.class_weights), "Set by the user.", overlaps)
    shares = ", ".join(
        f"{name} {100 * count / counts.sum():.3g} %"
        for name, count in zip((BACKGROUND, *data.structures), counts, strict=True)
    )
    origin = f"From the frequencies in {len(data.names)} training sections: {shares}."
    return ClassWeights(weights_of_frequencies(counts.tolist()), origin, overlaps)


def weights_of_frequencies(counts: Sequence[float]) -> tuple[float, ...]:
    """The weights of classes of so many pixels, or shares: sqrt of the largest over each, to 20.

    Examples:
        >>> weights_of_frequencies([900, 90, 9, 0])
        (1.0, 3.16, 10.0, 20.0)
    """
    largest = max(counts)
    return tuple(
        round(min(_LARGEST_WEIGHT, math.sqrt(largest / count)), 2) if count else _LARGEST_WEIGHT
        for count in counts
    )


def _count_classes(
    data: TrainingData,
) -> tuple[np.ndarray, tuple[tuple[str, str, int, float], ...]]:
    """Pixels of every class in the training sections, and of the structures that overlap."""
    number = len(data.structures)
    counts = np.zeros(number + 1, np.int64)
    shared = np.zeros((number, number), np.int64)
    for name in data.names:
        _, labels = data.read(name)
        opened = read_ignored(data.dataset, name, data.structures)
        classes = make_classes(labels)
        annotated = classes.ravel() if opened is None else classes[~opened]
        counts += np.bincount(annotated, minlength=number + 1)
        masks = labels.reshape(number, -1) != 0
        for first in range(number):
            shared[first] += np.count_nonzero(masks & masks[first], axis=1)
    overlaps = [
        (data.structures[i], data.structures[k], int(shared[i, k]), shared[i, k] / shared[k, k])
        for i in range(number)
        for k in range(i + 1, number)
        if shared[i, k]
    ]
    return counts, tuple(overlaps)


def warn_of_overlaps(run: Run, weights: ClassWeights) -> None:
    """Says in a run which structures share annotated pixels, and which of both the pixels are."""
    for kept, lost, pixels, share in weights.overlaps:
        run.add_warning(
            f"{pixels} px of the training sections are annotated as {kept} and as {lost} "
            f"({100 * share:.2g} % of its pixels): a pixel is of one class, these are {kept}, the "
            f"first named, while scores are of the whole annotation. To change that, name {lost} "
            f"before {kept} in structures"
        )


def resolved_class_settings(weights: ClassWeights, structure: str) -> dict[str, object]:
    """What a run resolves of classes; ``none`` of a model without any."""
    if not weights.values:
        return {"structures": NONE, "class_weights": NONE}
    return {
        "structures": structure,
        "class_weights": str(weights),
        "class_weights_origin": weights.origin,
    }
