"""The folder tree of images: ``{train,val,test}/{raw,<structure>...}/*``, paired by file name."""

from functools import partial
from pathlib import Path

from bench.config import AUTO, PrepareConfig
from bench.data.images import IMAGE_SUFFIXES, ImageHeader, read_header, read_section
from bench.data.names import first_names, natural_key
from bench.data.pixel_size import choose_pixel_size
from bench.data.sources import SourceImage, SourceSection, SourceTree
from bench.data.splits import NO_SPLIT, SPLITS, assign_splits, check_splits
from bench.errors import BenchError
from bench.structures import STRUCTURES, find_structure, find_structures

RAW = "raw"
LAYOUT = "{train,val,test}/{raw,<structure>...}/*.png or *.tif"
# What synthetic data and TrakEM2 projects put beside the splits, and what systems leave.
IGNORED = ("montages", "__macosx", "thumbs.db", "desktop.ini")


def read_folder(config: PrepareConfig) -> SourceTree:
    """Lists the sections of a folder tree with their masks and splits; reads no pixels.

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
    try:
        groups = find_groups(root)
        wanted = choose_structures(groups, config.structures)
        found = [
            section
            for folder_split, folders in groups.items()
            for section in pair_images(root, folder_split, folders, wanted)
        ]
    except OSError as error:
        raise BenchError(
            f"{error.filename or root} must be readable, received {error.strerror!r}: "
            "give yourself read permission"
        ) from error
    sections, split_warnings = assign_splits(found, config.splits)
    coverage_warnings = check_splits(sections, wanted)
    pixel_size_nm, pixel_warnings = choose_pixel_size(
        {section.raw.file: section.raw.header for section in sections},
        {mask.file: mask.header for section in sections for mask in section.labels.values()},
        config.pixel_size_nm,
    )
    return SourceTree(
        root=root,
        sections=tuple(sections),
        structures=wanted,
        pixel_size_nm=pixel_size_nm,
        splits_rule="folders" if config.splits == AUTO else config.splits,
        warnings=(*split_warnings, *coverage_warnings, *pixel_warnings),
    )


def find_groups(root: Path) -> dict[str, dict[str, Path]]:
    """Finds the folders of a tree by split (NO_SPLIT where it has none) and by raw or structure."""
    if not root.is_dir():
        state = "a file" if root.exists() else "nothing there"
        raise BenchError(f"input {root} must be a folder {LAYOUT}, received {state}: correct input")
    folders = visible_folders(root)
    if not folders:
        raise BenchError(f"input {root} must hold folders {LAYOUT}, received none: fill it")
    if not any(name in SPLITS for name in folders):
        return {NO_SPLIT: name_folders(root, folders)}
    strangers = [name for name in folders if name not in SPLITS]
    if strangers:
        raise BenchError(
            f"beside split folders {root} must hold none but {', '.join(SPLITS)}, received "
            f"{first_names(strangers)}: move or rename it"
        )
    return {
        split: name_folders(folders[split], visible_folders(folders[split]))
        for split in SPLITS
        if split in folders
    }


def visible_folders(folder: Path) -> dict[str, Path]:
    """Returns the folders in a folder by lower-case name, but for those that are ignored."""
    return {
        path.name.lower(): path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_ignored(path)
    }


def is_ignored(path: Path) -> bool:
    """Whether a name is hidden or one of those that say nothing about the data."""
    return path.name.startswith(".") or path.name.lower() in IGNORED


def name_folders(parent: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """Returns folders by raw or by structure name, aliases resolved."""
    if RAW not in folders:
        raise BenchError(
            f"{parent} must hold a folder raw beside its masks, received "
            f"{first_names(list(folders)) or 'no folders'}: arrange images as {LAYOUT}"
        )
    named = {RAW: folders[RAW]}
    for name, path in folders.items():
        if name == RAW:
            continue
        try:
            structure = find_structure(name).name
        except BenchError as error:
            raise BenchError(f"{path} must be named after a structure: {error}") from error
        if structure in named:
            raise BenchError(
                f"{parent} must hold one folder of {structure}, received "
                f"{named[structure].name} and {path.name}: remove one"
            )
        named[structure] = path
    return named


def choose_structures(groups: dict[str, dict[str, Path]], names: str) -> tuple[str, ...]:
    """Returns the structures to take; each that is named must have a folder."""
    present = [name for name in STRUCTURES if any(name in folders for folders in groups.values())]
    if not present:
        raise BenchError(
            f"input must hold a folder of masks for a structure ({', '.join(STRUCTURES)}), "
            f"received only raw: arrange images as {LAYOUT}"
        )
    if names.strip().lower() == "all":
        return tuple(present)
    wanted = [structure.name for structure in find_structures(names)]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise BenchError(
            f"structures must have a folder of masks, received {', '.join(missing)} and the "
            f"folders {', '.join(present)}: correct structures or add the folder"
        )
    return tuple(name for name in present if name in wanted)


def list_images(folder: Path) -> dict[str, Path]:
    """Returns the images of a folder by stem; anything else in it is an error."""
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_ignored(path):
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            raise BenchError(
                f"{folder} must hold PNG and TIFF files only, received {path.name}: convert it "
                "without loss, or move it away"
            )
        if path.stem in images:
            raise BenchError(
                f"{folder} must hold one file per name, received {images[path.stem].name} and "
                f"{path.name}: remove one"
            )
        images[path.stem] = path
    if not images:
        raise BenchError(f"{folder} must hold PNG or TIFF files, received none: add or remove it")
    return images


def pair_images(
    root: Path, split: str, folders: dict[str, Path], wanted: tuple[str, ...]
) -> list[SourceSection]:
    """Pairs the raw images of a split folder with their masks by file stem."""
    raw = list_images(folders[RAW])
    masks = {name: list_images(folders[name]) for name in wanted if name in folders}
    for structure, files in masks.items():
        check_pairs(folders[structure], raw, files)
    sections = []
    for stem in sorted(raw, key=natural_key):
        raw_pages = read_pages(root, raw[stem])
        mask_pages = {name: read_pages(root, files[stem]) for name, files in masks.items()}
        for pages in mask_pages.values():
            check_alike(raw_pages[0], pages[0])
        sections += [
            SourceSection(
                split=split,
                stem=name_page(stem, page, len(raw_pages)),
                raw=image,
                labels={name: pages[page] for name, pages in mask_pages.items()},
            )
            for page, image in enumerate(raw_pages)
        ]
    return sections


def check_pairs(folder: Path, raw: dict[str, Path], masks: dict[str, Path]) -> None:
    """Raises BenchError unless every raw image has a mask and every mask a raw image."""
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


def read_pages(root: Path, path: Path) -> list[SourceImage]:
    """Returns the sections in an image file."""
    header = read_header(path)
    files = {path.relative_to(root).as_posix(): path}
    return [
        SourceImage(files, page, header, partial(read_section, path, page))
        for page in range(header.pages)
    ]


def name_page(stem: str, page: int, pages: int) -> str:
    """Names a section of a stack ``stem_zNN``; a file with a single section lends its stem."""
    digits = max(2, len(str(pages - 1)))
    return stem if pages == 1 else f"{stem}_z{page:0{digits}}"


def check_alike(raw: SourceImage, mask: SourceImage) -> None:
    """Raises BenchError unless a mask has the size and number of sections of its raw image."""
    if (raw.header.shape, raw.header.pages) == (mask.header.shape, mask.header.pages):
        return
    raise BenchError(
        f"{mask.file} must have the size of {raw.file}, {describe(raw.header)}, received "
        f"{describe(mask.header)}: export the mask again at full size"
    )


def describe(header: ImageHeader) -> str:
    """Returns the size of an image in words."""
    height, width = header.shape
    pages = f" in {header.pages} sections" if header.pages > 1 else ""
    return f"{height} x {width} px (height x width){pages}"
