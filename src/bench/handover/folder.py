"""The folder of a model that is handed over: weights, test tensors, texts and their description."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from bench.core.files import write_binary, write_json, write_text, write_whole
from bench.core.pixels import shrink_image, stretch_contrast
from bench.handover.contents import HandoverModel
from bench.handover.description import Credits, ModelFiles, describe_model
from bench.handover.reference import predict_window
from bench.handover.weights import write_weights
from bench.models.checkpoint import load_checkpoint
from bench.recipe.recipe import recipe_to_json

DESCRIPTION_FILE = "rdf.yaml"
FILES = ModelFiles(
    documentation="README.md",
    cover="cover.png",
    test_input="test_input.npy",
    test_output="test_output.npy",
    attachments=("recipe.json", "models.json"),
)
# Edge of each of the two pictures of a cover.
_COVER_PX = 256
# What a window of other numbers is stored as.
_STORED = ("uint8", "uint16", "int16", "float32")


def write_model_folder(
    folder: Path,
    model: HandoverModel,
    made_by: Credits,
    document: Callable[[tuple[str, ...]], str],
    window: np.ndarray,
) -> None:
    """Writes a model of bioimage.io into an empty folder.

    Args:
        folder: The folder.
        model: The models.
        made_by: Who made them.
        document: From the formats of the weights to the text of the documentation.
        window: The raw values (y, x) of the test image, as large as the models' window.

    Raises:
        BenchError: If a network cannot be handed over.
    """
    networks = [load_checkpoint(path)[0].eval() for path in model.weights]
    stored = window if window.dtype.name in _STORED else window.astype(np.float32)
    probability = predict_window(model, networks, stored)
    weights = write_weights(folder, model, networks)
    tensors = {FILES.test_input: stored[None, None], FILES.test_output: probability[None]}
    for name, tensor in tensors.items():
        write_binary(folder / name, partial(np.save, arr=tensor))
    infos = [dataclasses.asdict(info) for info in model.infos]
    for name, content in zip(FILES.attachments, (recipe_to_json(model.recipe), infos), strict=True):
        write_json(folder / name, content)
    write_text(folder / FILES.documentation, document(tuple(weights)))
    foreground = probability[0 if not model.plain else model.foregrounds[0]]
    _draw_cover(folder / FILES.cover, stored, foreground)
    described = describe_model(folder, model, made_by, weights, FILES)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=100)
    write_text(folder / DESCRIPTION_FILE, text)


def _draw_cover(path: Path, window: np.ndarray, probability: np.ndarray) -> None:
    """Draws the test image and what is found in it side by side."""
    factor = max(1, window.shape[0] // _COVER_PX)
    grey = stretch_contrast(shrink_image(window, factor))
    found = np.rint(255 * shrink_image(probability, factor)).astype(np.uint8)
    picture = Image.fromarray(np.concatenate([grey, found], axis=1))
    write_whole(path, lambda temporary: picture.save(temporary, format="PNG"))
