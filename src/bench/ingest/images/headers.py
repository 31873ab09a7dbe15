"""What a file says of its image before its pixels are read, and how a bad file is told of."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError

# 72, 96, 300 or 1200 dpi speak of print and screen: 21 um or more. No electron micrograph has
# such pixels, so a size outside these bounds says nothing.
_SMALLEST_NM, _LARGEST_NM = 0.01, 1000.0

# Which row of an image is stored first. 3dmod and Fiji do not agree on an MRC that 3dmod inverts.
TOP_FIRST, BOTTOM_FIRST, DISPUTED = "top_first", "bottom_first", "disputed"

# Some decoders repeat the file in their message.
_LONGEST_REASON = 200

_T = TypeVar("_T")


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image, read without its pixels.

    Attributes:
        shape: Height and width in px.
        pages: Sections in the file; more than one makes it a stack.
        pixel_sides_nm: Height and width of a pixel in nm; None where the file does not say it.
        section_nm: Distance of two sections of a stack in nm; None where it does not say it.
        channels: As many as the pages where the file calls them channels of one section; else 1.
        notes: What its user should know of it, each a sentence without its subject, the file.
        size_note: The same on its pixel size: why one that is stated is not taken, or which is.
        turned: Whether z, y, x are stored in another order; None where an array of several axes
            does not say what they are.
        rows: Which of the stored rows programs show on top: TOP_FIRST, BOTTOM_FIRST or, where
            they do not agree, DISPUTED.
        origin_nm: Where the first voxel lies in nm, as z, y, x and with the sign of the MRC
            standard of 2014; None where it is 0 or the file does not say it.
    """

    shape: tuple[int, int]
    pages: int
    pixel_sides_nm: tuple[float, float] | None
    section_nm: float | None = None
    channels: int = 1
    notes: tuple[str, ...] = ()
    size_note: str = ""
    turned: bool | None = False
    rows: str = TOP_FIRST
    origin_nm: tuple[float, float, float] | None = None


def may_be_pixel(sides_nm: tuple[float, ...]) -> bool:
    """Whether an electron micrograph may have pixels of these sides."""
    return all(_SMALLEST_NM <= side < _LARGEST_NM for side in sides_nm)


def decode(path: Path, read: Callable[[Path], _T], kind: str = "PNG or TIFF file") -> _T:
    """Calls a reader and turns whatever a decoder raises on a bad file into a BenchError.

    Args:
        path: The file.
        read: The reader.
        kind: What the file must be, for the message.
    """
    try:
        return read(path)
    except (BenchError, MemoryError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        # h5py repeats the path in strerror, and others leave it out.
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise BenchError(
            f"{path} must be readable, received {reason!r}: check its path and permissions"
        ) from error
    except Exception as error:  # the decoders' own exceptions have no common class
        reason = " ".join(str(error)[:_LONGEST_REASON].split()) or type(error).__name__
        raise BenchError(
            f"{path} must be a whole {kind}, received one that does not decode ({reason}): "
            "save or copy it again"
        ) from error
