"""Why cells do not run: a line that names every cause once, however many cells it stops."""

from collections.abc import Mapping

from bench.steps.grid.cells import GridCell

# What one line says at most.
_CAUSES, _REASON_CHARACTERS = 3, 500


def group_by_cause(failures: Mapping[GridCell, str]) -> dict[str, list[GridCell]]:
    """The cells that each reason stops, the reason of most cells first."""
    found: dict[str, list[GridCell]] = {}
    for cell, reason in failures.items():
        found.setdefault(reason, []).append(cell)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))


def describe_causes(failures: Mapping[GridCell, str]) -> str:
    """The causes in a line: the cells of each by the first of them, and their number.

    Args:
        failures: The reason of every cell that failed.
    """
    causes = group_by_cause(failures)
    shown = [
        f"{_name_cells(cells)}: {_shorten(reason)}"
        for reason, cells in list(causes.items())[:_CAUSES]
    ]
    if others := len(causes) - len(shown):
        shown.append(f"and {others} more cause{'s' if others > 1 else ''}")
    return "; ".join(shown)


def _name_cells(cells: list[GridCell]) -> str:
    return f"{cells[0]}" + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_CHARACTERS else f"{line[: _REASON_CHARACTERS - 3]}..."
