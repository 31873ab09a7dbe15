"""Collects the layers, images and objects of a project from its elements."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.errors import BenchError
from bench.ingest.annotations.trakem2.geometry import parse_matrix, parse_number
from bench.ingest.annotations.trakem2.objects import ObjectElements
from bench.ingest.annotations.trakem2.parse import DEEPEST, read_text

# Leaves of the tree and groups of them, which TrakEM2 names itself.
_BASIC_TAGS = {
    "area_list",
    "areatree",
    "ball",
    "connector",
    "dissector",
    "label",
    "pipe",
    "polyline",
    "profile",
    "profile_list",
    "stack",
    "treeline",
}
# The root of an empty project; it says nothing of what hangs from it.
_ROOT_TAG = "anything"
_NUMBER_AT_END = re.compile(r"[\s_#.:-]*[0-9]+\s*$")


@dataclass(frozen=True)
class _TreePlace:
    """A place in the project tree: what is nearest from there up."""

    kind: str | None = None  # tag of the user's
    title: str = ""
    profile_list: int | None = None  # the number of the profile list that it is in


class ProjectTree:
    """The project tree, as its elements come by.

    Attributes:
        leaves: The place of each object, by its oid.
    """

    def __init__(self) -> None:
        self.leaves: dict[str, _TreePlace] = {}
        self._open = [_TreePlace()]
        self._profile_lists = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        above, basic = self._open[-1], tag.lower()
        kind, title, profile_list = above.kind, above.title, above.profile_list
        if basic == "profile_list":
            self._profile_lists += 1
            profile_list = self._profile_lists
        if basic not in _BASIC_TAGS:
            kind = kind if basic == _ROOT_TAG else tag
            title = read_text(attributes, "title") or title
        place = _TreePlace(kind, title, profile_list)
        self._open.append(place)
        if "oid" in attributes:
            self.leaves[read_text(attributes, "oid")] = place

    def end(self) -> None:
        """An element ends."""
        self._open.pop()


def choose_kind(place: _TreePlace | None, tag: str, title: str) -> str:
    """Chooses the class of an object.

    Titles are a fallback: the object's own, then the nearest in the tree. Without its number
    ``vesicle 12`` is a class.

    Args:
        place: Its place in the tree; None where it has none.
        tag: Its element's name, such as ``area_list``.
        title: Its title.
    """
    if place is not None and place.kind:
        return place.kind
    for text in (title, place.title if place is not None else ""):
        name = _NUMBER_AT_END.sub("", text).strip()
        if name and name.lower().replace(" ", "_") != tag:
            return name
    return tag


@dataclass(eq=False)
class PatchElement:
    """An image laid into a layer.

    Attributes:
        attributes: Those of its element.
        matrix: From its pixels to the layer set (2, 3).
        bent: Whether it has a non-linear transform besides.
        changed: What TrakEM2 does to its pixels for display that their file does not show.
    """

    attributes: dict[str, str]
    matrix: np.ndarray
    bent: bool
    changed: list[str]


@dataclass(eq=False)
class LayerElement:
    """A layer.

    Attributes:
        oid: Its id in the project.
        z_px: Its depth.
        thickness_px: Its thickness.
        title: Its title.
        patches: Its images, the undermost first.
    """

    oid: str
    z_px: float
    thickness_px: float
    title: str
    patches: list[PatchElement] = field(default_factory=list)


class ProjectElements:
    """What the parser tells of a project.

    Only the first layer set counts: those in its layers have a scale and depth of their own.

    Attributes:
        path: The file, for messages.
        tree: The project tree.
        layer_set: Attributes of the layer set; None until it comes.
        calibration: Attributes of its calibration; empty without one.
        layers: Its layers, in the order of the file.
        objects: Its objects, and what of them was left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ProjectTree()
        self.layer_set: dict[str, str] | None = None
        self.calibration: dict[str, str] = {}
        self.layers: list[LayerElement] = []
        self.objects = ObjectElements()
        self._depth = 0
        self._tree_depth = 0
        self._other_sets = 0
        self._layer: LayerElement | None = None
        self._patch: PatchElement | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins.

        Raises:
            BenchError: If it is not of a project, nests too deep or holds what cannot be read.
        """
        self._depth += 1
        name = tag.lower()
        if self._depth == 1 and name != "trakem2":
            raise BenchError(
                f"{self.path} must be a TrakEM2 project, whose outermost element is trakem2, "
                f"received {tag[:40]}: choose the file that TrakEM2 saved"
            )
        if self._depth > DEEPEST:
            raise BenchError(
                f"elements of {self.path} must nest at most {DEEPEST} deep, received more: open "
                "it in TrakEM2 and split its longest tree"
            )
        if self._tree_depth:
            self.tree.start(tag, attributes)
        elif name == "project":
            self._tree_depth = self._depth
        else:
            try:
                self._start_drawing(name, attributes)
            except ValueError as error:
                raise BenchError(
                    f"{self.objects.name_element(tag, attributes)} in {self.path} must hold "
                    f"{error}: draw it again in TrakEM2, or delete it there"
                ) from error

    def end(self, tag: str) -> None:
        """An element ends."""
        name = tag.lower()
        self._depth -= 1
        if self._tree_depth > self._depth:
            self._tree_depth = 0
        elif self._tree_depth:
            self.tree.end()
        elif self._other_sets:
            self._other_sets -= name == "t2_layer_set"
        elif name == "t2_layer":
            self._layer = None
        elif name == "t2_patch":
            self._patch = None
        else:
            self.objects.end(name)

    def _start_drawing(self, name: str, attributes: dict[str, str]) -> None:
        if name == "t2_layer_set":
            if self.layer_set is None:
                self.layer_set = attributes
            else:
                self._other_sets += 1
                self.objects.dropped["layer sets within layers, with all they hold"] += 1
        elif self._other_sets or self.layer_set is None:
            return
        elif name == "t2_calibration":
            self.calibration = attributes
        elif name == "t2_layer":
            self._layer = LayerElement(
                oid=read_text(attributes, "oid"),
                z_px=parse_number(attributes.get("z", "0")),
                thickness_px=parse_number(attributes.get("thickness", "0")),
                title=read_text(attributes, "title"),
            )
            self.layers.append(self._layer)
        elif name == "t2_patch" and self._layer is not None:
            self._patch = _describe_patch(attributes)
            self._layer.patches.append(self._patch)
        elif self._patch is not None:
            self._patch.bent |= name.startswith(("ict_transform", "iict_transform"))
            if name == "t2_filter":
                self._patch.changed.append("filters")
        else:
            layer = self._layer.oid if self._layer is not None else ""
            self.objects.start(name, attributes, layer)


def _describe_patch(attributes: dict[str, str]) -> PatchElement:
    named = {"alpha_mask_id": "an alpha mask", "pps": "a script"}
    return PatchElement(
        attributes=attributes,
        matrix=parse_matrix(attributes.get("transform")),
        bent=_is_set(attributes, "ct_id"),
        changed=[words for name, words in named.items() if _is_set(attributes, name)],
    )


def _is_set(attributes: dict[str, str], name: str) -> bool:
    """Whether an attribute refers to something; 0 refers to nothing."""
    return read_text(attributes, name) not in ("", "0")
