"""The sections or volumes of labels, read one by one to be measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import BenchError
from bench.measurement.objects import describe_objects, extent
from bench.steps.serving.export_subject import ExportSubject


@dataclass(frozen=True)
class MeasuredUnit:
    """A section, or a volume, whose objects are measured.

    Attributes:
        name: Its name.
        planes: The section, or the planes of the volume in the order of z.
        edges_nm: Edges of a pixel (y, x), or of a voxel (z, y, x).
        volume: The stack that it is a plane of, or is; empty for a single image.
    """

    name: str
    planes: tuple[str, ...]
    edges_nm: tuple[float, ...]
    volume: str = ""

    @property
    def axes(self) -> int:
        """2 of a section, 3 of a volume."""
        return len(self.edges_nm)

    def stack(self, read: Callable[[str], np.ndarray]) -> np.ndarray:
        """Reads its planes: (y, x) or (z, y, x)."""
        if self.axes == 2:
            return read(self.planes[0])
        return np.stack([read(plane) for plane in self.planes])

    def read_labels(self, subject: ExportSubject, structure: str) -> np.ndarray:
        """Reads the ids of a structure; of a volume each object has one through its planes."""
        if self.axes == 2:
            return subject.read(self.planes[0], structure)
        return subject.read_numbered(self.planes, structure)

    def measure(
        self, subject: ExportSubject, structure: str, other: str | None, within_nm: float
    ) -> tuple[pd.DataFrame, float]:
        """Measures its objects of a structure.

        Args:
            subject: Its labels and images.
            structure: What is measured.
            other: The structure to which distances are measured; None for none.
            within_nm: What counts as contact.

        Returns:
            The table of the objects, and its area in µm² or volume in µm³.
        """
        labels = self.read_labels(subject, structure)
        raw = self.stack(lambda name: subject.images[name].read())
        others = self.read_labels(subject, other) if other else None
        table = describe_objects(labels, raw, self.edges_nm, others, within_nm)
        return table, extent(labels.shape, self.edges_nm)


def list_measured_units(
    subject: ExportSubject, *, whole: bool, steps_nm: Mapping[str, float]
) -> list[MeasuredUnit]:
    """Lists what is measured as one.

    Args:
        subject: The labels.
        whole: Whether planes of a volume are, of which the objects go through them.
        steps_nm: The distance of the planes of each volume where the labels say it.

    Raises:
        BenchError: If a pixel size is not known.
    """
    unknown = [name for name, image in subject.images.items() if image.pixel_size_nm is None]
    if unknown:
        raise BenchError(
            f"measurements are in nm, the pixel size of {unknown[0]} and {len(unknown) - 1} others "
            "is not known: segment them again with -P pixel_size_nm=..."
        )
    if not whole:
        return [
            MeasuredUnit(name, (name,), (image.pixel_size_nm or 0.0,) * 2, image.volume)
            for name, image in subject.images.items()
        ]
    groups: dict[str, list[str]] = {}
    for name, image in subject.images.items():
        groups.setdefault(image.volume or name, []).append(name)
    return [_whole_volume(subject, name, planes, steps_nm) for name, planes in groups.items()]


def _whole_volume(
    subject: ExportSubject, name: str, planes: Sequence[str], steps_nm: Mapping[str, float]
) -> MeasuredUnit:
    step_nm = steps_nm.get(name) or subject.section_nm
    if step_nm is None:
        raise BenchError(
            f"volumes are measured in nm, the distance of the planes of {name} is not known: "
            "segment it again with -P section_nm=..."
        )
    edge_nm = subject.images[planes[0]].pixel_size_nm or 0.0
    return MeasuredUnit(name, tuple(planes), (step_nm, edge_nm, edge_nm), name)
