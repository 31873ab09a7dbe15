"""The class of an object: its place in the project tree, or else its title."""

import re
from dataclasses import dataclass

from bench.ingest.annotations.trakem2.parse import read_text

# Leaves of the tree and groups of them, which TrakEM2 names itself.
BASIC_TAGS = {
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
ROOT_TAG = "anything"
NUMBER_AT_END = re.compile(r"[\s_#.:-]*[0-9]+\s*$")


@dataclass(frozen=True)
class TreePlace:
    """A place in the project tree.

    Attributes:
        kind: The nearest tag of the user's from there up; None where there is none.
        title: The nearest title from there up; empty where there is none.
        profile_list: The number of the profile list that it is in; None outside of one.
    """

    kind: str | None = None
    title: str = ""
    profile_list: int | None = None


class ProjectTree:
    """The project tree, as its elements come by.

    Attributes:
        leaves: The place of each object, by its oid.
    """

    def __init__(self) -> None:
        self.leaves: dict[str, TreePlace] = {}
        self._open = [TreePlace()]
        self._profile_lists = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        above, basic = self._open[-1], tag.lower()
        kind, title, profile_list = above.kind, above.title, above.profile_list
        if basic == "profile_list":
            self._profile_lists += 1
            profile_list = self._profile_lists
        if basic not in BASIC_TAGS:
            kind = kind if basic == ROOT_TAG else tag
            title = read_text(attributes, "title") or title
        place = TreePlace(kind, title, profile_list)
        self._open.append(place)
        if "oid" in attributes:
            self.leaves[read_text(attributes, "oid")] = place

    def end(self) -> None:
        """An element ends."""
        self._open.pop()


def choose_kind(place: TreePlace | None, tag: str, title: str) -> str:
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
        name = NUMBER_AT_END.sub("", text).strip()
        if name and name.lower().replace(" ", "_") != tag:
            return name
    return tag
