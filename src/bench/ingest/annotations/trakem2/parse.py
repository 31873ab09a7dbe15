"""Reads the XML of a project piece by piece, within bounds, and hands on its elements."""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from bench.errors import BenchError
from bench.ingest.images.limits import ANNOTATION_BYTES

CHUNK_BYTES = 4 * 2**20
_GZIP_MAGIC = b"\x1f\x8b"
# Projects compress about fivefold. A file that unpacks to little may do so from next to nothing.
FREE_XML_BYTES = 8 * 2**20
_LARGEST_GZIP_RATIO = 100
# An area tree nests as deep as its longest branch has nodes.
DEEPEST = 50_000
# t2_layer_set has about 30. The parser walks through them at every element of that name.
_MOST_DECLARED_ATTRIBUTES = 150

# What TrakEM2 can leave in the values that it writes, as the parser calls it.
_INVALID_TOKEN, _UNDEFINED_ENTITY = 4, 11
# Of a piece of a file; no person typed more. Tags count too.
_MOST_REPAIRS = 1_000_000
_BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")
_ATTRIBUTE = re.compile(rb'(\s[\w:.-]+=")([^"\n]*<[^"\n]*)(?=")')


class _ElementTarget(Protocol):
    def start(self, tag: str, attributes: dict[str, str], /) -> None: ...
    def end(self, tag: str, /) -> None: ...


_Target = TypeVar("_Target", bound=_ElementTarget)


def parse_xml(path: Path, make_target: Callable[[], _Target]) -> tuple[_Target, bool]:
    """Parses an XML file, compressed by gzip or not.

    TrakEM2 writes titles as they were typed. Where a bare ``&`` or ``<`` makes the file
    unreadable, it is read once more with those escaped.

    Args:
        path: The file.
        make_target: Makes what is told of the elements.

    Returns:
        What was told of the elements, and whether the text had to be repaired.

    Raises:
        BenchError: If the file is missing, too large, declares entities, or is not XML.
    """
    try:
        with closing(_read_chunks(path)) as chunks:
            return _feed(chunks, path, make_target()), False
    except ParseError as error:
        reason = f"{error}"
        repairable = error.code in (_INVALID_TOKEN, _UNDEFINED_ENTITY)
    if repairable:
        try:
            with closing(_read_chunks(path)) as chunks:
                return _feed(_repair_lines(chunks), path, make_target()), True
        except ParseError:
            pass  # the first reason tells more: it is of the text as it is
    raise BenchError(
        f"{path} must be whole XML, received text that is not ({reason}): open it in TrakEM2 and "
        "save it again, or correct that line in an editor (&amp; for &, &lt; for <)"
    )


def _feed(chunks: Iterator[bytes], path: Path, target: _Target) -> _Target:
    parser = DefusedXMLParser(
        target=target, forbid_dtd=False, forbid_entities=True, forbid_external=True
    )
    expat = parser.parser
    # Text between elements is of no use here, and values that a DTD supplies would multiply.
    expat.DefaultHandlerExpand = None
    expat.specified_attributes = True
    expat.AttlistDeclHandler = _AttributeCounter(path)
    try:
        for chunk in chunks:
            parser.feed(chunk)
        parser.close()
    except DefusedXmlException as error:
        raise BenchError(
            f"{path} must declare no entities, received {type(error).__name__}: open it in "
            "TrakEM2 and save it again"
        ) from error
    except (LookupError, ValueError) as error:
        raise BenchError(
            f"{path} must be in an encoding that can be read, received {_one_line(error)}: save "
            "it as UTF-8 or ISO-8859-1"
        ) from error
    return target


class _AttributeCounter:
    """Refuses a document type that declares more attributes than any project has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts = Counter[str]()

    def __call__(self, element: str, *declaration: object) -> None:
        self.counts[element] += 1
        if self.counts[element] > _MOST_DECLARED_ATTRIBUTES:
            raise BenchError(
                f"{self.path} must declare at most {_MOST_DECLARED_ATTRIBUTES} attributes of an "
                f"element, received more of {element[:40]}: open it in TrakEM2 and save it again"
            )


def _read_chunks(path: Path) -> Generator[bytes, None, None]:
    """Reads a file in pieces, unpacked if need be."""
    try:
        with path.open("rb") as file:
            stored = path.stat().st_size
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
            largest = ANNOTATION_BYTES
            if packed:
                largest = min(largest, max(FREE_XML_BYTES, _LARGEST_GZIP_RATIO * stored))
            total = 0
            while chunk := stream.read(CHUNK_BYTES):
                total += len(chunk)
                if total > largest:
                    raise BenchError(
                        f"{path} must hold at most {largest >> 20} MB of XML, received more from "
                        f"{stored} bytes: if it is a project, unpack it or save a part of it"
                    )
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BenchError(
            f"{path} must be a whole gzip file, received a damaged one ({_one_line(error)}): save "
            "or copy it again"
        ) from error
    except OSError as error:
        raise BenchError(
            f"{path} must be a file that can be read, received {error.strerror!r}: correct the "
            "path, or give yourself read permission"
        ) from error


def _repair_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Escapes what TrakEM2 left bare in attributes; an attribute never spans lines."""
    rest = b""
    for chunk in chunks:
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        yield _repair(lines + newline)
    yield _repair(rest)


def _repair(text: bytes) -> bytes:
    """Escapes every bare & of whole lines, and every < in the value of an attribute."""
    if text.count(b"&") + text.count(b"<") > _MOST_REPAIRS:
        return text
    escaped = _BARE_AMPERSAND.sub(b"&amp;", text)
    return _ATTRIBUTE.sub(lambda found: found[1] + found[2].replace(b"<", b"&lt;"), escaped)


def read_text(attributes: dict[str, str], name: str) -> str:
    """The text of an attribute in one line; empty where it is missing."""
    return " ".join(attributes.get(name, "").split())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
