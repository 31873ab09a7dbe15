"""Public data sets in the cache: fetched once with their terms said, or put there by hand."""

import logging
from pathlib import Path

from bench.core.archives import unpack
from bench.core.downloads import download
from bench.core.files import write_text
from bench.core.hashing import file_sha256
from bench.dataset.public.rows import Edition, PublicDataset, PublicFile
from bench.errors import BenchError, MissingFileError

log = logging.getLogger(__name__)


def public_folder(row: PublicDataset) -> Path:
    """The folder of a public data set, in the user's cache; XDG_CACHE_HOME moves it."""
    import pooch

    return Path(pooch.os_cache("synapse-bench")) / "datasets" / (row.home or row.name)


def fetch_public(row: PublicDataset) -> tuple[Path, Edition]:
    """Sees that the files of a data set are there: fetches, checks and unpacks what is missing.

    Files that lie in the cache are taken, those of any edition; else the first one is fetched.

    Returns:
        The data set's folder, and which edition is in it.

    Raises:
        MissingFileError: If a file cannot be fetched.
        BenchError: If another file is there than it should be, or it cannot be stored.
    """
    folder = public_folder(row)
    edition = next((each for each in row.editions if _is_there(folder, each)), None)
    try:
        if edition is None:
            edition = row.editions[0]
            _say_terms(row)
            _fetch_missing(row, folder, edition)
        for file in edition.files:
            _take(row, folder, edition, file)
    except OSError as error:
        raise BenchError(
            f"{folder} must be a folder that can be read and written, received: {error}; set "
            "XDG_CACHE_HOME to a folder of yours"
        ) from error
    return folder, edition


def _is_there(folder: Path, edition: Edition) -> bool:
    return all(_has(folder, file) for file in edition.files)


def _has(folder: Path, file: PublicFile) -> bool:
    unpacked = file.is_archive and (folder / file.folder).is_dir()
    return unpacked or (folder / file.name).is_file()


def _say_terms(row: PublicDataset) -> None:
    """Says what a data set is, and under which terms, before it is fetched for the first time."""
    say = log.info if row.commercial else log.warning
    terms = {True: "", False: " (no commercial use)", None: ""}[row.commercial]
    say("%s: %s. Licence: %s%s. Cite: %s", row.name, row.title, row.licence, terms, row.citation)


def _fetch_missing(row: PublicDataset, folder: Path, edition: Edition) -> None:
    from requests.exceptions import RequestException

    for file in edition.files:
        if _has(folder, file):
            continue
        try:
            _fetch_first(file, folder / file.name)
        except RequestException as error:
            raise _missing(row, folder, edition, file, type(error).__name__) from error
        except BenchError as error:
            raise BenchError(f"{error}: {_remedy(row, folder, edition)}") from error


def _fetch_first(file: PublicFile, path: Path) -> None:
    """Fetches from the first address that answers; the last one's failure is raised."""
    from requests.exceptions import RequestException

    sha256 = file.sha256 if file.firm else None
    for address in file.addresses[:-1]:
        try:
            download(address, path, sha256)
            return
        except RequestException as error:
            log.warning("%s cannot be reached (%s)", address, type(error).__name__)
    download(file.addresses[-1], path, sha256)


def _missing(
    row: PublicDataset, folder: Path, edition: Edition, file: PublicFile, reason: str
) -> MissingFileError:
    left = [each for each in edition.files if not _has(folder, each)]
    return MissingFileError(
        f"{file.name} of {row.name} must be fetched, its server cannot be reached ({reason}): "
        f"{_remedy(row, folder, edition)}",
        model=f"dataset:{row.name}",
        files=tuple((" ".join(each.addresses), str(folder / each.name)) for each in left),
    )


def _remedy(row: PublicDataset, folder: Path, edition: Edition) -> str:
    """Which files that are missing are to be put where, and which others would do."""
    wanted = [
        f"{folder / file.name} from {' or '.join(file.addresses)} ({_describe_hash(file)})"
        for file in edition.files
        if not _has(folder, file)
    ]
    others = [
        " and ".join(
            f"{file.name} ({_describe_hash(file)}{', ' * bool(file.page)}{file.page})"
            for file in other.files
        )
        for other in row.editions
        if other != edition
    ]
    instead = f" (or {' or '.join(others)} in {folder})" if others else ""
    return (
        f"fetch elsewhere, and put in place, {', and '.join(wanted)}{instead}; then type the same "
        "again"
    )


def _describe_hash(file: PublicFile) -> str:
    return f"SHA-256 {file.sha256 or 'not known'}"


def _take(row: PublicDataset, folder: Path, edition: Edition, file: PublicFile) -> None:
    """Checks a file, and unpacks it if it is an archive that is not unpacked yet."""
    if file.is_archive and (folder / file.folder).is_dir():
        return
    path = folder / file.name
    _check_file(row, path, file)
    if file.is_archive:
        unpack(path, folder / file.folder, _patterns_in(edition, file))


def _patterns_in(edition: Edition, file: PublicFile) -> set[str]:
    """The patterns of what is read from an archive, as names in it."""
    patterns = {edition.unlabelled} - {""}
    for series in edition.series:
        patterns |= {series.raw, *(labels.files for labels in series.labels.values())}
    start = f"{file.folder}/"
    return {pattern.removeprefix(start) for pattern in patterns if pattern.startswith(start)}


def _check_file(row: PublicDataset, path: Path, file: PublicFile) -> None:
    """Refuses a file with another hash than its own, or than it had when it first came."""
    received, noted = file_sha256(path), path.with_name(f"{path.name}.sha256")
    wanted = file.sha256 if file.firm else None
    if wanted is None and noted.is_file():
        wanted = noted.read_text(encoding="utf-8").strip()
    if wanted is None:
        known = "nobody has stated it" if file.sha256 is None else f"packed anew, was {file.sha256}"
        if received != file.sha256:
            log.warning("SHA-256 of %s: %s (%s); it is kept", path.name, received, known)
        write_text(noted, f"{received}\n")
    elif received != wanted:
        when, also = (
            ("", "") if file.firm and file.sha256 else (" of when it first came", noted.name)
        )
        raise BenchError(
            f"{path} of {row.name} must have the SHA-256 {wanted}{when}, received {received}: move "
            f"it away{' with ' * bool(also)}{also}, and it is fetched anew"
        )
