"""A champion as MLflow loads it: a model from code, which copies this file and the package."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from bench.inference.device import choose_compute
from bench.models.plugins import require_plugins
from bench.recipe.predictor import RecipePredictor, segment_array
from bench.recipe.recipe import read_recipe_folder
from bench.words import AUTO


class ChampionModel(PythonModel):
    """Segments sections by a recipe."""

    predictor: RecipePredictor

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the recipe and its models, onto the device that ``model_config`` names."""
        settings = context.model_config or {}
        require_plugins(settings.get("plugins", {}), carried=True)
        recipe, weights = read_recipe_folder(Path(context.artifacts["recipe"]))
        self.predictor = RecipePredictor.open(
            recipe, weights, choose_compute(settings.get("device", AUTO), AUTO)
        )

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Segments grey sections (y, x) or (n, y, x); see `segment_array`."""
        return segment_array(self.predictor, model_input, (params or {}).get("pixel_size_nm"))


mlflow.models.set_model(ChampionModel())
