"""What is segmented: any name that a dataset has, and what the paper sets for three of them."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bench.errors import BenchError, unknown_name

# What says of a file or folder that it holds labels, but not of what.
LABEL_WORDS = ("labels", "label", "masks", "mask", "seg", "rois", "roiset", "annotations")
# Words that mean something else where a structure may be named.
_RESERVED = (
    *LABEL_WORDS,
    *("raw", "all", "auto", "none", "train", "val", "test", "unlabelled", "unclassified"),
    *("foreground", "background", "boundary", "probability", "overlays"),
)
# Fit for a folder, an HDF5 key, tags, metrics and models of MLflow, classes of Fiji and TrakEM2.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_LARGEST_WEIGHT = 20.0
# No name of a structure has it.
_TOGETHER = "+"


@dataclass(frozen=True)
class Structure:
    """One structure; what the paper does not set is None.

    Attributes:
        name: The name used in folders, tags and tables.
        aliases: Other names that people type.
        foreground_weight: Weight of foreground pixels in the focal term (Table in the paper's
            Methods, after class frequency).
        paper_opening_radius_px: Radius of the morphological opening under ``protocol=paper``.
        paper_min_area_px: Smallest instance kept under ``protocol=paper``.
    """

    name: str
    aliases: tuple[str, ...] = ()
    foreground_weight: float | None = None
    paper_opening_radius_px: int | None = None
    paper_min_area_px: int | None = None

    def weigh_foreground(self, fraction: float) -> float:
        """The weight of foreground pixels: the paper's, or one that follows from frequency.

        Args:
            fraction: Share of the annotated training pixels that are in the structure.
        """
        return self.foreground_weight or weight_of_frequency(fraction)


# Structures need no row; one lends its name aliases, or the settings of a paper.
STRUCTURES: dict[str, Structure] = {
    "vesicles": Structure("vesicles", ("vesicle", "sv"), 20.0, 2, 50),
    "mitochondria": Structure("mitochondria", ("mito", "mitos", "mitochondrion"), 5.0, 2, 5000),
    "membrane": Structure("membrane", ("membranes",), 2.0, 2, 50000),
}


@dataclass(frozen=True)
class _TissueSize:
    """How large a structure is in tissue, as it is usually annotated.

    Attributes:
        measure: ``diameter`` of a circle of the median area, or mean ``thickness`` of a sheet.
        low_nm: A smaller one is not plausible.
        high_nm: A larger one is not plausible.
    """

    measure: str
    low_nm: float
    high_nm: float


# Far wider than what is known, so that only a wrong pixel size or structure falls outside.
# Synaptic vesicles are 30 to 60 nm across (Harris and Sultan 1995), dense-core ones up to 120
# (EPFL6 50). Mitochondria are 0.2 to 1 um thick (Alberts et al.), in thin axons 0.1 (EPFL6 317,
# VNC 236). A bilayer is 6 to 10 nm thick, annotated in sections, which cut it obliquely, 20 to 60
# (EPFL6 49, VNC 42, ISBI 2012 29).
TISSUE_SIZES: dict[str, _TissueSize] = {
    "vesicles": _TissueSize("diameter", 15, 150),
    "mitochondria": _TissueSize("diameter", 80, 1500),
    "membrane": _TissueSize("thickness", 6, 150),
}


def weight_of_frequency(fraction: float) -> float:
    """The weight of foreground that fills a share f of the pixels: sqrt((1 - f) / f), 1 to 20.

    Focal loss makes up for a part of the imbalance, so the full ratio of background to foreground
    would be too much; 20 is the paper's largest weight. The paper's vesicles fill less than 0.1 %
    of its images and its membrane less than 15 %: that gives 20 and 2.4 or more, where the paper
    has 20 and 2. Its 5 (mitochondria) is that of 3.8 %, three of 0.8 um² at 5 nm in its crops.
    Measured on vesicles, mitochondria, membrane: EPFL6 (4.2, 10.1, 22.5 %) 4.8, 3.0, 1.9; VNC (-,
    5.3, 20.7 %) 4.2, 2.0; ISBI 2012 (membrane, 23.3 %) 1.8; the phantom (1.9, 9.2, 9.4 %) 7.2,
    3.1, 3.1.

    Args:
        fraction: The share, 0 to 1. None at all has the largest weight.

    Returns:
        The weight, to two decimals.

    Examples:
        >>> [weight_of_frequency(f) for f in (0.0009, 0.01, 0.0385, 0.2, 0.5, 0.9)]
        [20.0, 9.95, 5.0, 2.0, 1.0, 1.0]
    """
    if fraction <= 0:
        return _LARGEST_WEIGHT
    return round(min(_LARGEST_WEIGHT, max(1.0, math.sqrt((1 - fraction) / fraction))), 2)


def normalise_name(text: str) -> str:
    """A name in lower case, its blanks and hyphens as underscores; it need not be a valid one."""
    return re.sub(r"[\s_-]+", "_", text.strip().lower()).strip("_")


def is_structure_name(text: str) -> bool:
    """Whether a structure may be called so, in any spelling that `normalise_name` makes one."""
    name = normalise_name(text)
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED


def find_structure(name: str, known: Collection[str] | None = None) -> Structure:
    """Returns the structure of a name or alias, as it may be typed.

    Args:
        name: Such as ``mito``, ``PSD`` or ``synaptic cleft``.
        known: Names of the structures that there are, of a dataset for instance; None takes any.

    Raises:
        BenchError: If there is no such structure, or none may be called so.

    Examples:
        >>> find_structure("Mito").name, find_structure("synaptic cleft").name
        ('mitochondria', 'synaptic_cleft')
    """
    wanted = normalise_name(name)
    rows = (row for row in STRUCTURES.values() if wanted in (row.name, *row.aliases))
    structure = next(rows, None) or Structure(wanted)
    if known is not None and structure.name not in known:
        raise unknown_name("structure", name, known)
    if not is_structure_name(structure.name):
        raise BenchError(
            "a structure's name must be a letter and up to 49 letters, digits and underscores, "
            f"none of {', '.join(sorted(_RESERVED))}, received {name!r}: choose another name"
        )
    return structure


def find_structures(names: str, known: Collection[str]) -> tuple[Structure, ...]:
    """Returns the structures of a comma-separated list; ``all`` is every one there is.

    Raises:
        BenchError: If there is no such structure, or nothing is named.
    """
    if names.strip().lower() == "all":
        return tuple(find_structure(name) for name in known)
    found = tuple(find_structure(name, known) for name in split_names(names))
    if not found:
        raise BenchError(f"no structure named, received {names!r}: name one, or 'all'")
    return tuple(dict.fromkeys(found))


def order_structures(names: Iterable[str]) -> tuple[str, ...]:
    """Orders names as tables do: those of STRUCTURES in its order, then the others by name."""
    found = set(names)
    known = [name for name in STRUCTURES if name in found]
    return (*known, *sorted(found - set(known)))


def title_of(structure: str) -> str:
    """The name of a structure as people read it: ``synaptic_cleft`` is Synaptic cleft."""
    return structure.replace("_", " ").capitalize()


def join_structures(names: Iterable[str]) -> str:
    """The name of several structures that one model learns, in the order of its classes.

    Examples:
        >>> join_structures(["mitochondria", "membrane"])
        'mitochondria+membrane'
    """
    return _TOGETHER.join(names)


def split_structures(name: str) -> tuple[str, ...]:
    """The structures of a name that ``join_structures`` made; any other name is its own."""
    return tuple(name.split(_TOGETHER))


def split_names(names: str) -> Iterable[str]:
    """Splits a comma-separated list, without blanks and empty entries."""
    return [name.strip() for name in names.split(",") if name.strip()]
