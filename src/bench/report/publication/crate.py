"""RO-Crate 1.1: what is in a folder, how it came about and under which terms, for machines.

References:
    RO-Crate Metadata Specification 1.1, https://w3id.org/ro/crate/1.1
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

CRATE_FILE = "ro-crate-metadata.json"
_VERSION = "https://w3id.org/ro/crate/1.1"
_TYPES = {
    ".csv": "text/csv",
    ".h5": "application/x-hdf5",
    ".json": "application/json",
    ".md": "text/markdown",
    ".safetensors": "application/octet-stream",
    ".txt": "text/plain",
    "": "text/plain",
}
_TERMS, _DATA, _SOFTWARE = "#terms", "#dataset", "#software"


@dataclass(frozen=True)
class CrateAction:
    """A run.

    Attributes:
        id: Its id.
        name: What it did, in a few words.
        started: When, ISO 8601.
        ended: The same of its end.
        results: Files of the folder that it made.
    """

    id: str
    name: str
    started: str
    ended: str
    results: Sequence[str] = ()


@dataclass(frozen=True)
class Crate:
    """What is described.

    Attributes:
        name: Of the whole.
        description: Of the whole.
        published: The day, ISO 8601.
        terms: Under which terms it may be used, in words.
        dataset: Name and content hash of the data.
        software: Name and version of what made it.
        actions: The runs.
        about: What files are, by their paths; others are listed without it.
    """

    name: str
    description: str
    published: str
    terms: str
    dataset: tuple[str, str]
    software: tuple[str, str]
    actions: Sequence[CrateAction]
    about: Mapping[str, str]


def describe_folder(folder: Path, crate: Crate) -> dict[str, Any]:
    """The metadata of a folder, all of whose files are listed but the metadata itself.

    Args:
        folder: The folder.
        crate: What is to be said of it.

    Returns:
        What ``ro-crate-metadata.json`` holds.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    names = [name for name in names if name != CRATE_FILE]
    parts = [_describe_file(folder, name, crate.about.get(name, "")) for name in names]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": crate.name,
        "description": crate.description,
        "datePublished": crate.published,
        "license": {"@id": _TERMS},
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "about": {"@id": _DATA},
        "mentions": _unpack([{"@id": f"#{action.id}"} for action in crate.actions]),
    }
    return {
        "@context": f"{_VERSION}/context",
        "@graph": [
            {
                "@id": CRATE_FILE,
                "@type": "CreativeWork",
                "conformsTo": {"@id": _VERSION},
                "about": {"@id": "./"},
            },
            root,
            *parts,
            *_describe_context(crate),
            *(_describe_action(action) for action in crate.actions),
        ],
    }


def _describe_file(folder: Path, name: str, about: str) -> dict[str, Any]:
    path = folder / name
    entity = {
        "@id": _uri(name),
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": _TYPES.get(path.suffix, "application/octet-stream"),
    }
    return entity | ({"description": about} if about else {})


def _describe_context(crate: Crate) -> list[dict[str, Any]]:
    dataset, software = crate.dataset, crate.software
    return [
        {
            "@id": _TERMS,
            "@type": "CreativeWork",
            "name": "Terms of use",
            "description": crate.terms,
        },
        {
            "@id": _DATA,
            "@type": "CreativeWork",
            "name": f"Prepared data set {dataset[0]}",
            "identifier": f"sha256:{dataset[1]}",
        },
        {
            "@id": _SOFTWARE,
            "@type": "SoftwareApplication",
            "name": software[0],
            "version": software[1],
        },
    ]


def _describe_action(action: CrateAction) -> dict[str, Any]:
    described = {
        "@id": f"#{action.id}",
        "@type": "CreateAction",
        "name": action.name,
        "startTime": action.started,
        "endTime": action.ended,
        "instrument": {"@id": _SOFTWARE},
        "object": {"@id": _DATA},
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    results = [{"@id": _uri(name)} for name in action.results]
    return described | ({"result": _unpack(results)} if results else {})


def _unpack(values: list[dict[str, str]]) -> list[dict[str, str]] | dict[str, str]:
    """One value as it is, several as a list, as is recommended."""
    return values[0] if len(values) == 1 else values


def _uri(name: str) -> str:
    """A path as RO-Crate has it: a valid URI, letters of all languages as they are."""
    return "".join(char if ord(char) > 127 else quote(char) for char in name)
