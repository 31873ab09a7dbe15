"""The page that goes with a model: what it is, what it needs, and what is not in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.handover.contents import HandoverModel
from bench.handover.weights import STATE_DICT
from bench.inference.prediction import fixed_moments
from bench.inference.symmetries import IDENTITY
from bench.metrics.table import HEADLINE, METRICS
from bench.recipe.recipe import Recipe

# Facts of a training that a reader wants, by their keys in a checkpoint, and what they are called.
_FACTS = {
    "method": "method",
    "dataset": "data set",
    "iteration": "iteration",
    "best_iteration": "iteration",
    "score": "validation Dice while it was trained",
}


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        model: What the user named: a run, or a version of a registered model.
        made_on: The data set, in a line.
        test_image: What the test image is.
        warnings: What a reader of its results must know.
    """

    model: str
    made_on: str
    test_image: str
    warnings: Sequence[str] = ()


def write_documentation(
    name: str, model: HandoverModel, provenance: Provenance, formats: Sequence[str]
) -> str:
    """The text of ``README.md``, Markdown.

    Args:
        name: Name of the model.
        model: The models.
        provenance: Where they come from.
        formats: Formats of the weights.
    """
    parts = [
        f"# {name}",
        f"Finds {model.recipe.structure} in electron micrographs, {provenance.made_on}. "
        f"Made by synapse-bench from {provenance.model}.",
        *(f"**Note:** {warning}" for warning in provenance.warnings),
        "## Input and output\n\n" + _list(_describe_tensors(model)),
        "## What is not in the model\n\n" + _describe_rest(model),
        "## Models\n\n" + _list(_describe_member(model, n) for n in range(len(model.infos))),
        "## Validation\n\n" + _describe_validation(model.recipe),
        "## How to use it\n\n" + _describe_use(model, provenance.test_image, formats),
    ]
    return "\n\n".join(parts) + "\n"


def _list(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _describe_tensors(model: HandoverModel) -> list[str]:
    info, size = model.info, model.pixel_size_nm
    fixed = fixed_moments(info)
    if fixed is None:
        scaled = "each image is shifted and scaled to mean 0 and deviation 1, as a whole"
    else:
        scaled = f"8-bit images are shifted by {fixed.mean:g} and divided by {fixed.deviation:g}"
    pixels = (
        f"Pixels must be of {size:g} nm: resample images of others, and map the result back."
        if size
        else "The pixel size that it was trained at is not known; images are fed as they are."
    )
    return [
        f"Input: grey values of any bit depth; {scaled} (the description says it, and programs "
        "that read models of bioimage.io do it).",
        pixels,
        f"Window: {model.window_px} px, of which {info.halo_px} px on each side are halo, whose "
        "prediction is cut off. Networks with InstanceNorm depend on the size of the window: it "
        "belongs to the model.",
        f"Output: probabilities from 0 to 1 of {', '.join(model.channels)}.",
    ]


def _describe_rest(model: HandoverModel) -> str:
    recipe, lines = model.recipe, []
    size = f" of {recipe.pixel_size_nm:g} nm" if recipe.pixel_size_nm else ""
    lines.append(
        f"Threshold: a pixel is {recipe.structure} from a probability of {recipe.threshold:.4f} on."
    )
    if recipe.circles:
        lines.append(
            "Vesicles become circles by the stages "
            f"{', '.join(recipe.circles.stages)}, with the settings in `recipe.json`."
        )
    elif recipe.spheres:
        lines.append(
            "Vesicles of volumes become spheres by the stages "
            f"{', '.join(recipe.spheres.stages)}, with the settings in `recipe.json`."
        )
    else:
        unit = "voxels" if recipe.volume else "pixels"
        lines += [
            f"Opening with a disk of radius {recipe.opening_radius_px} px{size}.",
            f"Connected components are the objects; those of fewer than {recipe.min_area_px} "
            f"{unit}{size} are left out.",
        ]
    if recipe.watershed:
        lines.append(
            "Touching objects are separated by a watershed, its settings in `recipe.json`."
        )
    if model.plain or recipe.augmentations == (IDENTITY,):
        lines.append("Symmetries: none, the image is predicted as it is.")
    if len(model.infos) > 1 or recipe.augmentations != (IDENTITY,):
        lines.append(
            f"In the model already: {recipe.blend}, averaged as probabilities (synapse-bench "
            "rounds each to 255 levels first, which changes the result by a level at most)."
        )
    text = (
        "The model ends with probabilities. What synapse-bench did with them before it counted "
        "objects, all of it in `recipe.json`:\n\n"
    )
    return text + _list(lines)


def _describe_member(model: HandoverModel, number: int) -> str:
    member, info = model.recipe.members[number], model.infos[number]
    made_by = f"run {member.trained_run}" if member.trained_run else f"source {member.source}"
    facts = [
        f"{label} {info.training[key]}" for key, label in _FACTS.items() if key in info.training
    ]
    said = ", ".join([f"network {info.architecture}", made_by, *facts])
    return f"{member.name}: {said} (`models.json` has all of it)"


def _describe_validation(recipe: Recipe) -> str:
    rows: list[tuple[str, Mapping[str, float]]] = [
        ("validation", recipe.validation),
        ("test", recipe.test),
    ]
    lines = [
        f"{METRICS[name].label} on {split} sections: {scores[name]:.4f}"
        for split, scores in rows
        for name in dict.fromkeys((HEADLINE, recipe.metric))
        if name in scores and name in METRICS
    ]
    advice = (
        "To validate it on images of your own, annotate some that it has not seen, apply it with "
        "the threshold above, and compute Dice over all their pixels together."
    )
    known = _list(lines) if lines else "It was not scored."
    return (
        f"{known}\n\nThreshold and post-processing were chosen on validation sections; the data "
        f"set has the content hash {recipe.dataset[:12] or 'unknown'}. {advice}"
    )


def _describe_use(model: HandoverModel, test_image: str, formats: Sequence[str]) -> str:
    also = " Plain weights (`weights.pt`) and the network they belong to are there, too."
    return (
        "Test it with `bioimageio test rdf.yaml` (the package bioimageio.core), and make one file "
        "of it, for upload or for programs that want one, with "
        "`bioimageio package rdf.yaml model.zip`. "
        f"Weights are TorchScript.{also if STATE_DICT in formats else ''}\n\n"
        f"The test image is {test_image}.\n\n"
        "In windows that reach beyond an image bioimageio.core predicts something else than "
        "synapse-bench: it repeats the last pixel where it mirrors the image, and moves the last "
        f"window of a row inwards where the image is no multiple of {model.info.tile_px} px. All "
        "other windows are the same. To have all of them alike, mirror the image yourself."
    )
