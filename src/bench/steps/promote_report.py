"""What a registered champion says of itself."""

from bench.core.version import code_version
from bench.recipe.recipe import Recipe
from bench.steps.scoring.recipe_source import FoundRecipe
from bench.tracking.registry import RECIPE_TAG

# What the store takes of a tag of a version.
LONGEST_TAG = 4000


def list_scores(recipe: Recipe) -> dict[str, float]:
    """The scores of a recipe, by split and name."""
    splits = {"val": recipe.validation, "test": recipe.test}
    return {
        f"{split}/{name}": float(value)
        for split, scores in splits.items()
        for name, value in scores.items()
    }


def version_tags(found: FoundRecipe, sha256: str) -> dict[str, str]:
    """The tags of a registered version.

    Args:
        found: The recipe.
        sha256: Its hash.
    """
    recipe = found.recipe
    tags = {
        RECIPE_TAG: sha256,
        "bench.structure": recipe.structure,
        "bench.dataset": recipe.dataset,
        "bench.metric": recipe.metric,
        "bench.search": found.run_id,
        "bench.members": ",".join(m.trained_run or m.source for m in recipe.members),
        "bench.code": code_version(),
        "bench.warning": "\n".join(found.warnings)[:LONGEST_TAG],
    }
    tags |= {name: repr(value) for name, value in list_scores(recipe).items()}
    return {name: value for name, value in tags.items() if value}


def write_description(recipe: Recipe, search: str) -> str:
    """What readers of the registry see first, as Markdown.

    Args:
        recipe: The recipe.
        search: The run that found it.
    """
    scores = list_scores(recipe)
    metrics = dict.fromkeys((recipe.metric, "dice"))
    shown = [f"{split}/{metric}" for split in ("val", "test") for metric in metrics]
    size = "unknown" if recipe.pixel_size_nm is None else f"{recipe.pixel_size_nm:g} nm"
    lines = [
        f"Segments {recipe.structure}: {recipe.describe()}.",
        "",
        *(f"- {name}: {scores[name]:.4f}" for name in shown if name in scores),
        f"- chosen by val/{recipe.metric} on dataset {recipe.dataset[:12]}, pixel size {size}",
        f"- search: run {search}",
    ]
    for member in recipe.members:
        made_by = f"run {member.trained_run}" if member.trained_run else member.source
        lines.append(f"- model {member.name}: {made_by}")
    return "\n".join(lines)
