"""What an evaluation says of vesicles that became spheres: each, and what each stage did."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.export.sphere_table import SPHERES_FILE, SphereRow, format_spheres
from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.postprocess.instances import Instances
from bench.postprocess.spheres.found import SphereResult
from bench.recipe.volumes import StageReport, VolumeInstances
from bench.report.figures.charts import stage_chart
from bench.steps.scoring.units import Unit
from bench.tracking.runs import Run


class SphereReport:
    """Collects the spheres of all volumes of a split, and Dice after each stage of finding them."""

    def __init__(self) -> None:
        self._stages: dict[str, PixelCounts] = {}
        self._rows: list[SphereRow] = []

    def measure(self, truth: np.ndarray) -> StageReport:
        """Returns what measures the labels after each stage against a volume's annotation."""

        def report(stage: str, labels: np.ndarray) -> None:
            counts = count_pixels(truth=truth, prediction=labels)
            self._stages[stage] = self._stages.get(stage, PixelCounts()) + counts

        return report

    def add(self, unit: Unit, instances: Instances) -> None:
        """Adds the spheres of a volume; nothing where it has none, or is a section."""
        if isinstance(instances, VolumeInstances) and instances.found:
            assert unit.voxel_size_nm is not None
            self._rows += list_spheres(unit.name, unit.voxel_size_nm, instances.found)

    def log(self, run: Run, split: str) -> None:
        """Logs the table of spheres, and Dice after each stage as metrics and a chart."""
        if not self._stages:
            return
        dice = {stage: dice_score(counts) for stage, counts in self._stages.items()}
        run.log_metrics({f"{split}/dice_after/{stage}": value for stage, value in dice.items()})
        run.log_figure(stage_chart(dice), "stages.png")
        run.log_text(format_spheres(self._rows), SPHERES_FILE)


def list_spheres(
    volume: str, voxel_size_nm: Sequence[float], found: SphereResult
) -> Iterator[SphereRow]:
    """Yields a row for each sphere of a volume, the most doubtful first, then what was removed.

    Args:
        volume: The volume's name.
        voxel_size_nm: Edges of its voxels, which are cubes, along z, y, x.
        found: What was found in it.
    """
    edge_nm = float(np.mean(voxel_size_nm))
    spheres = found.spheres
    for i in np.argsort(spheres.p, kind="stable"):
        yield _row(
            *(volume, int(spheres.ids[i]), spheres.centres[i], float(spheres.radii[i]), edge_nm),
            (spheres.thickness[i], spheres.density[i], spheres.p[i]),
            status=spheres.status[i],
        )
    for each in found.removed:
        yield _row(
            *(volume, each.id, each.centre, each.radius, edge_nm),
            (each.thickness, each.density, each.p),
            kept=False,
            reason=each.reason,
        )


def _row(
    volume: str,
    number: int,
    centre: Sequence[float] | np.ndarray,
    radius: float,
    edge_nm: float,
    features: tuple[float, float, float],
    **said: Any,
) -> SphereRow:
    """A row, with the digits that mean something."""
    z, y, x = (round(float(value), 3) for value in centre)
    thickness, density, p = (float(f"{value:.4g}") for value in features)
    return SphereRow(
        *(volume, number, z, y, x),
        radius=round(radius, 3),
        radius_nm=round(radius * edge_nm, 3),
        thickness=thickness,
        density=density,
        p=p,
        **said,
    )
