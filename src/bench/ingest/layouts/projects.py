"""A TrakEM2 project as sections: crops of its annotated regions, and its montages."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names
from bench.dataset.prepared import NO_SPLIT, UNLABELLED
from bench.errors import BenchError
from bench.ingest.annotations.annotations import drawn_image
from bench.ingest.annotations.drawing import DrawnObject
from bench.ingest.annotations.trakem2.layers import read_layer
from bench.ingest.annotations.trakem2.placing import Layer, check_image
from bench.ingest.annotations.trakem2.project import TrakEM2Project, read_project
from bench.ingest.annotations.trakem2.regions import Region, find_regions
from bench.ingest.classes import RESERVED, UNANNOTATED, parse_classes
from bench.ingest.images.headers import ImageHeader
from bench.ingest.sources import SourceImage, SourceSection, SourceTree
from bench.ingest.tree import FoundImages, build_tree
from bench.structures import split_names
from bench.words import AUTO

_SUFFIXES = (".xml", ".xml.gz")
_TITLE_CHARACTERS = 60


def is_project(path: Path) -> bool:
    """Whether a path looks like a TrakEM2 project."""
    return path.name.lower().endswith(_SUFFIXES) and path.is_file()


def read_project_tree(config: PrepareConfig, path: Path) -> SourceTree:
    """Lists the annotated regions of a project, section by section; reads no pixels.

    Args:
        config: Settings of prepare.
        path: The project file.

    Raises:
        BenchError: If it cannot be read, holds no structure, or no image where one is drawn.
    """
    if config.rows != AUTO:
        raise BenchError(
            f"rows must be auto for a TrakEM2 project, which places images and annotation itself, "
            f"received {config.rows}: leave rows out"
        )
    roots = () if config.roots == "none" else tuple(map(Path, split_names(config.roots)))
    project = read_project(path, roots)
    classes = parse_classes(config.structures, config.ignore)
    classed = [(classes.class_of(item.kind, item.title), item) for item in project.objects]
    kinds = Counter(kind for kind, _ in classed)
    structures = classes.choose(kinds, str(path))
    named = {kind: classes.find(kind) for kind in kinds}
    objects = {
        name: [item for kind, item in classed if named[kind] == name]
        for name in (*structures, *(name for name in RESERVED if name in named.values()))
    }
    # What is left open is no reason to look at a place.
    taken = [item for name, items in objects.items() if name != UNANNOTATED for item in items]
    regions, lost = _leave_out_lost(project, find_regions(project, taken, config.margin_px))
    found = FoundImages(
        path.parent,
        [
            _cut_section(project, region, f"region{number}", layer, objects)
            for number, region in enumerate(regions)
            for layer in region.layers
        ],
        kinds=kinds,
        warnings=[*project.warnings, *lost],
        section_nm=project.section_nm,
    )
    try:
        tree = build_tree(found, structures, classes, config)
    except BenchError as error:
        raise BenchError("; ".join((str(error), *lost))) from error
    montages, warnings = _choose_montages(project, regions, tree)
    return replace(tree, unlabelled=montages, warnings=(*tree.warnings, *warnings))


def _leave_out_lost(
    project: TrakEM2Project, regions: Sequence[Region]
) -> tuple[list[Region], tuple[str, ...]]:
    """Leaves out layers without an image, as of a lost section, and says which have annotation."""
    drawn = sorted({layer for region in regions for layer in region.layers})
    lost = [layer for layer in drawn if not project.layers[layer].patches]
    if not lost:
        return list(regions), ()
    names = first_names([_name_layer(project.layers[layer]) for layer in lost])
    if lost == drawn:
        raise BenchError(
            f"layers of {project.path} must have an image where something is drawn, received "
            f"none in {names}: lay the images into them in TrakEM2, and save the project again"
        )
    kept = [
        replace(region, layers=layers)
        for region in regions
        if (layers := tuple(layer for layer in region.layers if layer not in lost))
    ]
    return kept, (
        f"layers of {project.path.name} without an image are left out with what is drawn in "
        f"them: {names}: lay the images into them if they are not lost",
    )


def _name_layer(layer: Layer) -> str:
    title = f" {layer.title[:_TITLE_CHARACTERS]!r}" if layer.title else ""
    return f"layer {layer.number}{title}"


def _cut_section(
    project: TrakEM2Project,
    region: Region,
    name: str,
    layer: int,
    objects: dict[str, list[DrawnObject]],
) -> SourceSection:
    shape = (region.height, region.width)
    drawn_in = {project.path.name: project.path}
    window = (region.top, region.left, region.height, region.width)
    labels = {
        structure: drawn_image(items, layer, shape, (region.left, region.top), drawn_in)
        for structure, items in objects.items()
    }
    raw = _layer_image(project, layer, window)
    return SourceSection(NO_SPLIT, f"{name}_section{layer:03}", raw, labels, name, layer)


def _layer_image(
    project: TrakEM2Project, layer: int, window: tuple[int, int, int, int]
) -> SourceImage:
    """A window (top, left, height, width) of a layer; paths are of the first root that has them."""
    files = {}
    for patch in project.layers[layer].patches:
        path = check_image(patch, project.roots, project.path)
        root = next(root for root in project.roots if path.is_relative_to(root))
        files[path.relative_to(root).as_posix()] = path
    header = ImageHeader(window[2:], 1, project.pixel_sides_nm, project.section_nm)
    return SourceImage(files, layer, header, partial(read_layer, project, layer, *window))


def _choose_montages(
    project: TrakEM2Project, regions: Sequence[Region], tree: SourceTree
) -> tuple[tuple[SourceSection, ...], tuple[str, ...]]:
    """The whole layers as unlabelled images, but for those that validation or test looks at."""
    judged = {section.number for section in tree.sections if section.split != "train"}
    numbers = [layer.number for layer in project.layers if layer.patches]
    kept = [number for number in numbers if number not in judged]
    whole = (0, 0, *project.size)
    montages = tuple(
        SourceSection(
            UNLABELLED, f"layer{number:03}", _layer_image(project, number, whole), {}, "", number
        )
        for number in kept
    )
    left_out = [str(number) for number in numbers if number in judged]
    if not left_out:
        return montages, ()
    return montages, (
        f"montages of {len(left_out)} layers are no data for adaptation, because validation or "
        f"test regions lie in them: {first_names(left_out)}",
    )
