"""The segmentation that is measured, and what it says of its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config.data import LabelsConfig
from bench.config.measuring import MeasureConfig
from bench.errors import BenchError
from bench.ingest.layouts.segmented import describe_segmented
from bench.report.measured.estimates import Measured
from bench.report.measured.quantities import NM2_PER_UM2, NM3_PER_UM3
from bench.steps.measuring.units import MeasuredUnit, list_measured_units
from bench.steps.segmented_names import SECTIONS, VOLUMES_FILE
from bench.steps.serving.export_segmented import export_segmented
from bench.steps.serving.export_subject import ExportSubject
from bench.words import NONE

# What a segmentation of volumes says of them.
_VOLUMES, _VOXELS = "volumes", "voxel_size_nm"


@dataclass(frozen=True, eq=False)
class MeasuredInput:
    """Labels to measure.

    Attributes:
        subject: The labels and images.
        units: The sections, or volumes.
        structure: What is measured.
        other: The structure that distances are measured to; None for none.
        said: What segment says of the first.
        other_said: The same of the other; empty without one.
        folder: The output of segment that the first is in.
    """

    subject: ExportSubject
    units: list[MeasuredUnit]
    structure: str
    other: str | None
    said: Mapping[str, Any]
    other_said: Mapping[str, Any]
    folder: Path

    @property
    def whole(self) -> bool:
        """Whether volumes are measured, and not their sections."""
        return self.units[0].axes == 3


def find_measured(config: MeasureConfig) -> MeasuredInput:
    """Finds the labels that a config names.

    Raises:
        BenchError: If a folder is no output of segment, they are not of the same images, of two
            structures, or not of a known pixel size.
    """
    folder = Path(config.input)
    said = describe_segmented(folder)
    folders, other_said = {folder: ""}, dict[str, Any]()
    if config.second != NONE:
        second = Path(config.second)
        other_said = describe_segmented(second)
        folders[second] = ""
        _check_second(folder, said, second, other_said)
    subject = export_segmented(LabelsConfig(), folders)
    structure = str(said.get("structure", subject.structures[0]))
    other = str(other_said["structure"]) if other_said else None
    steps_nm = {
        str(name): float(voxel[0])
        for name, voxel in zip(said.get(_VOLUMES, ()), said.get(_VOXELS, ()), strict=False)
    }
    units = list_measured_units(subject, whole=_VOLUMES in said, steps_nm=steps_nm)
    return MeasuredInput(subject, units, structure, other, said, other_said, folder)


def _check_second(
    first: Path, said: Mapping[str, Any], second: Path, other: Mapping[str, Any]
) -> None:
    """Raises BenchError where two segmentations cannot be measured together."""
    if said.get("structure") == other.get("structure"):
        raise BenchError(
            f"second must be of another structure than input, received {other.get('structure')} "
            f"in {first} and in {second}: segment another structure of the same images"
        )
    if (_VOLUMES in said) != (_VOLUMES in other):
        raise BenchError(
            f"both segmentations must be of sections or both of volumes, received {first} and "
            f"{second}, of which one is of volumes: segment both alike"
        )


def find_changed(measured: MeasuredInput, found: Measured) -> list[str]:
    """The sections or volumes whose labels are others than segment wrote, by its table of them.

    Args:
        measured: The labels.
        found: Their objects.
    """
    kind = "volume" if measured.whole else "section"
    path = measured.folder / (VOLUMES_FILE if measured.whole else SECTIONS)
    if not path.is_file():
        return []
    written = pd.read_csv(path, dtype={kind: str}).set_index(kind)
    size = "volume_nm3" if measured.whole else "area_nm2"
    per_unit = NM3_PER_UM3 if measured.whole else NM2_PER_UM2
    changed = []
    for name, table, extent in zip(found.names, found.tables, found.extents, strict=True):
        if name not in written.index:
            continue
        row: Any = written.loc[name]
        share = table[size].sum() / per_unit / extent
        if int(row["instances"]) != len(table) or not isclose(
            float(row["foreground_fraction"]), share, rel_tol=1e-6, abs_tol=1e-12
        ):
            changed.append(name)
    return changed
