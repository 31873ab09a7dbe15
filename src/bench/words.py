"""Words that several rooms write: what stands for no choice, and the names of our networks."""

from enum import StrEnum, auto

AUTO = "auto"
NONE = "none"


class OurNetworks(StrEnum):
    """The networks that this suite brings, by the names that checkpoints have always used.

    Those of a laboratory's own are plain strings: wherever one is asked for, any name will do.
    """

    UNET2D = auto()
    UNET3D_PLANES = auto()
    UNET3D = auto()
    UNET3D_FOLDS = auto()
    UNET3D_ANISOTROPIC = auto()
    SAM = auto()


# What an export writes into a file that must state a distance of sections, where none is known;
# it is read back as unknown.
UNKNOWN_DISTANCE = "section distance unknown, written as 1 px"

# The file by which an output folder of segment is known, and the folders in it that hold neither
# images nor labels.
SEGMENTATION_FILE = "segmentation.json"
BESIDE_LABELS = ("probability", "overlays")
