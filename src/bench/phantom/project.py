"""The TrakEM2 project over the montages."""

from dataclasses import dataclass

import numpy as np

from bench.export import trakem2

STRUCTURES = ("vesicles", "mitochondria", "membrane")


@dataclass(frozen=True)
class Annotation:
    """An annotated region of the project.

    Attributes:
        title: Its name.
        labels: Instance ids (z, y, x) per structure.
        corner_px: Row and column of the region's corner in its montages.
        files: Paths of its montages from the project file, one per section.
        numbers: Positions of its sections in the series.
    """

    title: str
    labels: dict[str, np.ndarray]
    corner_px: tuple[int, int]
    files: list[str]
    numbers: list[int]


def format_project(
    annotations: list[Annotation], *, montage_px: int, pixel_size_nm: float, section_nm: float
) -> str:
    """Writes the text of a project: one layer per montage and one area list per instance.

    Args:
        annotations: The regions.
        montage_px: Edge of a montage in px.
        pixel_size_nm: Pixel size in nm.
        section_nm: Distance of sections in nm.
    """
    regions = [
        trakem2.Region(
            annotation.title,
            {name: annotation.labels[name] for name in STRUCTURES},
            annotation.corner_px,
            (montage_px, montage_px),
            [trakem2.Patch(file) for file in annotation.files],
            annotation.numbers,
        )
        for annotation in annotations
    ]
    return trakem2.format_project(
        regions, kind="phantom", pixel_size_nm=pixel_size_nm, section_nm=section_nm
    )
