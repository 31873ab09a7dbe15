"""Whether two datasets have an image in common."""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.dataset.prepared import PreparedDataset, hash_pixels


def find_shared_section(
    first: PreparedDataset,
    splits: Iterable[str],
    second: PreparedDataset,
    others: Iterable[str],
) -> tuple[str, str] | None:
    """Finds a section of one dataset that is one of another; None without any.

    Sections from source files of the same content are compared by their pixels.

    Args:
        first: A dataset.
        splits: Those of its splits that count.
        second: The other dataset.
        others: Those of its splits that count.

    Returns:
        The section's name in both.
    """
    entries = [
        [entry for entry in dataset.entries if entry.get("split") in set(wanted)]
        for dataset, wanted in ((first, splits), (second, others))
    ]
    sources = set.intersection(*({_source_of(e) for e in found} for found in entries))
    here, there = (
        [entry["name"] for entry in found if _source_of(entry) in sources] for found in entries
    )
    known = {hash_pixels(first.read_raw(name)): name for name in here}
    for name in there:
        if same := known.get(hash_pixels(second.read_raw(name))):
            return same, name
    return None


def _source_of(entry: Mapping[str, Any]) -> str:
    """What the file of a section's image was, by its content."""
    return str(entry["datasets"]["raw"].get("source_sha256", ""))
