"""The output folders of suspects and suggest: checked before, and whole afterwards."""

import shutil
from pathlib import Path

from bench.core.folders import publish
from bench.errors import BenchError, unknown_name
from bench.export.formats import FORMATS
from bench.structures import split_names
from bench.words import NONE


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
