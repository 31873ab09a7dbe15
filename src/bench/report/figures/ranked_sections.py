"""Which sections of an evaluation stand for all of them."""

from collections.abc import Mapping

import numpy as np

Scores = Mapping[str, Mapping[str, float]]


def rank_sections(scores: Scores) -> list[str]:
    """Names of the sections from the worst to the best Dice; equal ones in the order given."""
    scored = [name for name in scores if "dice" in scores[name]]
    return sorted(scored, key=lambda name: scores[name]["dice"])


def spread_sections(scores: Scores, number: int) -> list[str]:
    """Up to ``number`` sections, evenly spaced from the worst to the best.

    With an odd number the median is among them: of an even count of sections the lower one.
    """
    ranked = rank_sections(scores)
    if len(ranked) <= number:
        return ranked
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, number).astype(int)]


def typical_sections(scores: Scores) -> dict[str, str]:
    """The worst, the median and the best section, by name, with what each is.

    Two sections are the worst and the best, a single one is the only one.
    """
    ranked = rank_sections(scores)
    if len(ranked) == 1:
        return {ranked[0]: "only section"}
    roles: dict[str, str] = {}
    for place, role in ((0, "worst"), ((len(ranked) - 1) // 2, "median"), (-1, "best")):
        if ranked:
            roles.setdefault(ranked[place], role)
    return roles
