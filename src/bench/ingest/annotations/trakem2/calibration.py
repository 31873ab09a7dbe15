"""Pixel size in nm by the calibration of a layer set."""

from bench.ingest.annotations.trakem2.geometry import parse_number
from bench.ingest.annotations.trakem2.parse import read_text
from bench.ingest.images.images import IMAGEJ_UNIT_NM, LARGEST_PIXEL_NM, SMALLEST_PIXEL_NM

UNIT_NM = IMAGEJ_UNIT_NM | {
    "nanometers": 1.0,
    "nanometre": 1.0,
    "nanometres": 1.0,
    "micrometers": 1e3,
    "micrometre": 1e3,
    "micrometres": 1e3,
    "\u00c2\u00b5m".lower(): 1e3,  # the sign in UTF-8, in a file that says ISO-8859-1
    "a": 0.1,
    "\u00e5": 0.1,
    "angstrom": 0.1,
    "angstroms": 0.1,
    "\u00e5ngstr\u00f6m": 0.1,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
NO_UNIT = ("", "pixel", "pixels", "px", "null")


def read_pixel_sides(
    calibration: dict[str, str],
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Reads the height and width of a pixel in nm, None where they are unknown, and warnings.

    Args:
        calibration: Attributes of the element t2_calibration; empty where there is none.
    """
    unit = read_text(calibration, "unit")
    if unit.lower() in NO_UNIT:
        return None, ()
    width = read_text(calibration, "pixelWidth")
    height = read_text(calibration, "pixelHeight") or width
    stated = f"{width} x {height} {unit}"[:60]
    unit_nm = UNIT_NM.get(unit.lower())
    try:
        width_nm = parse_number(width) * (unit_nm or 0)
        height_nm = parse_number(height) * (unit_nm or 0)
    except ValueError:
        width_nm = height_nm = 0.0
    if all(SMALLEST_PIXEL_NM <= side < LARGEST_PIXEL_NM for side in (height_nm, width_nm)):
        return (height_nm, width_nm), ()
    return None, (
        f"the pixel size is taken as unknown: the project states {stated}, and no micrograph has "
        "such pixels",
    )
