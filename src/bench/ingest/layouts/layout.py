"""Which folders of an input are splits, raw images and masks, by other words for them too."""

from pathlib import Path

from bench.core.files import describe_absence
from bench.core.names import first_names
from bench.dataset.prepared import NO_SPLIT, SPLITS
from bench.errors import BenchError
from bench.export.sphere_table import SPHERES_FILE
from bench.ingest.classes import ClassMap
from bench.ingest.images.formats import is_image
from bench.structures import LABEL_WORDS
from bench.words import BESIDE_LABELS, SEGMENTATION_FILE

RAW = "raw"
# The folder of files that annotate several structures, or say their class themselves.
ANNOTATIONS = "annotations"
LAYOUT = "{train,val,test}/{raw,<structure>...}/*.png or *.tif"
# empanada, and much of the field, call the two folders images and masks.
_RAW_WORDS = ("images", "image", "imgs", "img")
# What synthetic data and TrakEM2 projects put beside the splits, what lies beside spheres, and what
# systems leave.
_IGNORED = ("montages", "models", SPHERES_FILE, "__macosx", "thumbs.db", "desktop.ini")
_BESIDE_SETS = (".companion.ome", "_metadata.txt")  # of OME-TIFF and of Micro-Manager


def is_ignored(path: Path) -> bool:
    """Whether a name is hidden or one of those that say nothing about the data."""
    name = path.name.lower()
    return name.startswith(".") or name in _IGNORED or name.endswith(_BESIDE_SETS)


def visible_folders(folder: Path) -> dict[str, Path]:
    """Returns the folders in a folder by lower-case name, but for those that are ignored."""
    return {
        path.name.lower(): path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_ignored(path)
    }


def has_layout(root: Path) -> bool:
    """Whether a folder has folders of splits, or of raw images and labels by any word for them."""
    folders = visible_folders(root)
    if {RAW, *SPLITS} & folders.keys():
        return True
    by_words = set(_RAW_WORDS) & folders.keys() and set(LABEL_WORDS) & folders.keys()
    return bool(by_words) and not any(is_image(path) for path in root.iterdir())


def is_nnunet(root: Path) -> bool:
    """Whether a folder is a data set of nnU-Net."""
    return {"imagestr", "labelstr"} <= visible_folders(root).keys()


def is_segmented(root: Path) -> bool:
    """Whether a folder is an output of segment."""
    return (root / SEGMENTATION_FILE).is_file()


def find_groups(root: Path, classes: ClassMap) -> dict[str, dict[str, Path]]:
    """Finds the folders of each split by raw, annotations or the name of a structure.

    A tree without splits is that of NO_SPLIT. Splits may lie within the folders, too.

    Args:
        root: The input.
        classes: Which folders the user named.

    Raises:
        BenchError: If there are no folders, or others beside splits.
    """
    if not root.is_dir():
        state = "a file" if root.exists() else describe_absence(root)
        raise BenchError(f"input {root} must be a folder {LAYOUT}, received {state}: correct input")
    folders = visible_folders(root)
    if is_segmented(root):
        folders = {name: path for name, path in folders.items() if name not in BESIDE_LABELS}
    if not folders:
        raise BenchError(f"input {root} must hold folders {LAYOUT}, received none: fill it")
    within = {name: visible_folders(path) for name, path in folders.items()}
    if not any(name in SPLITS for name in folders):
        if all(inner and set(inner) <= set(SPLITS) for inner in within.values()):
            turned = {
                split: {name: inner[split] for name, inner in within.items() if split in inner}
                for split in SPLITS
            }
            return {s: _by_our_words(root, f, classes) for s, f in turned.items() if f}
        return {NO_SPLIT: _by_our_words(root, folders, classes)}
    strangers = [name for name in folders if name not in SPLITS]
    if strangers:
        raise BenchError(
            f"beside split folders {root} must hold none but {', '.join(SPLITS)}, received "
            f"{first_names(strangers)}: move or rename it"
        )
    return {
        split: _by_our_words(folders[split], within[split], classes)
        for split in SPLITS
        if split in folders
    }


def _by_our_words(parent: Path, folders: dict[str, Path], classes: ClassMap) -> dict[str, Path]:
    """Returns folders by our names for them; those of structures keep theirs."""
    named: dict[str, Path] = {}
    for name, path in folders.items():
        word = name
        if RAW not in folders and name in _RAW_WORDS:
            word = RAW
        elif RAW not in folders and name in LABEL_WORDS and not classes.find(name):
            word = ANNOTATIONS
        if word in named:
            raise BenchError(
                f"{parent} must hold one folder of {word}, received {named[word].name} and "
                f"{path.name}: remove one, or rename it after a structure"
            )
        named[word] = path
    if RAW not in named:
        raise _no_raw(parent, folders)
    return named


def _no_raw(parent: Path, folders: dict[str, Path]) -> BenchError:
    inside = [path for path in folders.values() if has_layout(path) or is_nnunet(path)]
    if inside:
        return BenchError(
            f"{parent} must be the folder of one data set, received one that holds "
            f"{first_names([path.name for path in inside])}: give -P 'input={inside[0]}' "
            "(and -P structures=mitochondria if its masks do not say what they are)"
        )
    return BenchError(
        f"{parent} must hold a folder raw beside its masks, received "
        f"{first_names(list(folders)) or 'no folders'}: arrange images as {LAYOUT}"
    )
