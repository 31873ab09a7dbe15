"""The scores of an evaluation as one short text: a tag of its run, which a search brings along.

The file scores.json has the same; from a server every file is a question of its own, and thousands
of them take minutes.
"""

import json
from collections.abc import Mapping
from typing import Any

# What a store takes as the value of a tag.
LIMIT = 8000


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
