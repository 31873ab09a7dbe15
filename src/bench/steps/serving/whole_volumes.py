"""Labels of planes whose volume is segmented as one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.steps.scoring.units import Unit
from bench.steps.serving.export_subject import of_each_section


class _WholeVolumes:
    """Segments the volume that a plane is of, and keeps it until a plane of another is asked for.

    Planes are asked for one by one, those of a volume one after the other.
    """

    def __init__(self, volumes: Sequence[Unit], segment: Callable[[Unit], np.ndarray]) -> None:
        """Segments nothing yet.

        Args:
            volumes: The volumes of a split.
            segment: From a volume to its ids (z, y, x).
        """
        self._places = {
            name: (volume, number)
            for volume in volumes
            for number, name in enumerate(volume.sections)
        }
        self._segment = segment
        self._last = ""
        self._labels = np.empty(0)

    def read(self, name: str, _: str) -> np.ndarray:
        """Reads the ids (y, x) of a plane."""
        volume, number = self._places[name]
        if volume.name != self._last:
            self._labels, self._last = self._segment(volume), volume.name
        return np.array(self._labels[number])

    def numbering(self, name: str, _: str) -> str:
        """Ids go through a volume."""
        return self._places[name][0].name


def read_units(
    units: Sequence[Unit], segment: Callable[[Unit], np.ndarray]
) -> dict[str, Callable[[str, str], Any]]:
    """How labels of sections are read and numbered: ``read`` and ``numbering`` of an export.

    Args:
        units: The sections, or the volumes whose planes they are.
        segment: From one of them to its ids.
    """
    if units[0].volume is None:
        named = {unit.name: unit for unit in units}
        return {"read": lambda name, _: segment(named[name]), "numbering": of_each_section}
    whole = _WholeVolumes(units, segment)
    return {"read": whole.read, "numbering": whole.numbering}
