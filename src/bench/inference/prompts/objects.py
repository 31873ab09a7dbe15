"""Prompts for Segment Anything, made from annotated objects: boxes and points.

They read the truth. What is found by them says how well an object is outlined once it is known
where it is, with a perfect box or with one as people draw it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import regionprops

from bench.errors import BenchError, unknown_name
from bench.metrics.prompted import PROMPTS
from bench.models.checkpoint import ModelInfo
from bench.structures import split_names
from bench.words import AUTO

# With a single point SAM proposes several masks, of which it expects the best; see its paper.
_AMBIGUOUS = ("point",)
_WITH_BOX, _WITH_POINTS = ("box", "point_box"), ("point", "point_box", "points")
# Of the settings of multimask.
_ALWAYS = "always"


@dataclass(frozen=True)
class PromptSettings:
    """Which prompts are made.

    Attributes:
        kinds: Of PROMPTS; masks of the first are the instances of the section.
        distortions_px: By how much each edge of a box is moved at most, ascending from 0.
        points: Points of the kind ``points``: the centre, and others drawn inside the object.
        multimask: Whether SAM proposes several masks: ``auto`` for a single point.
        seed: Of distortions and drawn points.
    """

    kinds: tuple[str, ...]
    distortions_px: tuple[float, ...]
    points: int
    multimask: str
    seed: int

    @classmethod
    def read(
        cls, prompts: str, distortions: str, *, points: int, multimask: str, seed: int
    ) -> "PromptSettings":
        """Reads the settings as they are typed.

        Args:
            prompts: Kinds, comma-separated.
            distortions: Numbers in px, comma-separated.
            points: See the class.
            multimask: See the class.
            seed: See the class.

        Raises:
            BenchError: If a kind is unknown, a distortion is none, or there is nothing to do.
        """
        kinds = tuple(dict.fromkeys(split_names(prompts)))
        for kind in kinds:
            if kind not in PROMPTS:
                raise unknown_name("prompt", kind, PROMPTS)
        if not kinds:
            raise BenchError(f"prompts must be some of {', '.join(PROMPTS)}, received {prompts!r}")
        return cls(kinds, _read_distortions(distortions), points, multimask, seed)

    @property
    def rounds(self) -> list[tuple[str, float]]:
        """Every kind with every distortion; without a box there is nothing to distort."""
        return [
            (kind, distortion_px)
            for kind in self.kinds
            for distortion_px in (self.distortions_px if makes_boxes(kind) else (0.0,))
        ]

    def has_multimask(self, kind: str) -> bool:
        """Whether SAM proposes several masks for a kind of prompt."""
        return kind in _AMBIGUOUS if self.multimask == AUTO else self.multimask == _ALWAYS


def settings_of(info: ModelInfo) -> PromptSettings | None:
    """How a model is prompted; None where it finds objects itself."""
    found = info.inference.get("prompts")
    if found is None:
        return None
    kinds, distortions = tuple(found["kinds"]), tuple(found["distortions_px"])
    return PromptSettings(**{**found, "kinds": kinds, "distortions_px": distortions})


def refuse_without_truth(info: ModelInfo, path: Path) -> None:
    """Raises BenchError where a model is prompted: it has no prompts without annotation."""
    if settings_of(info):
        raise BenchError(
            f"a model that is prompted by annotated objects (oracle) finds none by itself, "
            f"received {path}: make one with microsam mode=zero_shot or mode=finetune"
        )


def _read_distortions(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in split_names(text))
    except ValueError:
        found = ()
    if not found or not all(0 <= value < np.inf for value in found):
        raise BenchError(
            "box_distortions_px must be numbers of at least 0, separated by commas, received "
            f"{text!r}: give 0,2,4"
        )
    # The box as it is annotated comes first: metrics are of that one.
    return tuple(sorted({0.0, *found}))


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """An annotated object, and what its prompts are made of.

    Attributes:
        id: Its id in the section.
        box: x0, y0, x1, y1 in px, the end excluded.
        points: Points (number, 2) inside the object, x and y; the first is the farthest from its
            border.
        shifts: By which share of a distortion each edge of the box is moved, -1 to 1.
    """

    id: int
    box: tuple[int, int, int, int]
    points: np.ndarray
    shifts: np.ndarray

    def distorted_box(self, distortion_px: float, shape: tuple[int, ...]) -> np.ndarray:
        """The box with every edge moved by up to ``distortion_px``, within the section.

        The same edges move the same way at every distortion, so that a curve has no noise of its
        own. Edges that would meet or cross leave a pixel between them.

        Args:
            distortion_px: The most that an edge is moved.
            shape: Of the section (y, x).
        """
        moved = np.asarray(self.box) + distortion_px * self.shifts
        x0, y0 = np.minimum(moved[:2], moved[2:])
        x1, y1 = np.maximum(moved[:2], moved[2:])
        x0, y0 = max(0.0, min(x0, shape[1] - 1)), max(0.0, min(y0, shape[0] - 1))
        return np.array([x0, y0, min(max(x1, x0 + 1), shape[1]), min(max(y1, y0 + 1), shape[0])])


def list_objects(
    labels: np.ndarray, settings: PromptSettings, section: int
) -> list[PromptedObject]:
    """The annotated objects of a section, by ascending id.

    Args:
        labels: Instance ids (y, x), 0 background; all pixels of an id are one object.
        settings: How many points are drawn, and the seed.
        section: Number of the section, so that each has other distortions.
    """
    objects = []
    for region in regionprops(labels):
        rng = np.random.default_rng((settings.seed, section, int(region.label)))
        y0, x0, y1, x1 = region.bbox
        points = np.array((x0, y0)) + _choose_points(region.image, settings.points, rng)
        shifts = rng.uniform(-1, 1, 4)
        objects.append(PromptedObject(int(region.label), (x0, y0, x1, y1), points, shifts))
    return objects


def _choose_points(mask: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """The pixel of a mask that is farthest from its border, and others at random; x and y."""
    # Beyond the mask's box is background.
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    centre = np.unravel_index(int(depth.argmax()), mask.shape)
    inside = np.argwhere(mask)
    drawn = inside[rng.integers(len(inside), size=number - 1)]
    return np.concatenate([[centre], drawn])[:, ::-1]


def check_boxes(boxes: np.ndarray) -> None:
    """Raises BenchError where a box (number, 4) of x0, y0, x1, y1 has no area.

    SAM takes such a box, and what it returns means nothing.
    """
    empty = np.flatnonzero((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))
    if empty.size:
        x0, y0, x1, y1 = boxes[empty[0]].tolist()
        raise BenchError(
            f"a box must have an area, received x {x0:g} to {x1:g} and y {y0:g} to {y1:g}: give "
            "x0, y0, x1, y1 with the end beyond the start"
        )


def makes_boxes(kind: str) -> bool:
    """Whether a kind of prompt has a box."""
    return kind in _WITH_BOX


def count_points(kind: str, points: int) -> int:
    """How many of an object's points a kind of prompt has."""
    if kind not in _WITH_POINTS:
        return 0
    return points if kind == "points" else 1


def boxes_of(
    objects: Iterable[PromptedObject], distortion_px: float, shape: tuple[int, ...]
) -> np.ndarray:
    """The boxes (number, 4) of objects, each edge moved by up to a distortion."""
    return np.stack([each.distorted_box(distortion_px, shape) for each in objects])
