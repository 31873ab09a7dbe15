"""Collects the objects that have areas: area lists, area trees, balls and profiles."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from bench.ingest.annotations.drawing import Outline, Shape
from bench.ingest.annotations.trakem2.geometry import (
    flatten_curve,
    parse_curve,
    parse_matrix,
    parse_number,
    parse_polygons,
    transform_disc,
    transform_points,
)
from bench.ingest.annotations.trakem2.parse import read_text

# Objects without an area: they are counted, and left out.
_LINES_AND_POINTS = frozenset(
    ("t2_connector", "t2_dissector", "t2_pipe", "t2_polyline", "t2_stack", "t2_treeline")
)
_OBJECTS = frozenset(("t2_area_list", "t2_areatree", "t2_ball", "t2_profile"))
# Some 300 MB. Curves are short to write, so the size of a file does not bound them.
_MOST_CURVE_CORNERS = 20_000_000


@dataclass(eq=False)
class ObjectElement:
    """An object as its element describes it.

    Attributes:
        tag: The element's name without ``t2_``.
        oid: Its id in the project.
        title: Its title.
        visible: Whether TrakEM2 shows it.
        matrix: From its coordinates to those of the layer set (2, 3).
        part: Which ball of several it is, from 1; 0 where it is no ball.
        shapes: What is drawn, by the oid of the layer.
    """

    tag: str
    oid: str
    title: str
    visible: bool
    matrix: np.ndarray
    part: int = 0
    shapes: dict[str, list[Shape]] = field(default_factory=dict)

    def add(self, layer: str, shape: Shape) -> None:
        """Adds what is drawn in a layer."""
        self.shapes.setdefault(layer, []).append(shape)


class ObjectElements:
    """The objects of a layer set, as their elements come by.

    Every ball counts as an object: a group of balls is drawn to mark many of a kind.

    Attributes:
        objects: The objects, in the order of the file.
        dropped: What was left out, by what it is, with the number of them.
    """

    def __init__(self) -> None:
        self.objects: list[ObjectElement] = []
        self.dropped: Counter[str] = Counter()
        self._current: ObjectElement | None = None
        self._nodes: list[str] = []
        self._area_layer = ""
        self._rings: list[np.ndarray] | None = None
        self._balls = 0
        self._curve_corners = 0

    def start(self, tag: str, attributes: dict[str, str], layer: str) -> None:
        """An element begins.

        Args:
            tag: Its name, in lower case.
            attributes: Its attributes.
            layer: The oid of the layer that it lies in; empty outside of layers.

        Raises:
            ValueError: If its numbers cannot be read.
        """
        if tag in _OBJECTS:
            self._start_object(tag, attributes, layer)
        elif tag in _LINES_AND_POINTS:
            self.dropped[f"objects of kind {tag.removeprefix('t2_')}, which has no area"] += 1
        elif self._current is None:
            return
        elif tag == "t2_path":
            self._add_path(attributes.get("d", ""))
        elif tag == "t2_area":
            self._rings = []
            node = self._nodes[-1] if self._nodes else ""
            self._area_layer = read_text(attributes, "layer_id") or node
        elif tag == "t2_node":
            self._nodes.append(read_text(attributes, "lid"))
        elif tag == "t2_ball_ob":
            self._add_ball(attributes)

    def end(self, tag: str) -> None:
        """An element ends."""
        current = self._current
        if current is None:
            return
        if tag == "t2_area":
            if self._rings:
                current.add(self._area_layer, Outline(tuple(self._rings)))
            self._rings = None
        elif tag == "t2_node" and self._nodes:
            self._nodes.pop()
        elif tag in _OBJECTS:
            if current.shapes:
                self.objects.append(current)
            elif not self._balls:
                self.dropped["objects without any area"] += 1
            self._current = None

    def name_element(self, tag: str, attributes: dict[str, str]) -> str:
        """Names an element for messages, by its object if it has no id."""
        oid = read_text(attributes, "oid")
        if self._current is None or oid:
            return f"{tag} {oid[:20]}".strip()
        return f"{tag} of {self._current.tag} {self._current.oid[:20]}"

    def _start_object(self, tag: str, attributes: dict[str, str], layer: str) -> None:
        self._current = ObjectElement(
            tag=tag.removeprefix("t2_"),
            oid=read_text(attributes, "oid"),
            title=read_text(attributes, "title"),
            visible=is_visible(attributes),
            matrix=parse_matrix(attributes.get("transform")),
        )
        self._nodes, self._rings, self._balls = [], None, 0
        if tag != "t2_profile" or "d" not in attributes:
            return
        segments = parse_curve(attributes["d"])
        if segments is None:
            self.dropped["profiles that are not closed"] += 1
            return
        points = transform_points(self._current.matrix, segments.reshape(-1, 2))
        corners = flatten_curve(points.reshape(segments.shape))
        self._count_corners(len(corners))
        self._current.add(layer, Outline((corners,)))

    def _add_path(self, text: str) -> None:
        if self._rings is None or self._current is None:
            return
        polygons, unclosed = parse_polygons(text)
        if unclosed:
            self.dropped["paths that are not closed"] += unclosed
        matrix = self._current.matrix
        self._rings += [transform_points(matrix, p) for p in polygons if len(p) > 2]

    def _add_ball(self, attributes: dict[str, str]) -> None:
        group = self._current
        if group is None or group.tag != "ball":
            return
        x, y, radius = (parse_number(attributes.get(name, "")) for name in ("x", "y", "r"))
        if radius <= 0:
            self.dropped["balls without a radius"] += 1
            return
        self._balls += 1
        ball = replace(group, part=self._balls, shapes={})
        shape = transform_disc(group.matrix, x, y, radius)
        if isinstance(shape, Outline):
            self._count_corners(len(shape.rings[0]))
        ball.add(read_text(attributes, "layer_id"), shape)
        self.objects.append(ball)

    def _count_corners(self, count: int) -> None:
        self._curve_corners += count
        if self._curve_corners > _MOST_CURVE_CORNERS:
            raise ValueError("curves of a human hand, received too many and too large ones")


def is_visible(attributes: dict[str, str]) -> bool:
    """Whether TrakEM2 shows what has these attributes; it says so only where it does not."""
    return attributes.get("visible", "true").strip().lower() == "true"
