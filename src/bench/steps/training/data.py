"""The annotated sections that a training reads."""

from dataclasses import dataclass

import numpy as np

from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.feeding import resize_labels, resize_section
from bench.inference.sections import model_shape
from bench.models.checkpoint import ModelInfo


@dataclass(frozen=True)
class TrainingData:
    """The sections of a training, and the scale at which the network sees them.

    Attributes:
        dataset: The prepared dataset.
        structure: Name of the structure.
        names: Training sections whose annotation is used.
        fed_nm: Pixel size (nm) at which they are fed; None if not known.
    """

    dataset: PreparedDataset
    structure: str
    names: tuple[str, ...]
    fed_nm: float | None

    @classmethod
    def choose(
        cls,
        dataset: PreparedDataset,
        structure: str,
        *,
        labelled: int | None,
        seed: int,
        fed_nm: float | None,
    ) -> "TrainingData":
        """Chooses the training sections: all, or as many as ``labelled`` says.

        The few are drawn by the seed, those with instances first. A larger number keeps the
        sections of a smaller one, so that a learning curve adds sections and swaps none.

        Raises:
            BenchError: If there are fewer training sections.
        """
        names = list(dataset.sections("train"))
        if dataset.instances("train", structure) == 0:
            raise BenchError(
                f"training needs instances of {structure}, the {len(names)} training sections "
                "have none: annotate some, or choose another split"
            )
        if labelled is None:
            return cls(dataset, structure, tuple(names), fed_nm)
        if labelled > len(names):
            raise BenchError(
                f"labelled must be at most the {len(names)} training sections there are, "
                f"received {labelled}: lower it, or annotate more"
            )
        drawn = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        drawn.sort(key=lambda name: not dataset.read_labels(name, structure).any())
        return cls(dataset, structure, tuple(drawn[:labelled]), fed_nm)

    def train(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Reads raw and labels (y, x) of the training sections, at the scale they are fed at."""
        return [self.at_fed_scale(*self.read(name)) for name in self.names]

    def validation(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Reads raw and labels of the validation sections by name, at their own scale."""
        return {name: self.read(name) for name in self.dataset.sections("val")}

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads raw and labels of a section."""
        return self.dataset.read_raw(name), self.dataset.read_labels(name, self.structure)

    def at_fed_scale(self, raw: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resamples a section where it is fed at another pixel size than its own."""
        shape = model_shape(raw.shape, self.fed_nm, self.dataset.pixel_size_nm)
        if shape == raw.shape:
            return raw, labels
        return resize_section(raw, shape), resize_labels(labels, shape)


def fed_pixel_size(
    source: ModelInfo | None, dataset: PreparedDataset, *, rescale: bool
) -> float | None:
    """Pixel size (nm) at which a dataset is fed: the source's, or its own without one."""
    if rescale and source and source.input_pixel_size_nm and dataset.pixel_size_nm:
        return source.input_pixel_size_nm
    return dataset.pixel_size_nm
