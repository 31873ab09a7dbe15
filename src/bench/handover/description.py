"""What bioimage.io is told of a model: the tensors, what is done before and after, and the texts.

The words are those of the model description 0.5 of bioimageio.spec.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.handover.contents import HandoverModel
from bench.handover.weights import describe_file
from bench.inference.prediction import fixed_moments

# Of the fields below; programs refuse fields of later versions than theirs.
_FORMAT_VERSION = "0.5.5"
_INPUT, _OUTPUT = "raw", "probability"
_LONGEST_NAME, _LONGEST_TEXT = 64, 1024
# Below this no deviation is divided by.
_SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Credits:
    """Who made a model, and what is cited with it.

    Attributes:
        name: Name of the model.
        description: What it does, in a sentence or two.
        authors: Names, each with an affiliation or an empty text.
        licence: Identifier of SPDX; empty where none is given.
        citations: Text and DOI of each.
        timestamp: When it was made, ISO 8601.
    """

    name: str
    description: str
    authors: Sequence[tuple[str, str]]
    licence: str
    citations: Sequence[tuple[str, str]]
    timestamp: str


def describe_model(
    folder: Path,
    model: HandoverModel,
    made_by: Credits,
    weights: Mapping[str, Any],
    files: "ModelFiles",
) -> dict[str, Any]:
    """The content of ``rdf.yaml``.

    Args:
        folder: Where the files lie.
        model: The models.
        made_by: Who made them.
        weights: What is said of the weights.
        files: Names of the other files.
    """
    described: dict[str, Any] = {
        "type": "model",
        "format_version": _FORMAT_VERSION,
        "name": made_by.name[:_LONGEST_NAME],
        "description": made_by.description[:_LONGEST_TEXT],
        "authors": [
            {"name": name} | ({"affiliation": at} if at else {}) for name, at in made_by.authors
        ],
        "cite": [{"text": text, "doi": doi} for text, doi in made_by.citations],
        "documentation": files.documentation,
        "covers": [files.cover],
        "attachments": [describe_file(folder, name) for name in files.attachments],
        "tags": _list_tags(model),
        "timestamp": made_by.timestamp,
        "inputs": [_describe_input(folder, model, files.test_input)],
        "outputs": [_describe_output(folder, model, files.test_output)],
        "weights": dict(weights),
    }
    if made_by.licence:
        described["license"] = made_by.licence
    return described


@dataclass(frozen=True)
class ModelFiles:
    """Names of the files beside the weights."""

    documentation: str
    cover: str
    test_input: str
    test_output: str
    attachments: tuple[str, ...]


def _list_tags(model: HandoverModel) -> list[str]:
    networks = sorted({info.architecture for info in model.infos})
    general = ["electron-microscopy", "semantic-segmentation", "2d", "pytorch", "synapse-bench"]
    return [model.recipe.structure, *networks, *general]


def _describe_input(folder: Path, model: HandoverModel, name: str) -> dict[str, Any]:
    sides = [_side(model, axis) | {"size": model.window_px} for axis in "yx"]
    return {
        "id": _INPUT,
        "description": "An electron micrograph, of any bit depth.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [_INPUT]},
            *sides,
        ],
        "test_tensor": describe_file(folder, name),
        "data": {"type": "float32"},
        "preprocessing": [_describe_normalisation(model)],
    }


def _describe_normalisation(model: HandoverModel) -> dict[str, Any]:
    fixed = fixed_moments(model.info)
    kwargs: dict[str, Any]
    if fixed is not None:
        kwargs = {"mean": fixed.mean, "std": fixed.deviation}
        return {"id": "fixed_zero_mean_unit_variance", "kwargs": kwargs}
    kwargs = {"axes": ["channel", "y", "x"], "eps": _SMALLEST_DEVIATION}
    return {"id": "zero_mean_unit_variance", "kwargs": kwargs}


def _describe_output(folder: Path, model: HandoverModel, name: str) -> dict[str, Any]:
    sides = []
    for axis in "yx":
        size: dict[str, Any] = {"size": {"tensor_id": _INPUT, "axis_id": axis}}
        halo = {"halo": model.info.halo_px} if model.info.halo_px else {}
        sides.append(_side(model, axis) | size | halo)
    described: dict[str, Any] = {
        "id": _OUTPUT,
        "description": "Probabilities from 0 to 1; of which threshold on, see the documentation.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(model.channels)},
            *sides,
        ],
        "test_tensor": describe_file(folder, name),
        "data": {"type": "float32", "range": [0.0, 1.0]},
    }
    # Several models are averaged as probabilities, within the module.
    if model.plain and model.info.classes:
        described["postprocessing"] = [{"id": "softmax", "kwargs": {"axis": "channel"}}]
    elif model.plain:
        described["postprocessing"] = [{"id": "sigmoid"}]
    return described


def _side(model: HandoverModel, axis: str) -> dict[str, Any]:
    """A side of a window, with the size of its pixels where that is known."""
    described: dict[str, Any] = {"type": "space", "id": axis}
    if model.pixel_size_nm is not None:
        described |= {"unit": "nanometer", "scale": model.pixel_size_nm}
    return described
