"""The output folder of segment, corrected or not: its labels, and the images that they are of."""

import json
from pathlib import Path
from typing import Any

from bench.config.data import PrepareConfig
from bench.dataset.prepared import NO_SPLIT
from bench.errors import BenchError
from bench.ingest.classes import ClassMap, parse_classes
from bench.ingest.images.containers import read_container
from bench.ingest.layouts.folders import find_sections
from bench.ingest.layouts.layout import RAW, is_segmented
from bench.ingest.sources import SourceTree
from bench.ingest.tree import FoundImages, build_sections, build_tree, choose_taken
from bench.words import SEGMENTATION_FILE

_IMAGE = "image.ome.zarr"


def read_segmented(config: PrepareConfig) -> SourceTree:
    """Lists the sections of an output of segment; reads no pixels.

    Raises:
        BenchError: If the folder has no images, or they and their labels do not pair up.
    """
    classes = parse_classes(config.structures, config.ignore)
    return build_tree(*find_segmented(config, classes), classes, config)


def find_segmented(config: PrepareConfig, classes: ClassMap) -> tuple[FoundImages, tuple[str, ...]]:
    """Finds the sections of an output of segment, and the structures that are taken.

    Raises:
        BenchError: As `read_segmented`.
    """
    root = Path(config.input)
    section_nm = describe_segmented(root).get("section_nm")
    if (root / RAW).is_dir():
        found, structures = find_sections(config, classes)
        found.section_nm = found.section_nm or section_nm
        return found, structures
    found = FoundImages(root, [], section_nm=section_nm)
    for image in sorted(root.glob(f"*/{_IMAGE}")):
        read = read_container(root, image, classes, config.pixel_size_nm, config.raw_key)
        if read is not None:
            pages, labels = read
            name = image.parent.name
            region = name if len(pages) > 1 else ""
            found.sections += build_sections(
                name, pages, labels.pages, split=NO_SPLIT, region=region
            )
            found.painted += labels.painted
            found.warnings += labels.warnings
    if not found.sections:
        raise BenchError(
            f"{root} must hold the images beside the labels that segment made of them, received "
            "labels alone, as earlier versions wrote them: segment again, to another output"
        )
    taken = {structure for section in found.sections for structure in section.labels}
    return found, choose_taken(taken, found.kinds, classes, root)


def describe_segmented(root: Path) -> dict[str, Any]:
    """Reads what segment says of its output.

    Raises:
        BenchError: If the folder is no such output.
    """
    if not is_segmented(root):
        state = "a folder without it" if root.is_dir() else "no such folder"
        raise BenchError(
            f"{root.absolute()} must be an output of segment with its {SEGMENTATION_FILE}, "
            f"received {state}: correct the path"
        )
    path = root / SEGMENTATION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} must be readable JSON, received {error}: segment again"
        ) from error
    return content if isinstance(content, dict) else {}
