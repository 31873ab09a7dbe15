"""Whatever the user's annotation is kept in, as one tree of sections."""

from pathlib import Path

from bench.config.data import PrepareConfig
from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.foreign import refuse_foreign
from bench.ingest.images.formats import is_image, stem_of
from bench.ingest.layouts.flat import find_owner, read_flat
from bench.ingest.layouts.folders import read_folder
from bench.ingest.layouts.layout import has_layout, is_ignored, is_nnunet, is_segmented
from bench.ingest.layouts.nnunet import read_nnunet
from bench.ingest.layouts.projects import is_project, read_project_tree
from bench.ingest.layouts.public import is_public, read_public
from bench.ingest.layouts.segmented import read_segmented
from bench.ingest.sources import SourceTree


def read_input(config: PrepareConfig) -> SourceTree:
    """Lists the annotated sections of an input; reads what is drawn, but no pixels.

    An input is, in this order: the name of a public data set; a TrakEM2 project; an output of
    segment; a folder tree of images and masks; a folder with a single project; a folder of images
    with annotation beside them; or one such image.

    Raises:
        BenchError: If the input is none of them, or something in it does not fit.
    """
    if is_public(config.input):
        return read_public(config)
    path = Path(config.input)
    try:
        _refuse_foreign_input(path)
        if is_project(path):
            return read_project_tree(config, path)
        if is_image(path):
            beside = [file for file in _list_files(path.parent) if _belongs_to(file, path)]
            return read_flat(config, path.parent, [path, *beside])
        if is_segmented(path):
            return read_segmented(config)
        if path.is_dir() and is_nnunet(path):
            return read_nnunet(config, path)
        if not path.is_dir() or _is_folder_tree(path):
            return read_folder(config)
        files = _list_files(path)
        projects = [file for file in files if is_project(file)]
        if not projects:
            return read_flat(config, path, files)
    except OSError as error:
        raise BenchError(
            f"{error.filename or path} must be readable, received {error.strerror!r}: "
            "give yourself read permission"
        ) from error
    if len(projects) > 1:
        names = first_names([project.name for project in projects])
        raise BenchError(
            f"{path} must hold one TrakEM2 project, received {names}: give the file as input"
        )
    refuse_foreign(projects[0])
    return read_project_tree(config, projects[0])


def _refuse_foreign_input(path: Path) -> None:
    """Names the format of an input that is not read, or of all that a folder holds."""
    if is_image(path) or not path.exists():
        return
    refuse_foreign(path)
    if path.is_file() or has_layout(path):
        return
    beside = [entry for entry in sorted(path.iterdir()) if not is_ignored(entry)]
    if not any(is_image(entry) or is_project(entry) for entry in beside):
        for entry in beside:
            refuse_foreign(entry)


def _list_files(folder: Path) -> list[Path]:
    """The files of a folder, Zarr folders among them, but for what systems leave."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not is_ignored(path) and (path.is_file() or is_image(path))
    ]


def _belongs_to(file: Path, image: Path) -> bool:
    return file != image and bool(find_owner(file, {stem_of(image): image})[0])


def _is_folder_tree(path: Path) -> bool:
    """Whether a folder has folders of splits or of raw images, or nothing to go by."""
    return has_layout(path) or not _list_files(path)
