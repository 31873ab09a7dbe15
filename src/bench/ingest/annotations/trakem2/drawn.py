"""The objects of a project with their classes and sections."""

from collections.abc import Iterable, Mapping

from bench.core.names import first_names
from bench.ingest.annotations.drawing import DrawnObject, Shape
from bench.ingest.annotations.trakem2.classes import ProjectTree, choose_kind
from bench.ingest.annotations.trakem2.elements import ProjectElements
from bench.ingest.annotations.trakem2.objects import ObjectElement

TITLE_CHARACTERS = 60


def build_objects(
    elements: ProjectElements, numbers: Mapping[str, int]
) -> tuple[tuple[DrawnObject, ...], tuple[str, ...]]:
    """Gives objects their class and sections, and says what was left out.

    Args:
        elements: The project.
        numbers: Numbers of the layers by their oid.
    """
    built, unplaced = [], []
    dropped = elements.objects.dropped
    for group in group_profiles(elements.objects.objects, elements.tree):
        first = group[0]
        shapes: dict[int, list[Shape]] = {}
        for layer, drawn in (pair for element in group for pair in element.shapes.items()):
            if layer in numbers:
                shapes.setdefault(numbers[layer], []).extend(drawn)
            else:
                dropped["areas in layers that the project does not have"] += len(drawn)
        if not shapes:
            continue
        place = elements.tree.leaves.get(first.oid)
        kind = choose_kind(place, first.tag, first.title)
        name = name_object(first)
        if place is None:
            unplaced.append(name)
        visible = any(element.visible for element in group)
        frozen = {number: tuple(drawn) for number, drawn in shapes.items()}
        built.append(DrawnObject(name, kind, frozen, visible))
    warnings = [f"left out: {count} {what}" for what, count in dropped.items()]
    hidden = sum(not item.visible for item in built)
    if hidden:
        warnings.append(f"{hidden} objects are hidden in TrakEM2; they count all the same")
    if unplaced:
        warnings.append(
            f"{len(unplaced)} objects are not in the project tree, so their titles are their "
            f"classes: {first_names(unplaced)}"
        )
    return tuple(built), tuple(warnings)


def group_profiles(
    objects: Iterable[ObjectElement], tree: ProjectTree
) -> Iterable[list[ObjectElement]]:
    """Joins the profiles of a list: they are one object, drawn in several layers."""
    groups: dict[object, list[ObjectElement]] = {}
    for element in objects:
        place = tree.leaves.get(element.oid) if element.tag == "profile" else None
        profile_list = place.profile_list if place is not None else None
        key = id(element) if profile_list is None else ("profile_list", profile_list)
        groups.setdefault(key, []).append(element)
    return groups.values()


def name_object(element: ObjectElement) -> str:
    """Names an object for messages, such as ``area_list 123 'vesicle 5'``."""
    title = f" {element.title[:TITLE_CHARACTERS]!r}" if element.title else ""
    part = f" part {element.part}" if element.part else ""
    return f"{element.tag} {element.oid[:TITLE_CHARACTERS]}{title}{part}"
