"""What an evaluation says of vesicles that became spheres: each, and what each stage did."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.metrics.overlap import PixelCounts, count_pixels, dice_score
from bench.postprocess.instances import Instances
from bench.recipe.volumes import StageReport, VolumeInstances
from bench.report.figures.charts import stage_chart
from bench.steps.scoring.units import Unit
from bench.tracking.runs import Run

SPHERES_FILE = "spheres.csv"
_COLUMNS = (
    *("volume", "id", "z", "y", "x", "radius", "radius_nm"),
    *("thickness", "density", "p", "status", "kept", "reason"),
)


class SphereReport:
    """Collects the spheres of all volumes of a split, and Dice after each stage of finding them."""

    def __init__(self) -> None:
        self._stages: dict[str, PixelCounts] = {}
        self._rows: list[dict[str, Any]] = []

    def measure(self, truth: np.ndarray) -> StageReport:
        """Returns what measures the labels after each stage against a volume's annotation."""

        def report(stage: str, labels: np.ndarray) -> None:
            counts = count_pixels(truth=truth, prediction=labels)
            self._stages[stage] = self._stages.get(stage, PixelCounts()) + counts

        return report

    def add(self, unit: Unit, instances: Instances) -> None:
        """Adds the spheres of a volume; nothing where it has none, or is a section."""
        if isinstance(instances, VolumeInstances) and instances.found:
            self._rows += list_spheres(unit, instances)

    def log(self, run: Run, split: str) -> None:
        """Logs the table of spheres, and Dice after each stage as metrics and a chart."""
        if not self._stages:
            return
        dice = {stage: dice_score(counts) for stage, counts in self._stages.items()}
        run.log_metrics({f"{split}/dice_after/{stage}": value for stage, value in dice.items()})
        run.log_figure(stage_chart(dice), "stages.png")
        run.log_text(write_spheres(self._rows), SPHERES_FILE)


def list_spheres(unit: Unit, instances: VolumeInstances) -> Iterator[dict[str, Any]]:
    """Yields a row for each sphere of a volume, the most doubtful first, then what was removed."""
    assert instances.found is not None
    assert unit.voxel_size_nm is not None
    edge = float(np.mean(unit.voxel_size_nm))
    spheres = instances.found.spheres
    for i in np.argsort(spheres.p, kind="stable"):
        yield _row(
            unit.name,
            edge,
            int(spheres.ids[i]),
            spheres.centres[i],
            float(spheres.radii[i]),
            (float(spheres.thickness[i]), float(spheres.density[i]), float(spheres.p[i])),
            status=str(spheres.status[i]),
            kept=1,
        )
    for each in instances.found.removed:
        yield _row(
            unit.name,
            edge,
            each.id,
            np.asarray(each.centre),
            each.radius,
            (each.thickness, each.density, each.p),
            kept=0,
            reason=each.reason,
        )


def _row(
    volume: str,
    edge_nm: float,
    number: int,
    centre: np.ndarray,
    radius: float,
    features: tuple[float, float, float],
    *,
    kept: int,
    status: str = "",
    reason: str = "",
) -> dict[str, Any]:
    place = {axis: round(float(value), 3) for axis, value in zip("zyx", centre, strict=True)}
    names = ("thickness", "density", "p")
    return {
        "volume": volume,
        "id": number,
        **place,
        "radius": round(radius, 3),
        "radius_nm": round(radius * edge_nm, 3),
        **{name: f"{value:.4g}" for name, value in zip(names, features, strict=True)},
        "status": status,
        "kept": kept,
        "reason": reason,
    }


def write_spheres(rows: list[dict[str, Any]]) -> str:
    """Writes rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
