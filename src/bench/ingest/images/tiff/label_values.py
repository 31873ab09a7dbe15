"""Whether the values of a TIFF are those that were painted."""

from pathlib import Path

import numpy as np
import tifffile

from bench.errors import BenchError

_JPEG = (6, 7, 99, 33007, 34892)
_JPEG_2000 = (33003, 33004, 33005, 34712)
_WEBP = (34927, 50001)
# JPEG XR, JPEG XL and SGI's logarithm.
_OTHERS = (22610, 34934, 50002, 52546, 34676, 34677)
_START_BYTES = 64 * 1024
# A marker of lossless JPEG, and that of JPEG 2000 before its settings, the 10th byte of which
# names the wavelet: 1 can be undone.
_LOSSLESS_JPEG, _SETTINGS_OF_2000 = b"\xff\xc3", b"\xff\x52"


def check_lossless(path: Path, page: tifffile.TiffPage) -> None:
    """Refuses label images in a compression that changes values.

    Raises:
        BenchError: If they are.
    """
    kind = int(page.compression)
    if kind not in (*_JPEG, *_JPEG_2000, *_WEBP, *_OTHERS) or _is_lossless(path, page, kind):
        return
    raise BenchError(
        f"labels must keep their values, received {path.name} with pixels in "
        f"{tifffile.COMPRESSION(kind).name} compression, which changes them: export the labels "
        "again with LZW or no compression"
    )


def _is_lossless(path: Path, page: tifffile.TiffPage, kind: int) -> bool:
    with path.open("rb") as file:
        file.seek(page.dataoffsets[0])
        start = file.read(min(page.databytecounts[0], _START_BYTES))
    if kind in _JPEG:
        return _LOSSLESS_JPEG in start
    if kind in _WEBP:
        return start[12:16] == b"VP8L"
    place = start.find(_SETTINGS_OF_2000)
    return kind in _JPEG_2000 and place >= 0 and start[place + 13 : place + 14] == b"\x01"


def check_label_values(path: Path, page: tifffile.TiffPage, pixels: np.ndarray) -> None:
    """Refuses a mask of which it is not known whether black or white is foreground.

    Where white is zero, ids are ids. In a mask of two values ImageJ marks objects by 255 whatever
    their colour on screen; by other programs they are what is white, 0, or what is not.

    Args:
        path: The file.
        page: A page of it.
        pixels: Its values.

    Raises:
        BenchError: If there are the two values of a mask in a file that is not ImageJ's.
    """
    largest = 2 ** int(page.bitspersample) - 1
    if page.is_imagej or set(np.unique(pixels).tolist()) != {0, largest}:
        return
    raise BenchError(
        f"{path} must say which of its values is foreground, received a mask of 0 and {largest} "
        f"whose white is zero (TIFF photometric interpretation 0), so that 0 is shown white: save "
        "it with black as zero and objects white"
    )
