"""The card of a model: what it is, what it learned from, how good it is, and where that ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.metrics.table import HEADLINE, METRICS
from bench.recipe.recipe import Recipe
from bench.report.intervals import section_interval
from bench.report.serial import describe_worth
from bench.words import SECTION_UNIT, VOLUME_UNIT

_SPLITS = {"train": "learned from", "val": "chosen by", "test": "looked at once, at the end"}
_UNSTATED = "not stated"


@dataclass(frozen=True)
class CardData:
    """The data set that a model was chosen on.

    Attributes:
        name: Its name.
        content_hash: SHA-256 over pixels, names, splits and pixel size.
        pixel_size_nm: Edge of a pixel; None if not known.
        splits: Of each split the number of its sections, and of annotated instances.
        published: Title, citation and licence of a public data set; empty of others.
        missing: Why its numbers are not known; empty where they are.
    """

    name: str
    content_hash: str
    pixel_size_nm: float | None
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class CardModel:
    """A network of a recipe.

    Attributes:
        name: What the recipe calls it.
        network: Row of NETWORKS.
        pixel_size_nm: Pixel size that it sees; None if not known.
        source: The weights that it started from, or that it is; empty where nobody says it.
        run: The run that trained it; empty for a source as it is.
        weights_sha256: Hash of its weights.
        terms: The packages that it is computed by whose licence asks for more than ours, each with
            that licence.
    """

    name: str
    network: str
    pixel_size_nm: float | None
    source: str
    run: str
    weights_sha256: str
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitScores:
    """The scores of a recipe on a split.

    Attributes:
        split: Its name.
        pooled: Metric -> value, over the whole split.
        sections: The same per section; empty where only the pooled ones are kept.
    """

    split: str
    pooled: Mapping[str, float]
    sections: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """All that a card says.

    Attributes:
        title: What the model is called.
        uri: ``models:/NAME@champion``, where the store is reached; empty where the reader has a
            folder with the recipe alone.
        recipe: How its networks become instances.
        models: Its networks.
        data: What it was chosen on.
        scores: What it scores, by split.
        warnings: What a reader of the scores must know.
    """

    title: str
    uri: str
    recipe: Recipe
    models: Sequence[CardModel]
    data: CardData
    scores: Sequence[SplitScores]
    warnings: Sequence[str] = ()

    @property
    def unit(self) -> str:
        """What has a score of its own."""
        return VOLUME_UNIT if self.recipe.volume else SECTION_UNIT


def write_card(card: ModelCard) -> str:
    """Writes a card as Markdown."""
    parts = {
        "What it is": _say_what(card),
        "What it learned from": _list_data(card.data),
        "Scores": _list_scores(card),
        "Recipe": _list_models(card),
        "Limits": _list_limits(card),
        "Licences": list_licences(card),
        "How to use it": _say_use(card),
    }
    sections = [f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items()]
    return "\n\n".join([f"# {card.title}", *sections]) + "\n"


def find_interval(
    scores: SplitScores, metric: str, unit: str
) -> tuple[tuple[float, float] | None, str]:
    """95 % interval of the mean score of a section of a split, and what it rests on, in words.

    Args:
        scores: Of the split.
        metric: Row of METRICS.
        unit: What has a score of its own.

    Returns:
        None for the interval with fewer than two scores.
    """
    known = {name: each[metric] for name, each in scores.sections.items() if metric in each}
    row = METRICS[metric]
    interval, dependence = section_interval(known, limits=(row.low, row.high), unit=unit)
    said = f"{len(known)} {unit}{'s' * (len(known) != 1)}"
    worth = describe_worth(dependence.effective if dependence else None)
    return interval, f"{said}{worth}"


def _say_what(card: ModelCard) -> list[str]:
    recipe = card.recipe
    seen = "volumes" if recipe.volume else "sections"
    networks = ", ".join(dict.fromkeys(model.network for model in card.models))
    return [
        f"It segments {recipe.structure} in {seen} of electron microscopy: {len(card.models)} "
        f"network{'s' * (len(card.models) != 1)} ({networks}) and the post-processing below give "
        "the instances and a probability of each pixel. Made with synapse-bench."
    ]


def _list_data(data: CardData) -> list[str]:
    size = f"{data.pixel_size_nm:g} nm" if data.pixel_size_nm else "not known"
    lines = [f"Data set {data.name}, pixel size {size}, content SHA-256 `{data.content_hash}`."]
    if data.published:
        lines.append(f"Published as: {data.published.get('title', data.name)}.")
    if data.missing:
        return [*lines, "", f"How many sections and instances it has is not known: {data.missing}."]
    rows = [
        f"| {split} ({what}) | {data.splits[split][0]} | {data.splits[split][1]} |"
        for split, what in _SPLITS.items()
        if split in data.splits
    ]
    return [*lines, "", "| split | sections | annotated instances |", "|---|---:|---:|", *rows]


def _list_scores(card: ModelCard) -> list[str]:
    metrics = dict.fromkeys((card.recipe.metric, *(HEADLINE, "iou", "precision", "recall")))
    metrics |= dict.fromkeys(("instance_f1", "vesicle_f1"))
    rows = []
    for scores in card.scores:
        for metric in metrics:
            if metric not in METRICS or metric not in scores.pooled:
                continue
            row, (interval, rests) = METRICS[metric], find_interval(scores, metric, card.unit)
            within = f"{row.write(interval[0])} to {row.write(interval[1])}" if interval else "-"
            rows.append(
                f"| {scores.split} | {row.label} | {row.write(scores.pooled[metric])} | {within} | "
                f"{rests if scores.sections else 'not kept'} |"
            )
    if not rows:
        return ["It was not scored."]
    return [
        f"| split | metric | all {card.unit}s | 95 % interval of a {card.unit}'s mean | rests on |",
        "|---|---|---:|---|---|",
        *rows,
        "",
        "Scores on val flatter: the model was chosen by them. An interval tells of other "
        f"{card.unit}s of such tissue, not of other tissue, nor of another training.",
    ]


def _list_models(card: ModelCard) -> list[str]:
    lines = [f"{card.recipe.describe()}. All of it, to the last number: `recipe.json`.", ""]
    if card.recipe.origin:
        lines = [*lines[:1], card.recipe.origin, ""]
    lines += [
        "| network | of | sees pixels of | started from | trained by run | weights SHA-256 |",
        "|---|---|---|---|---|---|",
    ]
    for model in card.models:
        size = f"{model.pixel_size_nm:g} nm" if model.pixel_size_nm else "not known"
        lines.append(
            f"| {model.name} | {model.network} | {size} | {model.source or _UNSTATED} | "
            f"{model.run or 'none: it is its source'} | `{model.weights_sha256}` |"
        )
    return lines


def _list_limits(card: ModelCard) -> list[str]:
    recipe, data = card.recipe, card.data
    lines = [f"- {warning}" for warning in card.warnings]
    if not any(scores.split == "test" for scores in card.scores):
        lines.append("- It has no scores on test sections: what it is worth is not known.")
    lines.append(
        f"- Tissue, preparation and microscope other than those of {data.name} were not looked at: "
        "score it on annotated sections of yours before you rely on it."
    )
    if data.pixel_size_nm and recipe.rescale:
        lines.append(
            f"- It was scored at pixels of {data.pixel_size_nm:g} nm. Images of other sizes are "
            "resampled, which was not scored; without a pixel size they are fed as they are."
        )
    elif not data.pixel_size_nm:
        lines.append("- The pixel size of its data is not known: images are fed as they are.")
    return [*lines, "- It is for research, and no medical device."]


def list_licences(card: ModelCard) -> list[str]:
    """Under which terms software, data and weights are, as far as they are stated; a line each."""
    published = card.data.published
    if published:
        terms = f"{published.get('licence', _UNSTATED)}. Cite: {published.get('citation', '')}"
    else:
        terms = "those of whoever owns it; nothing is stated here"
    sources = dict.fromkeys(model.source or _UNSTATED for model in card.models)
    outside = [source for source in sources if source not in ("random", _UNSTATED)]
    lines = ["- Software: MIT.", f"- Data set {card.data.name}: {terms}."]
    lines += [
        f"- It is computed by {package}, which asks more of whoever passes on, or offers over a "
        "network, what is built on it."
        for package in dict.fromkeys(each for model in card.models for each in model.terms)
    ]
    if outside:
        lines.append(
            f"- Weights it started from ({', '.join(outside)}): the terms of whoever made them."
        )
    if _UNSTATED in sources:
        lines.append("- What it started from is not recorded: ask before you pass it on.")
    return lines


def _say_use(card: ModelCard) -> list[str]:
    size = card.data.pixel_size_nm
    sized = f" --pixel_size_nm {size:g}" if size else ""
    lines = []
    if card.uri:
        lines = [
            f"    synapse-bench segment --run_id {card.uri} --input IMAGES{sized} --output found",
            "",
            "where the tracking store is reached. Give the pixel size of your images, not that of "
            "its data.",
            "",
        ]
    if card.recipe.volume:
        return lines or ["It is of volumes: evaluate the weights in `recipe/` with synapse-bench."]
    if card.uri:
        code = [
            "import mlflow",
            f'model = mlflow.pyfunc.load_model("{card.uri}")',
            f"found = model.predict(image{_sized_params(size)})",
        ]
    else:
        code = [
            "from pathlib import Path",
            "from bench.inference.device import choose_compute",
            "from bench.recipe.predictor import RecipePredictor, segment_array",
            "from bench.recipe.recipe import read_recipe_folder",
            "",
            'recipe, weights = read_recipe_folder(Path("recipe"))',
            'predictor = RecipePredictor.open(recipe, weights, choose_compute("auto", "auto"))',
            f"found = segment_array(predictor, image, {float(size) if size else None})",
        ]
    code.append('found["instances"], found["probability"]')
    return [*lines, "From Python, an image being (y, x) or (n, y, x):", "", *_indent(code)]


def _sized_params(size: float | None) -> str:
    return f', params={{"pixel_size_nm": {size:g}}}' if size else ""


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
