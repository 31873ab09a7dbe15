"""Bounds on what a file may ask for, so that a damaged or hostile one costs no machine."""

from pathlib import Path

from bench.errors import BenchError

# An image in memory may be this large whatever its file; beyond, no more than so many times its
# file. Micrographs hardly compress, and masks of this size are rare: 22000 x 22000 px in 8 bit.
FREE_BYTES = 512 * 2**20
_LARGEST_RATIO = 100
# An annotation file; the largest known TrakEM2 projects have a few hundred megabytes.
ANNOTATION_BYTES = 512 * 2**20


def check_decoded_size(path: Path, decoded: int, stored: int) -> None:
    """Refuses an image that would be far larger in memory than its file.

    Args:
        path: The file, for the message.
        decoded: Bytes of what would be decoded at once.
        stored: Bytes of the file.

    Raises:
        BenchError: If it is beyond the bounds.
    """
    if decoded > max(FREE_BYTES, _LARGEST_RATIO * stored):
        raise BenchError(
            f"{path} must not decode to more than {FREE_BYTES >> 20} MB or {_LARGEST_RATIO} times "
            f"its file, received {decoded >> 20} MB from {stored} bytes: if it is what it should "
            "be, save it without compression"
        )


def check_inside(path: Path, roots: tuple[Path, ...], named_by: str) -> Path:
    """Returns the real path of a file that another file names, if it lies in a folder of roots.

    Args:
        path: The file named, links not yet followed.
        roots: Folders that the user named.
        named_by: The file that names it, for the message.

    Raises:
        BenchError: If it lies elsewhere.
    """
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise BenchError(
            f"{named_by} may only name files in {', '.join(map(str, roots))}, received {path}: "
            "copy that file there"
        )
    return real
