"""Labels of planes whose volume is segmented as one."""

from collections.abc import Callable, Sequence

import numpy as np

from bench.dataset.volumes import Volume
from bench.inference.prediction import SectionPrediction


class WholeVolumes:
    """Segments the volume that a plane is of, and keeps it until a plane of another is asked for.

    Planes are asked for one by one, those of a volume one after the other.
    """

    def __init__(self, volumes: Sequence[Volume], segment: Callable[[Volume], np.ndarray]) -> None:
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
        return self._labels[number].copy()

    def numbering(self, name: str, _: str) -> str:
        """Ids go through a volume."""
        return self._places[name][0].name


def stack_predictions(planes: Sequence[SectionPrediction]) -> SectionPrediction:
    """The maps of planes (y, x) as those of their volume (z, y, x).

    Instances that a model found plane by plane are none of the volume: they are left out.
    """
    boundaries = [plane.boundary for plane in planes if plane.boundary is not None]
    return SectionPrediction(
        np.stack([plane.foreground for plane in planes]),
        np.stack(boundaries) if len(boundaries) == len(planes) else None,
    )
