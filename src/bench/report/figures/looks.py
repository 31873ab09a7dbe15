"""The colour and the line of each method: the same in all charts of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.methods import METHODS
from bench.report.figures.overlays import OKABE_ITO, unit_colour

COLOURS = {name: unit_colour(colour) for name, colour in OKABE_ITO.items()}
# Those of Okabe and Ito that are seen on white and on black, and two more.
METHOD_COLOURS = (
    *(COLOURS[name] for name in ("blue", "orange", "bluish green", "vermillion")),
    *(COLOURS[name] for name in ("sky blue", "reddish purple")),
    *(unit_colour(colour) for colour in ((140, 125, 30), (125, 125, 125))),
)
# Methods beyond the colours there are begin them again, with other lines, as do their variants.
_Line = Literal["-", "--", ":", "-."]
_LINES: tuple[_Line, ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class MethodLook:
    """How a method is drawn.

    Attributes:
        colour: Red, green and blue, 0 to 1.
        line: Style of its line, as matplotlib calls it.
    """

    colour: tuple[float, float, float]
    line: _Line


def choose_looks(methods: Sequence[str]) -> dict[str, MethodLook]:
    """Gives every method a look of its own.

    A row of METHODS prefers the colour of its place there, so that pages of other methods agree
    where they can. Variants of a method have its colour.

    Args:
        methods: Names, of variants too (``method:sections``), in the order of the table.
    """
    free, looks, taken = list(METHOD_COLOURS), dict[str, MethodLook](), dict[str, MethodLook]()
    for name in methods:
        base = name.partition(":")[0]
        if base in taken:
            line = _LINES[sum(other.partition(":")[0] == base for other in looks) % len(_LINES)]
            looks.setdefault(name, MethodLook(taken[base].colour, line))
            continue
        place = list(METHODS).index(base) if base in METHODS else len(taken)
        colour = METHOD_COLOURS[place % len(METHOD_COLOURS)]
        if colour not in free:
            colour = free[0] if free else METHOD_COLOURS[len(taken) % len(METHOD_COLOURS)]
        if colour in free:
            free.remove(colour)
        line = _LINES[len(taken) // len(METHOD_COLOURS) % len(_LINES)]
        taken[base] = looks[name] = MethodLook(colour, line)
    return looks
