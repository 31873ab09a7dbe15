"""What nobody annotated: taken out of the labels, and kept beside them.

What labels say there is read for one thing: an object of which more than half lies in it is neither
found nor missed, so that its visible part is marked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.classes import OTHER, RESERVED, UNANNOTATED, ClassMap
from bench.ingest.sources import SourceImage, SourceSection, mark_ids
from bench.ingest.suggestions import find_runs
from bench.metrics.overlap import IS_OPEN, MOSTLY_OPEN

_Parts = dict[str, SourceImage]


def leave_open(
    sections: Sequence[SourceSection], classes: ClassMap, *, volumes: bool
) -> list[SourceSection]:
    """Takes out of the labels of sections what is not annotated.

    Args:
        sections: Sections whose labels may be of ``UNANNOTATED`` and ``OTHER`` besides structures.
        classes: What the user says is not annotated.
        volumes: Whether they are planes of volumes, whose objects go through the planes.

    Returns:
        The sections with the labels of structures alone, which are 0 where nobody annotated, and
        with what they leave open.

    Raises:
        BenchError: If the user names a class or folder that no section has.
    """
    _check_named(sections, classes)
    stacks: dict[tuple[object, ...], dict[int, _OpenLabels]] = defaultdict(dict)
    places: dict[tuple[int, str], tuple[tuple[object, ...], int]] = {}
    sparse = classes.sparse and not _is_said(sections)
    for place, section in enumerate(sections):
        for structure, image in section.labels.items():
            if structure.partition("/")[0] in RESERVED:
                continue
            opened = _find_open(section, structure, sparse=sparse)
            if opened is None:
                continue
            number = section.number if volumes and section.number is not None else place
            key = (section.split, section.region, structure) if volumes else (place, structure)
            stacks[key][number] = _OpenLabels(image, opened, sparse=sparse)
            places[place, structure] = key, number
    known = {key: _OpenStack(_with_ids(planes)) for key, planes in stacks.items()}
    return [
        _take_out(section, {s: places.get((place, s)) for s in section.labels}, known)
        for place, section in enumerate(sections)
    ]


def _check_named(sections: Sequence[SourceSection], classes: ClassMap) -> None:
    """Raises BenchError where a class or folder was named, and no section has it."""
    by_name = [n for n in classes.ignored if not n.isdecimal()]
    if not by_name or classes.sparse or _is_said(sections):
        return
    kinds = {
        s for section in sections for s in section.labels if s.partition("/")[0] not in RESERVED
    }
    raise BenchError(
        f"ignore must name a class, a mask folder or a value that sections have, received "
        f"{first_names(by_name)}, which none of {len(sections)} sections has (they have "
        f"{first_names(sorted(kinds))}): correct the name, or leave ignore out"
    )


def _is_said(sections: Sequence[SourceSection]) -> bool:
    """Whether a class or folder says what is not annotated."""
    return any(UNANNOTATED in section.labels for section in sections)


def _find_open(section: SourceSection, structure: str, *, sparse: bool) -> _Parts | None:
    """What says which pixels of a structure are open; None where all of them are annotated."""
    labels = section.labels
    if sparse:
        # A label of anything means that somebody looked.
        own = (OTHER, f"{OTHER}/{structure}")
        return {n: i for n, i in labels.items() if n in own or n.partition("/")[0] not in RESERVED}
    named = (UNANNOTATED, f"{UNANNOTATED}/{structure}")
    return {n: labels[n] for n in named if n in labels} or None


def _take_out(
    section: SourceSection,
    found: Mapping[str, tuple[tuple[object, ...], int] | None],
    known: Mapping[tuple[object, ...], "_OpenStack"],
) -> SourceSection:
    labels: dict[str, SourceImage] = {}
    ignored: dict[str, SourceImage] = {}
    for structure, image in section.labels.items():
        if structure.partition("/")[0] in RESERVED:
            continue
        place = found[structure]
        if place is None:
            labels[structure] = image
            continue
        stack, number = known[place[0]], place[1]
        plane = stack.planes[number]
        drawn = None if image.drawn is None else plane.draw
        labels[structure] = replace(plane.image, read=plane.read, drawn=drawn)
        files = {file: path for each in plane.parts.values() for file, path in each.files.items()}
        ignored[structure] = replace(
            image, files=files, read=partial(stack.read_levels, number), drawn=None, ids=True
        )
    return replace(section, labels=labels, ignored=ignored)


class _OpenLabels:
    """The labels of a structure in a section, some of which is not annotated."""

    def __init__(self, image: SourceImage, parts: _Parts, *, sparse: bool) -> None:
        self.image, self.parts, self._sparse = image, parts, sparse

    def read_open(self) -> np.ndarray:
        """Where nobody annotated, bool (y, x).

        Raises:
            BenchError: If what says so is of another shape.
        """
        opened: np.ndarray | None = None
        for each in self.parts.values():
            here = each.read() != 0
            if opened is not None and here.shape != opened.shape:
                raise BenchError(
                    f"what is not annotated must have the shape of the labels, received "
                    f"{here.shape} px in {each.place}, {opened.shape} px besides: export it again"
                )
            opened = here if opened is None else opened | here
        assert opened is not None
        return ~opened if self._sparse else opened

    def read(self) -> np.ndarray:
        """The labels (y, x), 0 where nobody annotated."""
        return self._without_open(self.image.read())

    def draw(self) -> DrawnLabels:
        """What is drawn, and what did not fit, without what nobody annotated."""
        assert self.image.drawn is not None
        drawn = self.image.drawn()
        return replace(drawn, labels=self._without_open(drawn.labels))

    def _without_open(self, pixels: np.ndarray) -> np.ndarray:
        opened = self.read_open()
        if opened.shape != pixels.shape:
            raise BenchError(
                f"what is not annotated must have the shape of the labels, {pixels.shape} px of "
                f"{self.image.place}, received {opened.shape} px in "
                f"{next(iter(self.parts.values())).place}: export it again at full size"
            )
        return np.where(opened, pixels.dtype.type(0), pixels)


def _with_ids(planes: dict[int, _OpenLabels]) -> dict[int, _OpenLabels]:
    """Says anew which label images are of ids: what nobody annotated must not say it."""
    order = sorted(planes)
    painted = all(planes[n].image.drawn is None and planes[n].image.header.pages > 1 for n in order)
    if painted and all(planes[n].image.ids for n in order):
        left = [replace(planes[n].image, read=planes[n].read, ids=False) for n in order]
        for number, marked in zip(order, mark_ids(left), strict=True):
            planes[number].image = replace(planes[number].image, ids=marked.ids)
    return planes


class _OpenStack:
    """The labels of a structure in a section, or in the planes of a volume."""

    def __init__(self, planes: dict[int, _OpenLabels]) -> None:
        self.planes = planes
        self._marks: dict[int, np.ndarray] | None = None

    def read_levels(self, number: int) -> np.ndarray:
        """What is not annotated in a plane, uint8 (y, x): see ``dataset.partial``.

        What is known of the other planes is forgotten with the last.
        """
        if self._marks is None:
            self._marks = self._find_mostly_open()
        levels = np.where(self.planes[number].read_open(), IS_OPEN, 0).astype(np.uint8)
        if number in self._marks:
            levels[self._marks[number]] = MOSTLY_OPEN
        if number == max(self.planes):
            self._marks = None
        return levels

    def _find_mostly_open(self) -> dict[int, np.ndarray]:
        """The visible parts of objects most of which is open, bool, of planes that have any."""
        from scipy.ndimage import label

        marks: dict[int, np.ndarray] = {}
        for run in find_runs(sorted(self.planes)):
            planes = [self.planes[number] for number in run]
            opened = np.stack([plane.read_open() for plane in planes])
            full = np.stack([plane.image.read() for plane in planes])
            if not (full[opened] != 0).any():
                continue
            visible = full[~opened & (full != 0)]
            ids = planes[0].image.ids or (visible.size and visible.min() != visible.max())
            found = find_mostly_open(full if ids else label(full != 0)[0], opened)
            marks |= {n: plane for n, plane in zip(run, found, strict=True) if plane.any()}
        return marks


def find_mostly_open(labels: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """The visible parts of objects of which more than half is not annotated.

    Args:
        labels: Ids, 0 background, of any shape.
        opened: Where nobody annotated, bool, of the same shape.

    Examples:
        >>> labels = np.array([[1, 1, 1, 0, 2, 2, 2]])
        >>> find_mostly_open(labels, np.array([[0, 1, 1, 1, 1, 0, 0]]) > 0).astype(int)
        array([[1, 0, 0, 0, 0, 0, 0]])
    """
    ids, places = np.unique(labels, return_inverse=True)
    places = places.reshape(labels.shape)
    inside = np.bincount(places[opened], minlength=ids.size)
    outside = np.bincount(places[~opened], minlength=ids.size)
    mostly = (inside > outside) & (ids != 0)
    return np.asarray(mostly[places] & ~opened)
