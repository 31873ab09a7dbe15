"""What an evaluation says of vesicles that became spheres: each, and what each stage did."""

import numpy as np

from bench.export.sphere_table import CIRCLES_FILE, SPHERES_FILE, SphereRow, format_spheres
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score, find_open
from bench.postprocess.instances import Instances
from bench.postprocess.spheres.rows import list_rows
from bench.recipe.volumes import StageReport, VolumeInstances
from bench.report.figures.charts import stage_chart
from bench.steps.scoring.units import Unit
from bench.tracking.runs import Run


class SphereReport:
    """Collects the spheres of all volumes of a split, and Dice after each stage of finding them.

    Of sections it is the circles.
    """

    def __init__(self) -> None:
        self._file = SPHERES_FILE
        self._stages: dict[str, PixelCounts] = {}
        self._rows: list[SphereRow] = []
        self._notes: list[str] = []

    def measure(self, truth: np.ndarray, levels: np.ndarray | None = None) -> StageReport:
        """Returns what measures the labels after each stage against a volume's annotation.

        Args:
            truth: The annotation.
            levels: What of it is not annotated; None where all is.
        """
        ignored = find_open(levels)

        def report(stage: str, labels: np.ndarray) -> None:
            counts = count_pixels(truth=truth, prediction=labels, ignored=ignored)
            self._stages[stage] = self._stages.get(stage, PixelCounts()) + counts

        return report

    def add(self, unit: Unit, instances: Instances) -> None:
        """Adds the spheres of a volume, or the circles of a section; nothing where it has none."""
        if isinstance(instances, VolumeInstances) and instances.found:
            size_nm = unit.voxel_size_nm or unit.dataset.pixel_size_nm
            assert size_nm is not None
            self._file = SPHERES_FILE if unit.volume else CIRCLES_FILE
            self._notes += [f"{unit.name}: {note}" for note in instances.found.notes]
            edge_nm = float(np.mean(size_nm))
            self._rows += list_rows(instances.found, unit.name, edge_nm)

    def log(self, run: Run, split: str) -> None:
        """Logs the table of spheres, Dice after each stage, and what is odd about a volume."""
        if not self._stages:
            return
        dice = {stage: dice_score(counts) for stage, counts in self._stages.items()}
        run.log_metrics({f"{split}/dice_after/{stage}": value for stage, value in dice.items()})
        run.log_figure(stage_chart(dice), "stages.png")
        run.log_text(format_spheres(self._rows), self._file)
        for note in self._notes:
            run.add_warning(note)
