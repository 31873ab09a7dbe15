from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from bench.inference.prediction import SectionPrediction
from bench.inference.symmetries import SYMMETRIES
from bench.search.candidates import Evidence


def show(field: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy levels of a field."""
    blurred = gaussian_filter(rng.normal(size=field.shape), 1)
    seen = field + noise * blurred / blurred.std()
    return np.round(255 / (1 + np.exp(-3 * (seen - 0.8)))).astype(np.uint8)


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    """Two sections, or volumes, of unequal shapes, predicted by models of the given noise."""

    def make(
        noises: dict[str, float],
        augmentations: int = 3,
        shapes: tuple[tuple[int, ...], ...] = ((40, 52), (36, 44)),
        voxel_size_nm: tuple[float, ...] | None = None,
    ) -> Evidence:
        rng = np.random.default_rng(4)
        names = tuple(SYMMETRIES)[:augmentations]
        truths, maps = {}, {}
        for section, shape in zip("ab", shapes, strict=True):
            field = gaussian_filter(rng.normal(size=shape), 3)
            field /= field.std()
            truths[section], _ = label(field > 0.8)
            for member, noise in noises.items():
                for name in names:
                    maps[member, section, name] = SectionPrediction(show(field, noise, rng))
        return Evidence(
            sections=("a", "b"),
            members=dict.fromkeys(noises, names),
            read=lambda member, section, name: maps[member, section, name],
            read_truth=truths.__getitem__,
            voxel_size_nm=voxel_size_nm,
        )

    return make
