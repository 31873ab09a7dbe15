"""What the page shows beyond the table: plain records, filled in by the step compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report.figures.curves import Curve, TrainingCurves
from bench.report.tables import TableRow


@dataclass(frozen=True)
class Panel:
    """An image as the page has it.

    Attributes:
        title: What it shows.
        webp: The file.
        width: In px.
        height: In px.
    """

    title: str
    webp: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """What is seen of one section.

    Attributes:
        section: Name of the section.
        role: Why it is shown: worst, median or best.
        scores: Of this section.
        panels: Annotation, prediction and errors of the part where they differ most, or the whole
            section in one; empty where the picture is missing.
        place: What part that is; empty for the whole section.
        missing: Why there is none; empty where there is.
    """

    section: str
    role: str
    scores: Mapping[str, float]
    panels: Sequence[Panel] = ()
    place: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Shown:
    """What is shown of one row of the table, from one of its runs.

    Attributes:
        row: The row.
        seed: Seed of the run, that of the median Dice of the row.
        run_id: The run.
        pictures: Of its worst, median and best section.
        precision_recall: Recall on x, precision on y.
        training: Validation Dice while training.
    """

    row: TableRow
    seed: int
    run_id: str
    pictures: Sequence[Picture]
    precision_recall: Curve
    training: TrainingCurves


@dataclass(frozen=True)
class Setting:
    """What was compared, as the head of the page says it.

    Attributes:
        experiment: Name of the experiment.
        split: The split that was scored.
        protocol: Whose post-processing.
        augmentations: Test-time augmentation.
        dates: First and last day on which an evaluation ended, year-month-day.
    """

    experiment: str
    split: str
    protocol: str
    augmentations: str
    dates: tuple[str, ...]
