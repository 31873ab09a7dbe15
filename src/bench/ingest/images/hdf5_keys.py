"""Finds the arrays of an HDF5 file without leaving it: HDF5 itself would follow any link."""

from pathlib import Path

import h5py

from bench.errors import BenchError
from bench.ingest.images.axes import may_be_sections
from bench.ingest.images.keys import LARGEST_DEPTH

MOST_NODES, MOST_LINKS = 10_000, 16


def list_hdf5_keys(path: Path, file: h5py.File) -> list[str]:
    """Returns the keys of the arrays that can be sections, without following a link."""
    keys, waiting, seen, nodes = [], [("", file)], set(), 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            nodes += 1
            if nodes > MOST_NODES or prefix.count("/") > LARGEST_DEPTH:
                raise BenchError(
                    f"{path} must hold no more than {MOST_NODES} arrays and groups in "
                    f"{LARGEST_DEPTH} levels, received more: copy what is annotated to a new file"
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            node = group[name]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen:  # a group may be linked from below itself
                continue
            seen.add(place)
            if isinstance(node, h5py.Group):
                waiting.append((f"{prefix}{name}/", node))
            elif isinstance(node, h5py.Dataset) and may_be_sections(node.shape, node.dtype):
                keys.append(prefix + name)
    return sorted(keys)


def follow_links(path: Path, file: h5py.File, key: str) -> h5py.Dataset | h5py.Group | None:
    """Returns what a key names, soft links followed one by one; None if there is nothing.

    HDF5 would follow a link into another file on the way.
    """
    node, waiting, links = file, split_key(key), 0
    while waiting:
        name = waiting.pop()
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            links += 1
            node = file if link.path.startswith("/") else node
            waiting += split_key(link.path)
            if links > MOST_LINKS or len(waiting) > LARGEST_DEPTH:
                raise BenchError(
                    f"key {key!r} of {path} must lead to an array in {MOST_LINKS} links or less, "
                    "received more: name the array itself"
                )
        elif isinstance(link, h5py.ExternalLink):
            raise elsewhere(path, key, f"a link to {link.filename!r}")
        elif link is None:
            return None
        else:
            node = node[name]
    return node


def split_key(key: str) -> list[str]:
    """Returns the names in a key, the last one first."""
    return [name for name in key.split("/") if name not in ("", ".")][::-1]


def elsewhere(path: Path, key: str, received: str) -> BenchError:
    """Builds the error for an array that is not in the file itself."""
    return BenchError(
        f"array {key} of {path} must be stored in that file, received {received}: copy its values "
        "into one file"
    )
