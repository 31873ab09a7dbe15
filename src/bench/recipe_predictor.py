"""A recipe applied to images: every model under every augmentation, and one map of them."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.inference.augmented import map_back
from bench.inference.device import Compute
from bench.inference.map_store import blend_maps, has_maps, store_maps
from bench.inference.predictor import SectionPrediction
from bench.inference.resumable import Advance, ResumablePredictor, count_steps, open_resumable
from bench.inference.symmetries import Symmetry, find_symmetries
from bench.models.checkpoint import ModelInfo, load_info
from bench.recipe import Recipe

# Pixel sizes that differ by more are reported: one of them is probably wrong.
REPORTED_FACTOR = 2


@dataclass(frozen=True, eq=False)
class RecipePredictor:
    """The models of a recipe on their device.

    Attributes:
        recipe: The recipe.
        infos: What each of its models is.
        models: Each of them, applied to one section; what is finished is kept on disk.
    """

    recipe: Recipe
    infos: tuple[ModelInfo, ...]
    models: tuple[ResumablePredictor, ...]

    @classmethod
    def open(cls, recipe: Recipe, weights: Sequence[Path], compute: Compute) -> "RecipePredictor":
        """Reads the checkpoints of a recipe's models."""
        return cls(
            recipe,
            tuple(load_info(path) for path in weights),
            tuple(open_resumable(path, compute, recipe.structure) for path in weights),
        )

    def fed_nm(self, pixel_size_nm: float | None) -> float | None:
        """The pixel size by which a section is resampled; None feeds it as it is."""
        return pixel_size_nm if self.recipe.rescale else None

    def steps_of_pass(
        self, number: int, shape: tuple[int, ...], pixel_size_nm: float | None
    ) -> int:
        """How often a section advances per augmentation of a model."""
        return count_steps(self.infos[number], shape, self.fed_nm(pixel_size_nm))

    def count_steps(self, shape: tuple[int, ...], pixel_size_nm: float | None) -> int:
        """How often a section advances."""
        each = (self.steps_of_pass(n, shape, pixel_size_nm) for n in range(len(self.infos)))
        return sum(each) * len(self.recipe.augmentations)

    def predict(
        self, raw: np.ndarray, pixel_size_nm: float | None, folder: Path, advance: Advance
    ) -> SectionPrediction:
        """Makes one map of a section of all passes: those of the search, bit for bit.

        Memory does not grow with their number. A pass that is finished is not predicted again,
        and the tiles of an unfinished one neither.

        Args:
            raw: Section (y, x) of any bit depth.
            pixel_size_nm: Its pixel size; None if not known.
            folder: Where finished tiles and passes are kept, for the caller to remove.
            advance: Takes how many steps more are done.
        """
        symmetries = find_symmetries(self.recipe.augmentations)
        if self.recipe.blend.passes == 1:
            return self.predict_pass(0, symmetries[0], raw, pixel_size_nm, folder, advance)
        folders: list[list[Path]] = [[] for _ in self.models]
        for number, done in enumerate(folders):
            for symmetry in symmetries:
                maps = folder / f"{number}_{symmetry.name}"
                done.append(maps)
                if has_maps(maps):
                    advance(self.steps_of_pass(number, raw.shape, pixel_size_nm))
                    continue
                tiles = maps / "tiles"
                store_maps(
                    maps,
                    self.predict_pass(number, symmetry, raw, pixel_size_nm, tiles, advance),
                )
                shutil.rmtree(tiles, ignore_errors=True)
        return blend_maps(self.recipe.blend, folders, raw.shape)

    def predict_pass(
        self,
        number: int,
        symmetry: Symmetry,
        raw: np.ndarray,
        pixel_size_nm: float | None,
        folder: Path,
        advance: Advance,
    ) -> SectionPrediction:
        """Predicts a section by one model under one symmetry, back in the section's geometry."""
        view = np.ascontiguousarray(symmetry.forward(raw))
        found = self.models[number](view, self.fed_nm(pixel_size_nm), folder, advance)
        return map_back(found, symmetry.inverse)


def find_scale_warnings(
    infos: Iterable[ModelInfo], sizes: Iterable[float], *, rescale: bool
) -> list[str]:
    """What is suspicious about the pixel sizes of images, one line each.

    Args:
        infos: The models that are applied.
        sizes: Pixel sizes of the images in nm.
        rescale: Whether images are resampled to each model's pixel size.
    """
    remedy = "check pixel_size_nm" if rescale else "use rescale=true"
    trained = sorted({info.input_pixel_size_nm for info in infos if info.input_pixel_size_nm})
    return [
        f"the image has pixels of {size:g} nm and the model was trained at {model_nm:g} nm, "
        f"a factor over {REPORTED_FACTOR}: {remedy}"
        for size in sorted(set(sizes))
        for model_nm in trained
        if not 1 / REPORTED_FACTOR <= size / model_nm <= REPORTED_FACTOR
    ]
