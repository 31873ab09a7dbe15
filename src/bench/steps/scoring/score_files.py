"""The files and the tag in which an evaluation's run keeps its scores and pictures.

They are read by steps that score nothing: nothing heavy is imported here.
"""

import json
from collections.abc import Mapping
from typing import Any

# What a store takes as the value of a tag.
LIMIT = 8000
SCORES_FILE = "scores.json"
# The same of a search's winner on validation, beside those on test.
VALIDATION_FILE = "validation_scores.json"
PRECISION_RECALL_FILE = "precision_recall.csv"
# Where a crop's PNG says what part of the section it is.
CROP_TITLE = "Title"


def pack_scores(
    pooled: Mapping[str, float], sections: Mapping[str, Mapping[str, float]]
) -> str | None:
    """Packs scores, to the last digit.

    Args:
        pooled: Metric -> value, over the whole split.
        sections: The same per section.

    Returns:
        The text; None where it is longer than a tag may be (about 40 sections).
    """
    names = list(dict.fromkeys(name for scores in (pooled, *sections.values()) for name in scores))
    content = {
        "metrics": names,
        "pooled": [pooled.get(name) for name in names],
        "sections": {
            section: [scores.get(name) for name in names] for section, scores in sections.items()
        },
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= LIMIT else None


def unpack_scores(text: str) -> dict[str, Any]:
    """Returns ``pooled`` and ``sections`` as in scores.json."""
    content = json.loads(text)
    names = content["metrics"]

    def named(values: list[float | None]) -> dict[str, float]:
        pairs = zip(names, values, strict=True)
        return {name: value for name, value in pairs if value is not None}

    sections = {section: named(values) for section, values in content["sections"].items()}
    return {"pooled": named(content["pooled"]), "sections": sections}


def crop_file(section: str) -> str:
    """The artifact with the crop of a section, its panels side by side."""
    return f"crops/{section}.png"


def overlay_file(section: str) -> str:
    """The artifact with the overlay of a section."""
    return f"overlays/{section}.png"
