"""What suspects and suggest begin and end with: what was asked for, and the output folder."""

import logging
import shutil
from pathlib import Path

from bench.config.advice import SuggestConfig, SuspectsConfig
from bench.core.folders import publish
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import check_annotated
from bench.errors import BenchError, unknown_name
from bench.export.formats import FORMATS
from bench.steps.export import check_free
from bench.structures import find_structure, split_names
from bench.words import NONE

log = logging.getLogger(__name__)


def open_annotated(config: SuspectsConfig | SuggestConfig) -> tuple[PreparedDataset, str]:
    """The dataset that is asked about, and its structure by its own name.

    Raises:
        BenchError: If there is no such dataset, structure or format, or the output exists.
    """
    check_free(Path(config.output))
    check_formats(config.formats)
    dataset = PreparedDataset.open(config.dataset)
    check_annotated(dataset)
    return dataset, find_structure(config.structure, dataset.structures).name


def check_formats(formats: str) -> list[str]:
    """The formats of a list; none of ``none``.

    Raises:
        BenchError: If there is no such format.
    """
    named = [] if formats.strip().lower() == NONE else list(split_names(formats))
    for name in named:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return named


def begin_content(folder: Path) -> Path:
    """The empty folder in an unfinished one that is to be the output."""
    content = folder / "content"
    # A process that was killed may have left a part of it.
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    return content


def publish_content(folder: Path, content: Path, output: Path) -> None:
    """Puts what was written in its place.

    Raises:
        BenchError: If something is there since.
    """
    if not publish(folder, content, output):
        raise BenchError(
            f"output must be free, received {output}, which somebody else wrote: choose another "
            "output"
        )


def say_formats(config: SuspectsConfig | SuggestConfig) -> None:
    """Says how what was written is opened, to correct it."""
    for name in check_formats(config.formats):
        folder = Path(config.output) / name
        log.info("to correct them, %s", FORMATS[name].opening.format(folder=folder))
