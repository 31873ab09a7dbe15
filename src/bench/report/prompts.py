"""What prompts from the annotation come to: a table of its own beside the benchmark's."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.metrics.prompted import GOOD_IOUS, PROMPTS
from bench.report.table_formats import MISSING, escape_markdown, markdown_table
from bench.report.tables import TableRow
from bench.structures import title_of

TITLE = "Prompts from the annotation (oracle)"
HEADERS = (
    *("Method", "Structure", "Prompt", "Mean IoU"),
    *(f"IoU > {limit:g}" for limit in GOOD_IOUS.values()),
    "Change (%)",
)
NAMES = 3
CAPTION = (
    "Mean IoU of an object's mask with the object that its prompt was made from, and the share of "
    "objects whose mask has more than that, with boxes as they are annotated; mean over seeds. "
    "Change is that of the mean IoU, in per cent of the first row of the same data, structure and "
    "prompt. All of it reads the truth, and is no segmentation that a method found."
)


@dataclass(frozen=True)
class _PromptScore:
    """One kind of prompt of one row of the table.

    Attributes:
        method: Row of METHODS, or a variant.
        label: Its name in the table.
        structure: What was prompted.
        dataset: The dataset.
        prompt: Kind of the prompt.
        iou: Mean IoU of an object.
        shares: Share of the objects above each limit of GOOD_IOUS.
        change_percent: Of the mean IoU against the first row's; None of that row itself.
    """

    method: str
    label: str
    structure: str
    dataset: str
    prompt: str
    iou: float
    shares: tuple[float, ...]
    change_percent: float | None

    def cells(self) -> list[str]:
        """What a table says of it."""
        change = MISSING if self.change_percent is None else f"{self.change_percent:+.1f}"
        numbers = [f"{value:.3f}" for value in (self.iou, *self.shares)]
        names = [self.label, title_of(self.structure), PROMPTS[self.prompt]]
        return [*names, *numbers, change]


def find_prompt_scores(rows: Sequence[TableRow]) -> list[_PromptScore]:
    """The scores of prompts of all rows that have some, in the order of the table."""
    first: dict[tuple[str, str, str], float] = {}
    found = []
    for row in rows:
        for kind in PROMPTS:
            iou = row.scores.get(f"{kind}_iou")
            if iou is None:
                continue
            reference = first.get((row.dataset, row.structure, kind))
            first.setdefault((row.dataset, row.structure, kind), iou)
            change = 100 * (iou / reference - 1) if reference else None
            shares = tuple(row.scores[f"{kind}_above_{written}"] for written in GOOD_IOUS)
            names = (row.method, row.label, row.structure, row.dataset)
            found.append(_PromptScore(*names, kind, iou, shares, change))
    return found


def prompts_to_markdown(scores: Sequence[_PromptScore]) -> str:
    """Writes the table as a section; empty if there is none."""
    if not scores:
        return ""
    lines = [[escape_markdown(cell) for cell in score.cells()] for score in scores]
    table = markdown_table(HEADERS, lines, names=NAMES)
    return f"## {TITLE}\n\n{table}\n\n{CAPTION}\n"


def prompts_to_json(scores: Sequence[_PromptScore]) -> list[dict[str, Any]]:
    """The scores as plain values, each marked."""
    return [asdict(score) | {"oracle": True} for score in scores]
