"""Stacks that are volumes: which are, and the objects of their masks in three dimensions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.config.data import PrepareConfig
from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.sources import SourceImage, SourceSection
from bench.ingest.suggestions import find_runs
from bench.words import AUTO

# A stack of fewer planes is a few serial sections rather than a volume, unless the user says so.
_FEWEST_PLANES = 8


def choose_volumes(
    sections: Sequence[SourceSection],
    pixel_size_nm: float | None,
    section_nm: float | None,
    config: PrepareConfig,
) -> bool:
    """Whether the sections of a tree are planes of volumes.

    Args:
        sections: All annotated sections.
        pixel_size_nm: Edge of a pixel; None where it is not known.
        section_nm: Distance of two sections; None where it is not known.
        config: Settings of prepare.

    Raises:
        BenchError: If volumes are asked for where there are none, or their voxels are unknown.
    """
    if config.volumes == "false" or not sections:
        return False
    asked = config.volumes != AUTO
    single = [s.name for s in sections if not s.region or s.number is None]
    if single:
        if asked:
            raise BenchError(
                "volumes=true needs stacks of one file each, received single images "
                f"{first_names(single)}: save them as stacks, or leave volumes=auto"
            )
        return False
    unknown = [
        name
        for name, value in (("pixel_size_nm", pixel_size_nm), ("section_nm", section_nm))
        if value is None
    ]
    if asked and unknown:
        raise BenchError(
            f"volumes=true needs the size of a voxel, received no {' and '.join(unknown)}: give "
            + " ".join(f"-P {name}=..." for name in unknown)
        )
    planes = [section.raw.header.pages for section in sections]
    if unknown or (not asked and min(planes) < _FEWEST_PLANES):
        return False
    _check_spacing(sections, config)
    return True


def _check_spacing(sections: Sequence[SourceSection], config: PrepareConfig) -> None:
    if config.section_nm is not None:
        return
    stated = {
        section.raw.header.section_nm: section.raw.file
        for section in sections
        if section.raw.header.section_nm
    }
    values = sorted(stated)
    if values and values[-1] > values[0] * 1.001:
        raise BenchError(
            f"volumes must have one distance of sections, received {values[0]:g} nm in "
            f"{stated[values[0]]} and {values[-1]:g} nm in {stated[values[-1]]}: prepare them "
            "apart, or give -P section_nm=..."
        )


def number_objects(sections: Sequence[SourceSection]) -> list[SourceSection]:
    """Numbers the objects of binary masks through the planes of each volume.

    Label volumes of ids, and drawn objects, keep the ids that they have.

    Args:
        sections: Planes of volumes.

    Returns:
        The same sections, whose masks all hold ids of objects in three dimensions: of a binary
        mask those are its 6-connected components.
    """
    stacks: dict[tuple[str, str], dict[int, SourceImage]] = {}
    for section in sections:
        for structure, image in section.labels.items():
            if not image.ids:
                pages = stacks.setdefault((section.region, structure), {})
                pages[int(section.number or 0)] = image
    numbered = {key: _NumberedStack(pages) for key, pages in stacks.items()}

    def follow(section: SourceSection, structure: str, image: SourceImage) -> SourceImage:
        if image.ids:
            return image
        stack = numbered[section.region, structure]
        return replace(image, read=partial(stack.read, int(section.number or 0)), ids=True)

    return [
        replace(
            section,
            labels={name: follow(section, name, image) for name, image in section.labels.items()},
        )
        for section in sections
    ]


class _NumberedStack:
    """A binary mask through the planes of a volume; numbered when one of them is first read."""

    def __init__(self, pages: dict[int, SourceImage]) -> None:
        self._pages = dict(sorted(pages.items()))
        self._planes: dict[int, np.ndarray] = {}

    def read(self, number: int) -> np.ndarray:
        """Reads the ids of a plane (y, x); the last plane is forgotten with all others."""
        if number not in self._planes:
            self._planes = self._label()
        plane = self._planes[number]
        if number == max(self._pages):
            self._planes = {}
        return plane

    def _label(self) -> dict[int, np.ndarray]:
        """Labels runs of neighbouring planes: objects do not reach over planes left out."""
        from scipy.ndimage import label

        planes: dict[int, np.ndarray] = {}
        last = 0
        for run in find_runs(list(self._pages)):
            mask = np.stack([self._pages[number].read() != 0 for number in run])
            labels, count = label(mask)
            labels = np.where(labels, labels + last, 0)
            last += count
            planes |= dict(zip(run, labels.astype(np.min_scalar_type(last)), strict=True))
        return planes
