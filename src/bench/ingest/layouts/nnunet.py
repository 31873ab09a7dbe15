"""The layout of nnU-Net: ``imagesTr``, ``labelsTr`` and ``dataset.json``, as nnU-Net reads it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.config.data import PrepareConfig
from bench.core.names import first_names, natural_key
from bench.dataset.prepared import NO_SPLIT
from bench.errors import BenchError
from bench.ingest.classes import RESERVED, UNANNOTATED, ClassMap, parse_classes, tidy_name
from bench.ingest.images.formats import is_image, list_pages
from bench.ingest.images.headers import decode
from bench.ingest.labels import label_by_class, open_label_file
from bench.ingest.layouts.folders import list_images, pair_by_name
from bench.ingest.layouts.layout import visible_folders
from bench.ingest.sources import SourceTree
from bench.ingest.tree import FoundImages, build_sections, build_tree, choose_taken
from bench.words import AUTO

_DESCRIPTION = "dataset.json"
_BACKGROUND, _IGNORE = "background", "ignore"
_CHANNEL = re.compile(r"(.+)_([0-9]{4})")
_LARGEST_DESCRIPTION = 16 * 2**20


@dataclass(frozen=True)
class _Description:
    """What ``dataset.json`` says.

    Attributes:
        labels: The values of each label; a region has several.
        channels: Names of the channels by number.
    """

    labels: Mapping[str, tuple[int, ...]]
    channels: Mapping[int, str]


def read_nnunet(config: PrepareConfig, root: Path) -> SourceTree:
    """Lists the cases of a data set with their labels; reads no pixels without need.

    The labels of ``dataset.json`` are the classes, unless values are mapped by the option
    structures. Cases of ``labelsTs`` are test, whatever the rule of splits.

    Args:
        config: Settings of prepare.
        root: The folder.

    Raises:
        BenchError: If files do not pair up or cannot be read, or if labels are not clear.
    """
    classes = parse_classes(config.structures, config.ignore)
    description = _read_description(root / _DESCRIPTION)
    mapped = any(p.isdecimal() and name not in RESERVED for p, name in classes.rules)
    if description.labels and not mapped:
        classes = _map_values(description, classes, root)
    folders = visible_folders(root)
    found = FoundImages(root, [])
    for part, split in (("tr", NO_SPLIT), ("ts", "test")):
        images, labels = folders.get(f"images{part}"), folders.get(f"labels{part}")
        if images and labels and any(labels.iterdir()):
            cases = _list_cases(images, labels, description, config)
            _add_cases(found, cases, labels, classes, split, config)
        elif images:
            found.warnings.append(f"images of {images.name} are left out: they have no labels")
    sections = [*found.sections, *found.held]
    taken = {structure for section in sections for structure in section.labels}
    return build_tree(found, choose_taken(taken, found.kinds, classes, root), classes, config)


def _read_description(path: Path) -> _Description:
    if not path.is_file():
        return _Description({}, {})
    if path.stat().st_size > _LARGEST_DESCRIPTION:
        raise BenchError(f"{path} must be a description of nnU-Net, received a far larger file")
    content = decode(path, lambda file: json.loads(file.read_bytes()), "JSON file")
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        raise BenchError(
            f"{path} must list labels as nnU-Net does, received none: add them, or remove the "
            "file and give -P structures=1=mitochondria"
        )
    named = content.get("channel_names") or content.get("modality") or {}
    channels = named.items() if isinstance(named, dict) else ()
    return _Description(
        dict(_read_label(path, key, value) for key, value in labels.items()),
        {int(key): tidy_name(str(name)) for key, name in channels if str(key).isdecimal()},
    )


def _read_label(path: Path, key: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """Reads a label, as version 2 (name: value) or version 1 (value: name) has it."""
    if key.isdecimal() and isinstance(value, str):
        key, value = value, int(key)
    values = value if isinstance(value, list) else [value]
    if not all(type(number) is int and number >= 0 for number in values):
        raise BenchError(
            f"labels of {path} must be whole numbers, received {tidy_name(repr(value))} for "
            f"{tidy_name(key)}: correct them"
        )
    return key, tuple(values)


def _map_values(description: _Description, classes: ClassMap, root: Path) -> ClassMap:
    """Returns the structures of values by the names of their labels."""
    rules: list[tuple[str, str]] = []
    for name, values in description.labels.items():
        if name.lower() in (_BACKGROUND, _IGNORE) or values == (0,):
            continue
        try:
            structure = classes.find_folder(name)
        except BenchError as error:
            raise BenchError(
                f"labels of {root / _DESCRIPTION} must be named after structures: {error}, or map "
                f"values as in -P structures={values[0]}=mitochondria"
            ) from error
        rules += [(str(value), structure) for value in values if structure]
    if not rules:
        names = first_names([tidy_name(name) for name in description.labels])
        raise BenchError(
            f"labels of {root / _DESCRIPTION} must have one for the structures wanted, received "
            f"{names}: map values as in -P structures=1=mitochondria"
        )
    # What nnU-Net leaves out of loss and scores is left out here.
    rules += [(str(value), UNANNOTATED) for value in description.labels.get(_IGNORE, ())]
    return replace(classes, rules=(*rules, *classes.rules))


def _list_cases(
    folder: Path, labels: Path, description: _Description, config: PrepareConfig
) -> dict[str, Path]:
    """Returns the images of a channel by case."""
    images = _list_files(folder, "images")
    if set(_list_files(labels, "labels")) <= set(images):
        return images
    channels: dict[int, dict[str, Path]] = {}
    for stem, path in images.items():
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            raise BenchError(
                f"images of {folder} must be named CASE_0000 for the label CASE, received "
                f"{path.name}: rename it"
            )
        channels.setdefault(int(match[2]), {})[match[1]] = path
    return channels[_choose_channel(folder, sorted(channels), description, config.raw_key)]


def _choose_channel(
    folder: Path, numbers: list[int], description: _Description, raw_key: str
) -> int:
    names = {number: description.channels.get(number, "") for number in numbers}
    if raw_key == AUTO and len(numbers) == 1:
        return numbers[0]
    for number, name in names.items():
        if (raw_key.isdecimal() and int(raw_key) == number) or raw_key == name:
            return number
    listed = ", ".join(
        f"{number} ({name})" if name else str(number) for number, name in names.items()
    )
    raise BenchError(
        f"images of {folder} must be one channel, received channels {listed}: name the one to "
        f"take, as in -P raw_key={numbers[0]}"
    )


def _list_files(folder: Path, what: str) -> dict[str, Path]:
    """Returns images by stem; nnU-Net notes the spacing of a TIFF in a .json of its name."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() == ".json"]
    return list_images(folder, what, is_image, leave=paths)


def _add_cases(
    found: FoundImages,
    images: dict[str, Path],
    labels: Path,
    classes: ClassMap,
    split: str,
    config: PrepareConfig,
) -> None:
    masks = pair_by_name(labels, images, _list_files(labels, "labels"))
    for case in sorted(images, key=natural_key):
        pages = list_pages(found.root, images[case])
        file = open_label_file(found.root, masks[case], images[case], config=config)
        read = label_by_class([file], found.root, pages, classes, ())
        region = case if len(pages) > 1 else ""
        sections = build_sections(case, pages, read.pages, split=split, region=region)
        (found.sections if split == NO_SPLIT else found.held).extend(sections)
        found.painted += read.painted
        found.warnings += read.warnings
        found.section_nm = found.section_nm or pages[0].header.section_nm
