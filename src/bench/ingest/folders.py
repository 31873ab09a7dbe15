"""The folder tree of images: ``{train,val,test}/{raw,<structure>...}/*``, paired by file name."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names, natural_key
from bench.dataset.prepared import NO_SPLIT, SPLITS
from bench.errors import BenchError, nearest_name
from bench.ingest.annotations.annotations import is_annotation
from bench.ingest.annotations.coco import is_coco
from bench.ingest.classes import ClassMap, parse_classes
from bench.ingest.images.formats import is_image, list_pages, stem_of
from bench.ingest.labels import (
    LabelFile,
    drawn_structures,
    label_by_class,
    label_structure,
    open_label_file,
)
from bench.ingest.sources import SourceTree
from bench.ingest.tree import FoundImages, build_sections, build_tree, choose_taken
from bench.structures import STRUCTURES

# The folder of files that annotate several structures.
_ANNOTATIONS = "annotations"
# From which likeness on a name is perhaps a slip: vesicels is 0.88 like vesicles.
_SLIP = 0.85
RAW = "raw"
_LAYOUT = "{train,val,test}/{raw,<structure>...}/*.png or *.tif"
# What synthetic data and TrakEM2 projects put beside the splits, and what systems leave.
_IGNORED = ("montages", "__macosx", "thumbs.db", "desktop.ini")


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
    root = Path(config.input)
    classes = parse_classes(config.structures)
    found = FoundImages(root, [])
    parents = _find_parents(root)
    groups = {split: visible_folders(parent) for split, parent in parents.items()}
    if all(folders.keys() == {RAW} for folders in groups.values()):
        raise BenchError(
            f"input must hold a folder of masks for a structure ({', '.join(STRUCTURES)} or any "
            f"other), received only raw: arrange images as {_LAYOUT}"
        )
    for split, folders in groups.items():
        _add_split(found, split, _name_folders(parents[split], folders, classes), classes)
    taken = {structure for section in found.sections for structure in section.labels}
    names = Counter(name for folders in groups.values() for name in folders)
    del names[RAW], names[_ANNOTATIONS]
    found.warnings += _warn_of_slips(names, classes)
    structures = choose_taken(taken, found.kinds + names, classes, root)
    return build_tree(found, structures, classes, config)


def _find_parents(root: Path) -> dict[str, Path]:
    """Finds the folder of each split; a tree that has none is that of NO_SPLIT."""
    if not root.is_dir():
        state = "a file" if root.exists() else "nothing there"
        raise BenchError(
            f"input {root} must be a folder {_LAYOUT}, received {state}: correct input"
        )
    folders = visible_folders(root)
    if not folders:
        raise BenchError(f"input {root} must hold folders {_LAYOUT}, received none: fill it")
    if not any(name in SPLITS for name in folders):
        return {NO_SPLIT: root}
    strangers = [name for name in folders if name not in SPLITS]
    if strangers:
        raise BenchError(
            f"beside split folders {root} must hold none but {', '.join(SPLITS)}, received "
            f"{first_names(strangers)}: move or rename it"
        )
    return {split: folders[split] for split in SPLITS if split in folders}


def visible_folders(folder: Path) -> dict[str, Path]:
    """Returns the folders in a folder by lower-case name, but for those that are ignored."""
    return {
        path.name.lower(): path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_ignored(path)
    }


def is_ignored(path: Path) -> bool:
    """Whether a name is hidden or one of those that say nothing about the data."""
    return path.name.startswith(".") or path.name.lower() in _IGNORED


def _name_folders(parent: Path, folders: dict[str, Path], classes: ClassMap) -> dict[str, Path]:
    """Returns folders by raw, annotations, or the structure that their names stand for."""
    if RAW not in folders:
        raise BenchError(
            f"{parent} must hold a folder raw beside its masks, received "
            f"{first_names(list(folders)) or 'no folders'}: arrange images as {_LAYOUT}"
        )
    named = {name: path for name, path in folders.items() if name in (RAW, _ANNOTATIONS)}
    for name, path in folders.items():
        if name in (RAW, _ANNOTATIONS):
            continue
        structure = _find_class(path, name, classes)
        if structure in named:
            raise BenchError(
                f"{parent} must hold one folder of {structure}, received "
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


def _add_split(found: FoundImages, split: str, folders: dict[str, Path], classes: ClassMap) -> None:
    """Pairs the raw images of a split folder with their annotation by file stem, and adds them."""
    raw = list_images(folders[RAW], "raw images", is_image)
    masks = {
        name: list_images(path, "masks", _is_mask)
        for name, path in folders.items()
        if name not in (RAW, _ANNOTATIONS)
    }
    for structure, files in masks.items():
        _check_pairs(folders[structure], raw, files)
    by_class = _pair_annotations(found.root, folders.get(_ANNOTATIONS), raw)
    drawn = drawn_structures((file for files in by_class.values() for file in files), classes)
    for stem in sorted(raw, key=natural_key):
        pages = list_pages(found.root, raw[stem])
        labels = label_by_class(by_class.get(stem, []), found.root, pages, classes, drawn)
        for structure, files in masks.items():
            file = open_label_file(found.root, files[stem], raw[stem], structure)
            values = classes.values_of(structure)
            labels.add(structure, label_structure(file, found.root, pages, values))
            if file.annotation:
                labels.warnings += file.annotation.warnings
        found.sections += build_sections(stem, pages, labels.pages, split=split)
        found.kinds += labels.kinds
        found.painted += labels.painted
        found.warnings += labels.warnings
        found.section_nm = found.section_nm or pages[0].header.section_nm


def _pair_annotations(
    root: Path, folder: Path | None, raw: dict[str, Path]
) -> dict[str, list[LabelFile]]:
    """The files of a folder ``annotations``, which hold several classes, by image."""
    if folder is None:
        return {}
    files = list_images(folder, "annotation files", _is_mask)
    coco = [path for path in files.values() if path.suffix.lower() == ".json" and is_coco(path)]
    if coco:
        return {
            stem: [open_label_file(root, path, image) for path in coco]
            for stem, image in raw.items()
        }
    _check_pairs(folder, raw, files)
    return {stem: [open_label_file(root, files[stem], raw[stem])] for stem in raw}


def _is_mask(path: Path) -> bool:
    return is_image(path) or is_annotation(path)


def list_images(folder: Path, what: str, accepts: Callable[[Path], bool]) -> dict[str, Path]:
    """Returns the files of a folder by stem; anything else in it is an error.

    Args:
        folder: The folder.
        what: What it should hold, for messages.
        accepts: Whether a path is that.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_ignored(path):
            continue
        if not accepts(path):
            raise BenchError(
                f"{folder} must hold {what} of known formats (PNG, TIFF, JPEG, MRC, HDF5, Zarr) "
                f"only, received {path.name}: convert it without loss, or move it away"
            )
        stem = stem_of(path)
        if stem in images:
            raise BenchError(
                f"{folder} must hold one file per name, received {images[stem].name} and "
                f"{path.name}: remove one"
            )
        images[stem] = path
    if not images:
        raise BenchError(f"{folder} must hold {what}, received none: add or remove it")
    return images


def _check_pairs(folder: Path, raw: dict[str, Path], masks: dict[str, Path]) -> None:
    without_mask = [stem for stem in raw if stem not in masks]
    without_raw = [stem for stem in masks if stem not in raw]
    if not without_mask and not without_raw:
        return
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
