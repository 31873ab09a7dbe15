"""A recipe applied to images: on disk, resumable, or to arrays in memory."""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.core.files import locked
from bench.errors import BenchError
from bench.inference.blends import turn_back
from bench.inference.device import Compute
from bench.inference.engines import with_recorded
from bench.inference.prediction import SectionPrediction
from bench.inference.resumable import (
    Advance,
    ResumablePredictor,
    TiledModel,
    count_steps,
    open_resumable,
)
from bench.inference.symmetries import SYMMETRIES, find_symmetries
from bench.inference.tile_store import blend_maps, has_maps, store_maps
from bench.metrics.curves import TOP_LEVEL
from bench.models.checkpoint import ModelInfo, load_info
from bench.models.grey_values import GREY, GreyValues, find_contrast_warnings
from bench.models.scales import find_scale_warnings
from bench.recipe.recipe import Recipe
from bench.recipe.sections import need_pixel_size, segment_by_recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pass:
    """One of a recipe's models under one of its augmentations.

    Attributes:
        member: Which model, from 0.
        symmetry: Name of the augmentation.
    """

    member: int
    symmetry: str

    def view(self, raw: np.ndarray) -> np.ndarray:
        """What the model sees of a section (y, x)."""
        return np.ascontiguousarray(SYMMETRIES[self.symmetry].forward(raw))

    def view_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what the model sees of a section of a shape (y, x)."""
        return SYMMETRIES[self.symmetry].forward(np.broadcast_to(np.uint8(0), shape)).shape


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
        """Opens a recipe's models; their weights are read when they are first needed."""
        find_symmetries(recipe.augmentations)
        return cls(
            recipe,
            tuple(load_info(path) for path in weights),
            tuple(
                open_resumable(path, with_recorded(compute, member.engine), recipe.structure)
                for path, member in zip(weights, recipe.members, strict=True)
            ),
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

    @property
    def passes(self) -> list[Pass]:
        """Every model under every augmentation, in the blend's order."""
        names = self.recipe.augmentations
        return [Pass(member, name) for member in range(len(self.infos)) for name in names]

    def maps_of(self, folder: Path, each: Pass) -> Path:
        """Where the maps of a pass are kept, if they are one of several."""
        return folder / f"{each.member}_{each.symmetry}"

    def tiles_of(self, folder: Path, each: Pass) -> Path:
        """Where the tiles of a pass are kept."""
        return folder if len(self.passes) == 1 else self.maps_of(folder, each) / "tiles"

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
        if len(self.passes) == 1:
            return self.predict_pass(self.passes[0], raw, pixel_size_nm, folder, advance)
        folders: list[list[Path]] = [[] for _ in self.models]
        for each in self.passes:
            self.keep_pass(each, raw, pixel_size_nm, folder, advance)
            folders[each.member].append(self.maps_of(folder, each))
        return blend_maps(self.recipe.blend, folders, raw.shape)

    def keep_pass(
        self,
        each: Pass,
        raw: np.ndarray,
        pixel_size_nm: float | None,
        folder: Path,
        advance: Advance,
    ) -> None:
        """Predicts one of several passes and keeps its maps; its tiles are gone afterwards.

        One process at a time: the maps are made of the tiles, which another would remove.
        """
        maps, tiles = self.maps_of(folder, each), self.tiles_of(folder, each)
        with locked(maps.with_suffix(".lock")):
            if has_maps(maps):
                advance(self.steps_of_pass(each.member, raw.shape, pixel_size_nm))
                return
            store_maps(maps, self.predict_pass(each, raw, pixel_size_nm, folder, advance))
            shutil.rmtree(tiles, ignore_errors=True)

    def predict_pass(
        self,
        each: Pass,
        raw: np.ndarray,
        pixel_size_nm: float | None,
        folder: Path,
        advance: Advance,
    ) -> SectionPrediction:
        """Predicts a section by one model under one symmetry, back in the section's geometry."""
        predict, tiles = self.models[each.member], self.tiles_of(folder, each)
        found = predict(each.view(raw), self.fed_nm(pixel_size_nm), tiles, advance)
        return turn_back(found, SYMMETRIES[each.symmetry].inverse)

    def predict_tiles(
        self, each: Pass, raw: np.ndarray, pixel_size_nm: float | None, folder: Path, batches: slice
    ) -> None:
        """Predicts some batches of a pass's tiles, beside other processes that predict others."""
        tiles = self.tiles_of(folder, each)
        self.tiled(each).predict_tiles(
            each.view(raw), self.fed_nm(pixel_size_nm), tiles, lambda more: None, batches
        )

    def tiled(self, each: Pass) -> TiledModel:
        """The model of a pass, which must be one that predicts tiles."""
        model = self.models[each.member]
        assert isinstance(model, TiledModel)
        return model


def grey_values_of(infos: Iterable[ModelInfo]) -> tuple[GreyValues, ...]:
    """The grey values that models were trained on, of those that say it."""
    stored = [info.training[GREY] for info in infos if GREY in info.training]
    return tuple(dict.fromkeys(GreyValues(**values) for values in stored))


def segment_array(
    predictor: RecipePredictor, images: np.ndarray, pixel_size_nm: float | None
) -> dict[str, np.ndarray]:
    """Segments one section or several.

    Args:
        predictor: The recipe on its device.
        images: Grey (y, x) or (n, y, x) of any bit depth; sections are independent of each other.
        pixel_size_nm: Their pixel size; None if not known: they are then fed as they are, and
            lengths of the recipe are taken in px.

    Returns:
        ``instances``: ids from 1 on, int32, 0 is background; ``probability``: float32 from 0 to
        1, in steps of 1/255. Both have the shape of ``images``.

    Raises:
        BenchError: If the images are not grey sections, or the pixel size is no length, or none
            is given where vesicles become circles.
    """
    images = _check_images(np.asarray(images))
    _check_size(pixel_size_nm)
    if predictor.recipe.circles:
        need_pixel_size(pixel_size_nm)
    sections = images if images.ndim == 3 else images[None]
    for warning in _find_warnings(predictor, sections, pixel_size_nm):
        log.warning("warning: %s", warning)
    instances = np.empty(images.shape, dtype=np.int32)
    probability = np.empty(images.shape, dtype=np.float32)
    for number, raw in enumerate(sections):
        place = number if images.ndim == 3 else ...
        with tempfile.TemporaryDirectory(prefix="synapse-bench-") as folder:
            tiles = Path(folder) / "tiles"
            maps = predictor.predict(raw, pixel_size_nm, tiles, lambda more: None)
            read_raw = partial(np.asarray, raw)
            found = segment_by_recipe(predictor.recipe, maps, pixel_size_nm, read_raw)
        instances[place] = found.labels
        probability[place] = maps.foreground.astype(np.float32) / TOP_LEVEL
    return {"instances": instances, "probability": probability}


def _find_warnings(
    predictor: RecipePredictor, sections: np.ndarray, pixel_size_nm: float | None
) -> list[str]:
    named = ((f"image {number}", raw) for number, raw in enumerate(sections))
    contrast = find_contrast_warnings(grey_values_of(predictor.infos), named)
    if pixel_size_nm is None:
        unknown = "the pixel size is unknown, so images are fed as they are: give "
        return [unknown + 'params={"pixel_size_nm": ...}', *contrast]
    rescale = predictor.recipe.rescale
    return find_scale_warnings(predictor.infos, [pixel_size_nm], rescale=rescale) + contrast


def _check_size(pixel_size_nm: float | None) -> None:
    if pixel_size_nm is not None and not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise BenchError(
            f"pixel_size_nm must be a length over 0, received {pixel_size_nm}: leave it out if it "
            "is unknown"
        )


def _check_images(images: np.ndarray) -> np.ndarray:
    """Checks images, and gives whole numbers that came as JSON the depth that they need."""
    colour = images.ndim == 3 and images.shape[-1] in (3, 4)
    if images.ndim not in (2, 3) or colour or 0 in images.shape:
        raise BenchError(
            f"images must be grey and of shape (y, x) or (n, y, x), received {images.shape}: "
            "give one channel"
        )
    if images.dtype.kind not in "buif" or not np.isfinite(images).all():
        raise BenchError(
            f"images must hold finite numbers, received {images.dtype}: replace what is missing"
        )
    if images.dtype.kind == "b":
        return images.astype(np.uint8)
    if images.dtype.kind == "i" and images.min() >= 0:
        return images.astype(np.min_scalar_type(int(images.max())))
    return images
