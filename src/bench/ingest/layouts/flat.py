"""Images with annotation files of their names beside them, in a folder without splits."""

from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names, natural_key, same_form
from bench.dataset.prepared import NO_SPLIT
from bench.errors import BenchError
from bench.ingest.annotations.annotations import is_annotation
from bench.ingest.annotations.coco import is_coco
from bench.ingest.classes import ClassMap, how_to_take, parse_classes
from bench.ingest.foreign import refuse_foreign
from bench.ingest.images.containers import is_container, list_others, read_container
from bench.ingest.images.formats import is_image, list_pages, stem_of
from bench.ingest.labels import ImageLabels, drawn_structures, label_by_class, open_label_file
from bench.ingest.pyto import is_pyto
from bench.ingest.rows import REVERSED, turn_labels
from bench.ingest.sources import SourceImage, SourceTree
from bench.ingest.tree import FoundImages, build_sections, build_tree, choose_taken
from bench.structures import LABEL_WORDS, is_structure_name
from bench.words import AUTO

_SEPARATORS = "_-. "
_PAIRING = (
    "name the annotation of a.tif a.zip (Fiji), a.mod (IMOD), a.geojson (QuPath), a_labels.tif or "
    "a_mitochondria.tif, or give one COCO file"
)


def read_flat(config: PrepareConfig, root: Path, files: list[Path]) -> SourceTree:
    """Pairs images with their annotation; reads what is drawn, but no pixels.

    Args:
        config: Settings of prepare.
        root: The folder.
        files: What lies in it.

    Raises:
        BenchError: If images and annotation do not pair up, or cannot be read.
    """
    classes = parse_classes(config.structures, config.ignore)
    volumes = {
        path: volume
        for path in files
        if is_container(path)
        and (volume := read_container(root, path, classes, config.pixel_size_nm, config.raw_key))
    }
    others = [path for path in files if path not in volumes]
    pairs = _pair_files(root, others, classes) if others or not volumes else {}
    images = {
        image: [open_label_file(root, path, image, kind, config=config) for path, kind in partners]
        for image, partners in pairs.items()
    }
    drawn = drawn_structures((file for found in images.values() for file in found), classes)
    found = FoundImages(root, [])
    for path, (pages, labels) in volumes.items():
        labels.pages = turn_labels(labels.pages, reverse=config.rows == REVERSED)
        _add_image(found, path, pages, labels)
    for image, label_files in images.items():
        named = is_container(image) and config.raw_key != AUTO
        pages = list_pages(root, image, config.raw_key if named else "")
        _add_image(found, image, pages, label_by_class(label_files, root, pages, classes, drawn))
    taken = {structure for section in found.sections for structure in section.labels}
    return build_tree(found, choose_taken(taken, found.kinds, classes, root), classes, config)


def _add_image(
    found: FoundImages, image: Path, pages: list[SourceImage], labels: ImageLabels
) -> None:
    """Adds the sections of an image with their labels; those of a stack are a region."""
    stem = stem_of(image)
    region = stem if len(pages) > 1 else ""
    found.sections += build_sections(stem, pages, labels.pages, split=NO_SPLIT, region=region)
    found.kinds += labels.kinds
    found.painted += labels.painted
    found.warnings += labels.warnings
    found.section_nm = found.section_nm or pages[0].header.section_nm


def _pair_files(
    root: Path, files: list[Path], classes: ClassMap
) -> dict[Path, list[tuple[Path, str]]]:
    """Finds the annotation of every image, and the class that its name says."""
    pyto = [path for path in files if is_image(path) and is_pyto(path)]
    candidates = {stem_of(path): path for path in files if is_image(path) and path not in pyto}
    found: dict[Path, list[tuple[Path, str]]] = {}
    for_all, partners, strangers, kinds = [], [], [], []
    for path in sorted(files, key=lambda file: natural_key(file.name)):
        owner, rest = find_owner(path, candidates)
        kind = "" if rest.lower() in LABEL_WORDS else rest
        if is_image(path) and path not in pyto:
            if owner and (not kind or classes.find(kind)):
                partners.append((candidates[owner], path, kind))
            else:
                found[path] = []
                kinds += [kind] if owner else []
        elif path not in pyto and not is_annotation(path):
            refuse_foreign(path)
            strangers.append(path.name)
        elif path.suffix.lower() == ".json" and is_coco(path):
            for_all.append(path)
        elif owner or len(candidates) == 1:
            # Of a single image every annotation is, whatever its name.
            only = owner or next(iter(candidates))
            partners.append((candidates[only], path, kind))
        else:
            refuse_foreign(path)
            strangers.append(path.name)
    for image, path, kind in partners:
        found.setdefault(image, []).append((path, kind))
    for image in found:
        found[image] += [(path, "") for path in for_all]
    alone = [image for image, paths in found.items() if not paths]
    if strangers or alone or not found:
        kinds += [kind for path in alone if is_container(path) for kind in list_others(path)]
        raise _pairing_error(root, strangers, [image.name for image in alone], kinds)
    return found


def find_owner(path: Path, images: dict[str, Path]) -> tuple[str, str]:
    """The name of the image that a file's name begins with, the longest; and what follows it."""
    stem = same_form(stem_of(path))
    spelt = {same_form(name): name for name in images}
    if not is_image(path) and stem in spelt:
        return spelt[stem], ""
    owners = [
        name
        for name in spelt
        if stem.startswith(name) and len(stem) > len(name) + 1 and stem[len(name)] in _SEPARATORS
    ]
    owner = max(owners, key=len, default="")
    return (spelt[owner], stem[len(owner) + 1 :]) if owner else ("", "")


def _pairing_error(
    root: Path, strangers: list[str], alone: list[str], kinds: list[str]
) -> BenchError:
    classes = [kind for kind in dict.fromkeys(kinds) if is_structure_name(kind)]
    remedy = f"{_PAIRING}; or {how_to_take(classes)}" if classes else _PAIRING
    received = []
    if strangers:
        received.append(f"files of no image: {first_names(strangers)}")
    if alone:
        received.append(f"images without annotation: {first_names(alone)}")
    return BenchError(
        f"every image in {root} must have annotation of its name, received "
        f"{'; '.join(received) or 'no images'}: {remedy}"
    )
