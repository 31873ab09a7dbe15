"""What of a recipe goes into a model that is handed over, and what cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchError
from bench.inference.prediction import check_normalisation, foreground_channel
from bench.inference.symmetries import IDENTITY
from bench.models.checkpoint import ModelInfo, check_segments
from bench.models.networks import find_network
from bench.recipe.recipe import OWN, Recipe
from bench.words import OurNetworks

_BOUNDARY = "boundary"
_OF_TREES = (OurNetworks.PIXEL_CLASSIFIER, OurNetworks.FOUNDATION_FEATURES)


@dataclass(frozen=True)
class HandoverModel:
    """Models of one recipe that see the same windows.

    Attributes:
        recipe: The recipe.
        infos: What each of its models is.
        weights: The checkpoint of each.
    """

    recipe: Recipe
    infos: tuple[ModelInfo, ...]
    weights: tuple[Path, ...]

    @property
    def plain(self) -> bool:
        """Whether it is one model without symmetries, whose weights are also handed over alone."""
        return len(self.infos) == 1 and self.recipe.augmentations == (IDENTITY,)

    @property
    def info(self) -> ModelInfo:
        """What all models have in common: window, halo, pixel size and normalisation."""
        return self.infos[0]

    @property
    def window_px(self) -> int:
        """Edge of the window that the models see, halo included."""
        return self.info.tile_px + 2 * self.info.halo_px

    @property
    def pixel_size_nm(self) -> float | None:
        """The pixel size of the images that it wants; None if it is not known."""
        if self.recipe.rescale and self.info.input_pixel_size_nm is not None:
            return self.info.input_pixel_size_nm
        return self.recipe.pixel_size_nm

    @property
    def foregrounds(self) -> tuple[int, ...]:
        """The channel of the structure in each model's output."""
        return tuple(foreground_channel(info, self.recipe.structure) for info in self.infos)

    @property
    def boundaries(self) -> tuple[int, ...] | None:
        """The channel of the boundary in each model's output; None where not all have one."""
        if not all(_BOUNDARY in info.outputs for info in self.infos):
            return None
        return tuple(info.outputs.index(_BOUNDARY) for info in self.infos)

    @property
    def has_trees(self) -> bool:
        """Whether a model's answer steps: a feature at a threshold goes either way."""
        return any(info.architecture in _OF_TREES for info in self.infos)

    @property
    def channels(self) -> tuple[str, ...]:
        """What the maps are that it returns."""
        structure = self.recipe.structure
        if not self.plain:
            return (structure, *([] if self.boundaries is None else [_BOUNDARY]))
        named = list(self.info.outputs)
        named[self.foregrounds[0]] = structure
        return tuple(named)


def choose_contents(
    recipe: Recipe, infos: Sequence[ModelInfo], weights: Sequence[Path], member: str
) -> HandoverModel:
    """Takes the models of a recipe, or one of them.

    Args:
        recipe: The recipe.
        infos: What each of its models is.
        weights: The checkpoint of each.
        member: Name of the one that is taken; empty takes all.

    Raises:
        BenchError: If there is no such model, or what there is cannot be handed over.
    """
    names = [each.name for each in recipe.members]
    if member and member not in names:
        raise BenchError(
            f"member must be one of the recipe's models, {', '.join(names)}, received {member!r}"
        )
    if member:
        number = names.index(member)
        recipe = replace(
            recipe, members=(recipe.members[number],), weights=(1,), ensemble=Recipe.ensemble
        )
        infos, weights = [infos[number]], [weights[number]]
    _check_recipe(recipe)
    for info, name in zip(infos, names if not member else [member], strict=True):
        _check_model(info, name)
    _check_alike(infos, names)
    return HandoverModel(recipe, tuple(infos), tuple(weights))


def _check_recipe(recipe: Recipe) -> None:
    if recipe.segmentation != OWN:
        raise BenchError(
            "a model is handed over that is applied our way, received one that "
            f"{recipe.segmentation} applies: evaluate with segmentation=own, or hand over the "
            "package's own file"
        )
    if recipe.volume and recipe.volume.planes:
        raise BenchError(
            "a model of bioimage.io sees one window at a time, received a recipe that joins planes "
            "along z, y and x: evaluate with planes=xy, and hand that over"
        )


def _check_model(info: ModelInfo, name: str) -> None:
    check_segments(info, name)
    network = find_network(info.architecture)
    reason = ""
    if network.finds_instances:
        reason = "finds objects itself, which needs prompts and masks beside a network"
    elif network.dims == 3:
        reason = "sees volumes, and models of sections are handed over alone"
    elif not network.tiled:
        reason = "is applied by a package of its own"
    if reason:
        raise BenchError(
            f"what is handed over must be networks from a section to maps, {name} is of the "
            f"network {info.architecture}, which {reason}: give run_id of another model"
        )
    check_normalisation(info)


def _check_alike(infos: Sequence[ModelInfo], names: Sequence[str]) -> None:
    """Raises BenchError where models do not see the same windows."""
    fields = ("tile_px", "halo_px", "input_pixel_size_nm", "normalisation", "grey_scale")
    for field in fields:
        if len({getattr(info, field) for info in infos}) > 1:
            found = ", ".join(
                f"{name} {getattr(info, field)}" for name, info in zip(names, infos, strict=True)
            )
            raise BenchError(
                f"models that are handed over as one must see the same windows, received {field} "
                f"of {found}: give member=NAME, or the run of one of them as run_id"
            )
