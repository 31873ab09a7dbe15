"""Units of length as programs spell them, in nm."""

import re

# In lower case: what ImageJ, TrakEM2 and people write.
_WORDS_NM = {
    **dict.fromkeys(("pm", "picometer", "picometers", "picometre", "picometres"), 1e-3),
    **dict.fromkeys(("a", "\u00e5", "angstrom", "angstroms", "\u00e5ngstr\u00f6m"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns"), 1e3),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e3),
    "\u00e2\u00b5m": 1e3,  # the sign in UTF-8, in a file that says ISO-8859-1
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 1e7),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e9),
    **dict.fromkeys(("inch", "inches"), 2.54e7),
}
# As OME's model lists them, where case tells a millimetre from a megametre; those beside
# electron micrographs, such as parsecs, are left out, and so are pixels and reference frames.
_SYMBOLS_NM = {
    "fm": 1e-6,
    "pm": 1e-3,
    "\u00c5": 0.1,
    "\u212b": 0.1,
    "nm": 1.0,
    "\u00b5m": 1e3,
    "\u03bcm": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "dm": 1e8,
    "m": 1e9,
    "dam": 1e10,
    "hm": 1e11,
    "km": 1e12,
    "thou": 2.54e4,
    "mil": 2.54e4,
    "li": 2.54e7 / 12,
    "in": 2.54e7,
    "ft": 12 * 2.54e7,
    "yd": 36 * 2.54e7,
    "pt": 2.54e7 / 72,
}
# ImageJ writes what is not ASCII as Java does.
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


def unit_by_word(word: str) -> float | None:
    """Returns the unit that a word of ImageJ or TrakEM2 means in nm; None if it is no length."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), word.strip().lower())
    return _WORDS_NM.get(plain.lower())


def unit_by_symbol(symbol: str) -> float | None:
    """Returns the unit that a symbol of OME means in nm; None if it is no length.

    A symbol that OME does not have is taken as a word: some programs write ``um``.
    """
    if symbol in _SYMBOLS_NM:
        return _SYMBOLS_NM[symbol]
    # Mm and Pm are lengths of OME too, and no misspelt mm and pm.
    return None if symbol[:-1] in ("M", "P") else unit_by_word(symbol)
