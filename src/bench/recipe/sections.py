"""A recipe applied to a section: components of its mask, or vesicles as circles."""

from collections.abc import Callable, Mapping

import numpy as np

from bench.errors import BenchError
from bench.inference.prediction import SectionPrediction
from bench.postprocess.instances import Instances
from bench.postprocess.segmentation import segment_prediction
from bench.recipe.recipe import Recipe
from bench.recipe.volumes import StageReport, make_spheres


def segment_by_recipe(
    recipe: Recipe,
    prediction: SectionPrediction,
    pixel_size_nm: float | None,
    read_raw: Callable[[], np.ndarray],
    on_stage: StageReport | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Instances:
    """Makes instances of the maps of a section.

    Args:
        recipe: The recipe, which is one of sections.
        prediction: The maps (y, x), as its blend made them one.
        pixel_size_nm: The section's pixel size; None if not known.
        read_raw: Reads the section (y, x), which circles are refined in.
        on_stage: Takes the labels after each stage of the circles.
        sizes: Of opening and smallest area without circles, what the user set himself, in px.

    Raises:
        BenchError: If circles are wanted of a section whose pixel size is not known.
    """
    if recipe.circles is None:
        return segment_prediction(
            prediction,
            level=recipe.level,
            settings=recipe.postprocess(pixel_size_nm, sizes),
            watershed=recipe.watershed,
        )
    size_nm = need_pixel_size(pixel_size_nm)
    settings, level = recipe.circles, recipe.level
    return make_spheres(prediction, size_nm, read_raw(), settings, level, on_stage)


def need_pixel_size(pixel_size_nm: float | None) -> float:
    """The pixel size of sections whose vesicles become circles.

    Raises:
        BenchError: If it is not known.
    """
    if pixel_size_nm is None:
        raise BenchError(
            "circles have sizes in nm, received sections without a pixel size: state it "
            "(pixel_size_nm), or leave circles out"
        )
    return pixel_size_nm
