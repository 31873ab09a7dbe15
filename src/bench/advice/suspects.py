"""Objects of an annotation against what models say that never saw the section.

A doubt is the share of an object on which annotation and models disagree, weighted by how sure the
models are: 0 where they say the same, 1 where they are certain of the opposite. For an object that
is drawn well it is what its outline costs; one that was drawn elsewhere, or is not there, has more.

Confident learning (Northcutt et al. 2021, Journal of Artificial Intelligence Research 70) asks this
of the class of an image, ObjectLab (Tkachenko et al. 2023) of boxes; here it is asked of outlines.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bench.core.names import natural_key
from bench.metrics.curves import TOP_LEVEL

MISSING_OBJECT, EXTRA_OBJECT, BADLY_DRAWN = "missing", "extra", "badly_drawn"
SUSPECT_KINDS = (MISSING_OBJECT, EXTRA_OBJECT, BADLY_DRAWN)
_HALF = 0.5
# Pieces that are so near to an object touch it.
_TOUCH_PX = 2
# A smaller share of an annotated object is foreground of the models: it is extra, not badly drawn.
_EXTRA_SHARE = 0.25
# What models find beside an object that they agree with less than this belongs to that object: it
# was drawn at the wrong place. Beside others it is an object by itself.
_AGREEING = 0.6
# What is found is opened by this share of the usual radius: a rim around an object is no object.
_OPENING_SHARE = 0.3
# Of the usual area: what is smaller is no object, and what is half as large is fully one.
_SMALLEST_SHARE, _WHOLE_SHARE = 0.1, 0.5
# An object that reaches over so much of a section, and fills so little of its box, is a network,
# such as membrane: it is judged in squares, of this share of the section's shorter side.
_NETWORK_REACH, _NETWORK_FILL, _SQUARE_SHARE = 0.5, 0.5, 1 / 8


@dataclass(frozen=True, eq=False)
class Suspect:
    """An object of a section, annotated or found.

    Attributes:
        section: Name of the section.
        kind: One of SUSPECT_KINDS: what would be wrong with it.
        doubt: From 0, nothing, to 1.
        corner: Row and column of its box's first corner, in px.
        mask: Its pixels in the box (y, x): those that models find, of an extra one the annotated.
        id: Its id in the annotation; 0 of one that is missing there.
        agreement: Share of the annotated object that models find too; 0 of a missing one.
    """

    section: str
    kind: str
    doubt: float
    corner: tuple[int, int]
    mask: np.ndarray
    id: int
    agreement: float

    @property
    def area_px(self) -> int:
        """Its pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of its centre of mass in the section, in px."""
        rows, columns = np.nonzero(self.mask)
        return self.corner[0] + float(rows.mean()), self.corner[1] + float(columns.mean())


def usual_area(label_images: Sequence[np.ndarray]) -> float:
    """The median area in px of the objects of some sections, networks cut into squares.

    Args:
        label_images: Instance ids (y, x).

    Returns:
        1 where there is no object.
    """
    areas = [np.bincount(_cut_networks(labels)[0].ravel())[1:] for labels in label_images]
    found = np.concatenate(areas) if areas else np.empty(0)
    return float(np.median(found[found > 0])) if found.any() else 1.0


def _cut_networks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers objects from 1 on, and cuts those that reach through a section into squares.

    Args:
        labels: Instance ids (y, x).

    Returns:
        The new ids (y, x), and by these the ids that there were.
    """
    ids, numbered = np.unique(labels, return_inverse=True)
    numbered = numbered.reshape(labels.shape).astype(np.int32)
    if ids[0] != 0:
        ids, numbered = np.concatenate([[0], ids]), numbered + 1
    side = max(1, round(_SQUARE_SHARE * min(labels.shape)))
    origin = [int(each) for each in ids]
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        mask = numbered[box] == number
        reach = [edge / whole for edge, whole in zip(mask.shape, labels.shape, strict=True)]
        if min(reach) < _NETWORK_REACH or mask.mean() > _NETWORK_FILL:
            continue
        for row in range(0, mask.shape[0], side):
            for column in range(0, mask.shape[1], side):
                square = np.s_[row : row + side, column : column + side]
                if (row, column) != (0, 0) and mask[square].any():
                    numbered[box][square][mask[square]] = len(origin)
                    origin.append(origin[number])
    return numbered, np.array(origin)


def judge_section(
    section: str,
    *,
    labels: np.ndarray,
    probability: np.ndarray,
    ignored: np.ndarray | None,
    usual_area_px: float,
) -> list[Suspect]:
    """Judges every object of a section, and every one that models find beside them.

    Args:
        section: Its name.
        labels: Instance ids of the annotation (y, x).
        probability: What models say, (y, x) uint8, round(255 p).
        ignored: Where nobody annotated, bool (y, x); None where all is annotated.
        usual_area_px: Area of a usual object.
    """
    inside = np.ones(labels.shape, bool) if ignored is None else ~ignored
    chance = probability.astype(np.float32) / TOP_LEVEL * inside
    drawn, ids = _cut_networks(np.where(inside, labels, 0))
    agreements = _means(drawn, chance >= _HALF)
    found = _find_loose(drawn, chance, usual_area_px)
    owners = _find_owners(found, drawn, agreements)
    # Strokes that were drawn beside an object count for it: pixels by the object that they are of.
    belongs = np.where(drawn > 0, drawn, owners[found])
    doubts = _means(belongs, np.where(drawn > 0, 1 - chance, chance))
    missing = np.where(owners[found] == 0, found, 0)
    return [
        *_list_missing(section, missing, chance, usual_area_px),
        *_list_drawn(section, belongs, drawn, chance, ids, doubts, agreements),
    ]


def _means(numbered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of values (y, x) over the pixels of each number, from 0 on; 0 where it has none."""
    sums = np.bincount(numbered.ravel(), values.ravel())
    return np.asarray(sums / np.maximum(np.bincount(numbered.ravel()), 1))


def _find_loose(drawn: np.ndarray, chance: np.ndarray, usual_area_px: float) -> np.ndarray:
    """Numbers what models find outside of drawn objects, and is large enough to be one."""
    loose = (chance >= _HALF) & (drawn == 0)
    radius = _OPENING_SHARE * math.sqrt(usual_area_px / math.pi)
    # An opening by a disk of any radius: what lies within it of what it leaves of the inside.
    kept = ndimage.distance_transform_edt(loose) > radius
    opened = loose & (ndimage.distance_transform_edt(~kept) <= radius) & kept.any()
    numbered, _ = ndimage.label(opened)
    areas = np.bincount(numbered.ravel())
    small = areas < max(1.0, _SMALLEST_SHARE * usual_area_px)
    small[0] = True
    renumbered = np.where(small, 0, np.cumsum(~small))
    return np.asarray(renumbered[numbered])


def _find_owners(found: np.ndarray, drawn: np.ndarray, agreements: np.ndarray) -> np.ndarray:
    """The drawn object that each found piece belongs to, by its number; 0 of what is by itself."""
    owners = np.zeros(int(found.max()) + 1, dtype=drawn.dtype)
    for number, box in enumerate(ndimage.find_objects(found), start=1):
        wide = tuple(slice(max(0, side.start - _TOUCH_PX), side.stop + _TOUCH_PX) for side in box)
        piece = ndimage.binary_dilation(found[wide] == number, iterations=_TOUCH_PX)
        touched = np.unique(drawn[wide][piece])
        doubtful = [each for each in touched if each and agreements[each] < _AGREEING]
        owners[number] = min(doubtful, key=lambda each: agreements[each], default=0)
    return owners


def _list_missing(
    section: str, missing: np.ndarray, chance: np.ndarray, usual_area_px: float
) -> Iterator[Suspect]:
    doubts = _means(missing, chance)
    for number, box in enumerate(ndimage.find_objects(missing), start=1):
        if box is None:
            continue
        mask = missing[box] == number
        whole = min(1.0, np.count_nonzero(mask) / (_WHOLE_SHARE * usual_area_px))
        doubt = float(doubts[number] * math.sqrt(whole))
        yield Suspect(section, MISSING_OBJECT, doubt, _corner(box), mask, 0, 0.0)


def _list_drawn(
    section: str,
    belongs: np.ndarray,
    drawn: np.ndarray,
    chance: np.ndarray,
    ids: np.ndarray,
    doubts: np.ndarray,
    agreements: np.ndarray,
) -> Iterator[Suspect]:
    for number, box in enumerate(ndimage.find_objects(belongs), start=1):
        if box is None:
            continue
        extra = (
            agreements[number] < _EXTRA_SHARE
            and not (belongs[box] == number)[drawn[box] == 0].any()
        )
        mask = drawn[box] == number if extra else belongs[box] == number
        if not extra:
            mask &= chance[box] >= _HALF
        kind = EXTRA_OBJECT if extra else BADLY_DRAWN
        agreement = float(agreements[number])
        doubt = float(doubts[number])
        yield Suspect(section, kind, doubt, _corner(box), mask, int(ids[number]), agreement)


def _corner(box: tuple[slice, ...]) -> tuple[int, int]:
    return box[0].start, box[1].start


def rank_suspects(suspects: Iterable[Suspect]) -> list[Suspect]:
    """The most doubtful first; of equal ones those of earlier sections, and further up."""
    return sorted(suspects, key=lambda each: (-each.doubt, natural_key(each.section), each.corner))
