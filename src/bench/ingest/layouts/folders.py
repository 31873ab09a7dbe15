"""The folder tree of images: ``{train,val,test}/{raw,<structure>...}/*``, paired by file name."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names, natural_key, same_form
from bench.errors import BenchError, nearest_name
from bench.ingest.annotations.annotations import is_annotation
from bench.ingest.annotations.coco import is_coco
from bench.ingest.classes import RESERVED, ClassMap, parse_classes
from bench.ingest.foreign import find_foreign
from bench.ingest.images.formats import is_image, list_pages, stem_of
from bench.ingest.labels import (
    LabelFile,
    drawn_structures,
    label_by_class,
    label_structure,
    open_label_file,
)
from bench.ingest.layouts.layout import ANNOTATIONS, LAYOUT, RAW, find_groups, is_ignored
from bench.ingest.sources import SourceTree
from bench.ingest.tree import FoundImages, build_sections, build_tree, choose_taken
from bench.structures import STRUCTURES

# From which likeness on a name is perhaps a slip: vesicels is 0.88 like vesicles.
_SLIP = 0.85


def read_folder(config: PrepareConfig) -> SourceTree:
    """Lists the sections of a folder tree with their masks and splits; reads no pixels.

    Every folder beside ``raw`` is a structure of its name, but for ``annotations``, whose files
    say their classes themselves.

    With ``splits=auto`` the tree's folders train, val and test are the splits. With a rule, the
    sections of the whole tree are numbered from 0 in natural order of their names, and the tree
    may have no split folders.

    Args:
        config: Settings of prepare; input is the folder.

    Raises:
        BenchError: If the tree does not have the layout, raw images and masks do not pair up, a
            split is missing, or a structure is not in it.
    """
    classes = parse_classes(config.structures, config.ignore)
    return build_tree(*find_sections(config, classes), classes, config)


def find_sections(config: PrepareConfig, classes: ClassMap) -> tuple[FoundImages, tuple[str, ...]]:
    """Finds the sections of a folder tree with their masks, and the structures that are taken."""
    root = Path(config.input)
    found = FoundImages(root, [])
    groups = find_groups(root, classes)
    if all(folders.keys() == {RAW} for folders in groups.values()):
        raise BenchError(
            f"input must hold a folder of masks for a structure ({', '.join(STRUCTURES)} or any "
            f"other), received only raw: arrange images as {LAYOUT}"
        )
    for split, folders in groups.items():
        named = _name_folders(folders, classes)
        _add_split(found, split, named, classes, config)
    taken = {structure for section in found.sections for structure in section.labels}
    names = Counter(name for folders in groups.values() for name in folders)
    del names[RAW], names[ANNOTATIONS]
    found.warnings += _warn_of_slips(names, classes)
    return found, choose_taken(taken, found.kinds + names, classes, root)


def _name_folders(folders: dict[str, Path], classes: ClassMap) -> dict[str, Path]:
    """Returns folders by raw, annotations, or the structure that their names stand for."""
    named = {name: path for name, path in folders.items() if name in (RAW, ANNOTATIONS)}
    for name, path in folders.items():
        if name in (RAW, ANNOTATIONS):
            continue
        structure = _find_class(path, name, classes)
        if structure in named:
            raise BenchError(
                f"{path.parent} must hold one folder of {structure}, received "
                f"{named[structure].name} and {path.name}: remove one"
            )
        if structure:
            named[structure] = path
    return named


def _find_class(path: Path, name: str, classes: ClassMap) -> str:
    """The structure that a folder's name stands for; empty where it is not wanted."""
    try:
        return classes.find_folder(name) or ""
    except BenchError as error:
        raise BenchError(
            f"{path} must be named after a structure: {error}, or map it as in "
            f"-P 'structures=all,{name}=vesicles'"
        ) from error


def _warn_of_slips(names: Iterable[str], classes: ClassMap) -> list[str]:
    known = [name for row in STRUCTURES.values() for name in (row.name, *row.aliases)]
    nearest = {
        name: nearest_name(name, known, _SLIP)
        for name in names
        if classes.everything and not classes.find(name)
    }
    return [
        f"folder {name} is a structure of its own: if {meant} is meant, rename it, or give "
        f"-P structures=all,{name}={meant}"
        for name, meant in nearest.items()
        if meant
    ]


def _add_split(
    found: FoundImages,
    split: str,
    folders: dict[str, Path],
    classes: ClassMap,
    config: PrepareConfig,
) -> None:
    """Pairs the raw images of a split folder with their annotation by file stem, and adds them."""
    raw = list_images(folders[RAW], "raw images", is_image)
    masks = {
        name: list_images(path, "masks", _is_mask)
        for name, path in folders.items()
        if name not in (RAW, ANNOTATIONS)
    }
    masks = {
        structure: pair_by_name(folders[structure], raw, files, some=structure in RESERVED)
        for structure, files in masks.items()
    }
    by_class = _pair_annotations(found.root, folders.get(ANNOTATIONS), raw, config)
    drawn = drawn_structures((file for files in by_class.values() for file in files), classes)
    for stem in sorted(raw, key=natural_key):
        pages = list_pages(found.root, raw[stem])
        labels = label_by_class(by_class.get(stem, []), found.root, pages, classes, drawn)
        for structure, files in masks.items():
            if stem not in files:
                continue
            file = open_label_file(found.root, files[stem], raw[stem], structure, config=config)
            label_structure(labels, structure, file, found.root, pages, classes)
        region = _name_volume(split, stem) if len(pages) > 1 else ""
        found.sections += build_sections(stem, pages, labels.pages, split=split, region=region)
        found.kinds += labels.kinds
        found.painted += labels.painted
        found.warnings += labels.warnings
        found.section_nm = found.section_nm or pages[0].header.section_nm


def _name_volume(split: str, stem: str) -> str:
    """The region of a stack; stacks of one name in two split folders are two."""
    return f"{split}-{stem}" if split else stem


def _pair_annotations(
    root: Path, folder: Path | None, raw: dict[str, Path], config: PrepareConfig
) -> dict[str, list[LabelFile]]:
    """The files of a folder ``annotations``, which hold several classes, by image."""
    if folder is None:
        return {}
    files = list_images(folder, "annotation files", _is_mask)
    coco = [path for path in files.values() if path.suffix.lower() == ".json" and is_coco(path)]
    if coco:
        return {
            stem: [open_label_file(root, path, image, config=config) for path in coco]
            for stem, image in raw.items()
        }
    files = pair_by_name(folder, raw, files)
    return {stem: [open_label_file(root, files[stem], raw[stem], config=config)] for stem in raw}


def _is_mask(path: Path) -> bool:
    return is_image(path) or is_annotation(path)


def list_images(
    folder: Path, what: str, accepts: Callable[[Path], bool], leave: Collection[Path] = ()
) -> dict[str, Path]:
    """Returns the files of a folder by stem; anything else in it is an error.

    Args:
        folder: The folder.
        what: What it should hold, for messages.
        accepts: Whether a path is that.
        leave: What is meant for others.
    """
    images: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_ignored(path) or path in leave:
            continue
        if not accepts(path):
            foreign = find_foreign(path)
            kind = f" ({foreign.name})" if foreign else ""
            remedy = foreign.remedy if foreign else "convert it without loss, or move it away"
            raise BenchError(
                f"{folder} must hold {what} of known formats (PNG, TIFF, JPEG, MRC, NIfTI, HDF5, "
                f"Zarr) only, received {path.name}{kind}: {remedy}"
            )
        stem = stem_of(path)
        other = seen.setdefault(same_form(stem), path)
        if other != path:
            raise BenchError(
                f"{folder} must hold one file per name, received {other.name} and {path.name}: "
                "remove one"
            )
        images[stem] = path
    if not images:
        raise BenchError(f"{folder} must hold {what}, received none: add or remove it")
    return images


def pair_by_name(
    folder: Path, raw: dict[str, Path], masks: dict[str, Path], *, some: bool = False
) -> dict[str, Path]:
    """Returns the masks by the names of their raw images, whatever form of Unicode they have.

    Args:
        folder: The folder of masks, for messages.
        raw: Raw images by name.
        masks: Masks by name.
        some: Whether raw images may be without one.

    Raises:
        BenchError: If there is not one for the other.
    """
    spelt = {same_form(stem): stem for stem in raw}
    masks = {spelt.get(same_form(stem), stem): path for stem, path in masks.items()}
    without_mask = [] if some else [stem for stem in raw if stem not in masks]
    without_raw = [stem for stem in masks if stem not in raw]
    if not without_mask and not without_raw:
        return masks
    received = []
    if without_mask:
        received.append(f"no mask for {first_names(without_mask)}")
    if without_raw:
        received.append(f"no raw image for {first_names(without_raw)}")
    raise BenchError(
        f"every raw image must have a mask of its name in {folder}, received "
        f"{' and '.join(received)}: add the files (an empty mask where there is nothing) or "
        "rename them"
    )
