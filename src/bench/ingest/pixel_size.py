"""The pixel size of a dataset: the option's, else what its files state, else unknown."""

from collections.abc import Mapping

from bench.core.names import first_names
from bench.errors import BenchError
from bench.ingest.images.images import ImageHeader

REMEDY = "give -P pixel_size_nm=..."
# Programs round resolution tags; 1 per mille of a section 2000 px wide is 2 px.
RELATIVE_TOLERANCE = 1e-3


def choose_pixel_size(
    raw: Mapping[str, ImageHeader], masks: Mapping[str, ImageHeader], option: float | None
) -> tuple[float | None, tuple[str, ...]]:
    """Chooses the pixel size of a dataset; it is never guessed.

    Args:
        raw: Headers of the raw images by file.
        masks: Headers of the masks by file.
        option: Pixel size in nm that the user gave; it goes before what files state.

    Returns:
        The edge of a pixel in nm, or None where not every raw image states it; and warnings.

    Raises:
        BenchError: If, without the option, files disagree or state pixels that are not square.
    """
    stated = {file: h.pixel_sides_nm for file, h in {**raw, **masks}.items() if h.pixel_sides_nm}
    if option is not None:
        other = [f for f, sides in stated.items() if not all(agree(option, s) for s in sides)]
        if not other:
            return option, ()
        return option, (
            f"pixel size {option:g} nm was given, but {len(other)} files state another: "
            f"{first_names(other)}",
        )
    silent = [file for file in raw if file not in stated]
    if not stated or len(silent) == len(raw):
        return None, (f"pixel size is unknown, so lengths stay in px and resampling off: {REMEDY}",)
    size = next(iter(stated.values()))[0]
    for file, (y_nm, x_nm) in stated.items():
        if not agree(y_nm, x_nm):
            raise BenchError(
                f"pixels of {file} must be square, received {y_nm:g} x {x_nm:g} nm: resample the "
                f"image, or {REMEDY}"
            )
        if not agree(size, y_nm):
            raise BenchError(
                f"files must have one pixel size, received {size:g} nm in {next(iter(stated))} "
                f"and {y_nm:g} nm in {file}: correct the files, or {REMEDY}"
            )
    if silent:
        return None, (
            f"pixel size is taken as unknown: {len(silent)} of {len(raw)} raw images state none "
            f"({first_names(silent)}), the others {size:g} nm: {REMEDY}",
        )
    return size, ()


def agree(first_nm: float, second_nm: float) -> bool:
    """Whether two lengths are the same but for rounding in the files."""
    return abs(first_nm - second_nm) <= RELATIVE_TOLERANCE * first_nm
