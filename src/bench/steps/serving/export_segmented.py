"""What segment wrote, corrected since or not, as the labels that an export is of."""

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.config.data import LabelsConfig, PrepareConfig
from bench.core.hashing import json_sha256, path_sha256
from bench.dataset.checks import read_instances
from bench.errors import BenchError
from bench.export.sphere_table import SPHERES_FILE, SphereRow, read_spheres
from bench.export.stack import VESICLES
from bench.ingest.classes import parse_classes
from bench.ingest.images.headers import BOTTOM_FIRST
from bench.ingest.layouts.segmented import describe_segmented, find_segmented
from bench.ingest.sources import SourceSection
from bench.steps.segmented_names import ORIGINS
from bench.steps.serving.export_subject import ExportImage, ExportSubject
from bench.structures import find_structures, order_structures
from bench.words import AUTO

_SEGMENTED = "segmented"
# The end of the name of a stack's section.
_PLANE = re.compile(r"_z[0-9]+$")


def export_segmented(config: LabelsConfig, folders: Mapping[Path, str]) -> ExportSubject:
    """What is in outputs of segment, of the same images and a structure each.

    Args:
        config: The settings.
        folders: The run of each output; empty where it is not known.

    Raises:
        BenchError: If a folder is no such output, or they do not fit together.
    """
    said = [describe_segmented(folder) for folder in folders]
    if len({str(one.get("images_sha256")) for one in said}) > 1:
        raise BenchError(
            f"segmentations that are exported together must be of the same images, received "
            f"others in {', '.join(map(str, folders))}: export them one by one"
        )
    sections = _join_sections(folders)
    there = order_structures(next(iter(sections.values())).labels)
    structures = there
    if config.structure != AUTO:
        structures = tuple(row.name for row in find_structures(config.structure, there))

    def numbering(name: str, structure: str) -> Hashable:
        """Labels of a volume are a file; single images are seen one by one."""
        return sections[name].labels[structure].file

    def read(name: str, structure: str) -> np.ndarray:
        mask = sections[name].labels[structure]
        return read_instances(mask.read(), mask.place, ids=True)[0]

    return ExportSubject(
        {name: _image_of(section, said[0]) for name, section in sections.items()},
        _SEGMENTED,
        structures,
        read,
        numbering,
        {"segmentation": _hash_files(sections, structures)} | _hash_tables(folders),
        section_nm=said[0].get("section_nm"),
        run_id=",".join(filter(None, folders.values())),
        method=str(said[0].get("method", "")),
        spheres=_read_tables(folders, said),
    )


def _join_sections(folders: Iterable[Path]) -> dict[str, SourceSection]:
    """The sections of all folders by name, each with the labels of all."""
    joined: dict[str, SourceSection] = {}
    for folder in folders:
        config = PrepareConfig(input=str(folder))
        found, _ = find_segmented(config, parse_classes(config.structures))
        for section in found.sections:
            before = joined.get(section.stem)
            labels = dict(before.labels) if before else {}
            if twice := sorted(labels.keys() & section.labels.keys()):
                raise BenchError(
                    f"each structure can be exported once, received several segmentations of "
                    f"{twice[0]} with {section.stem}: leave one out"
                )
            joined[section.stem] = replace(before or section, labels=labels | dict(section.labels))
    every = {structure for section in joined.values() for structure in section.labels}
    for section in joined.values():
        if missing := sorted(every - section.labels.keys()):
            raise BenchError(
                f"every image must have labels of {missing[0]}, received none for {section.stem}: "
                "segment the same images again, or export that structure alone"
            )
    return joined


def _image_of(section: SourceSection, said: Mapping[str, Any]) -> ExportImage:
    """Rows of what segment wrote begin at the top, as people see the image."""
    header = section.raw.header
    size_nm = header.pixel_sides_nm[0] if header.pixel_sides_nm else None
    said_nm = said.get(ORIGINS, {})
    stem = _PLANE.sub("", section.stem)
    origin_nm = header.origin_nm or said_nm.get(section.stem) or said_nm.get(stem)
    return ExportImage(
        header.shape,
        size_nm,
        header.rows == BOTTOM_FIRST,
        section.raw.read,
        stem if header.pages > 1 else "",
        tuple(origin_nm) if origin_nm else None,
    )


def _read_tables(
    folders: Iterable[Path], said: Iterable[Mapping[str, Any]]
) -> dict[str, list[SphereRow]]:
    """The spheres that lie beside the labels, by structure."""
    tables = {
        str(one.get("structure", VESICLES)): folder / SPHERES_FILE
        for folder, one in zip(folders, said, strict=True)
    }
    return {name: read_spheres(path) for name, path in tables.items() if path.is_file()}


def _hash_tables(folders: Iterable[Path]) -> dict[str, str]:
    """Hash of the spheres' tables; none where there is no such table."""
    tables = [folder / SPHERES_FILE for folder in folders if (folder / SPHERES_FILE).is_file()]
    return {"spheres": json_sha256([path_sha256(path) for path in tables])} if tables else {}


def _hash_files(sections: Mapping[str, SourceSection], structures: tuple[str, ...]) -> str:
    """Hash of the images and labels: what was corrected since is another export."""
    files = {
        (name, kind): path
        for name, section in sections.items()
        for kind, image in (("raw", section.raw), *((s, section.labels[s]) for s in structures))
        for path in image.files.values()
    }
    hashes = {path: path_sha256(path) for path in set(files.values())}
    return json_sha256([[name, kind, hashes[path]] for (name, kind), path in files.items()])
