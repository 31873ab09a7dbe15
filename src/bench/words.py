"""Words that several rooms write: what stands for no choice, and the names of our networks."""

import re
from collections.abc import Iterable
from enum import StrEnum, auto

AUTO = "auto"
NONE = "none"
# What computes networks on a CPU.
TORCH, OPENVINO, INT8 = "torch", "openvino", "openvino_int8"
# What has a score of its own.
SECTION_UNIT, VOLUME_UNIT = "section", "volume"
_SECTIONS = re.compile(rf"\b([Ss])({SECTION_UNIT[1:]})(s?)\b")


def of_units(text: str, units: Iterable[str]) -> str:
    """A text that is written of sections, said of what it is of: sections, volumes, or both.

    Examples:
        >>> of_units("the mean of 2 sections", ["volume"])
        'the mean of 2 volumes'
        >>> of_units("Sections that were scored", ["section", "volume"])
        'Sections or volumes that were scored'
    """
    found = sorted(set(units)) or [SECTION_UNIT]

    def say(match: re.Match[str]) -> str:
        said = " or ".join(f"{unit}{match[3]}" for unit in found)
        return said.capitalize() if match[1] == "S" else said

    return _SECTIONS.sub(say, text)


class OurNetworks(StrEnum):
    """The networks that this suite brings, by the names that checkpoints have always used.

    Those of a laboratory's own are plain strings: wherever one is asked for, any name will do.
    """

    UNET2D = auto()
    UNET3D_PLANES = auto()
    UNET3D = auto()
    UNET3D_FOLDS = auto()
    UNET3D_ANISOTROPIC = auto()
    UNET_RESIDUAL = auto()
    UNET_RESNET50 = auto()
    TRANSUNET = auto()
    NNUNET = auto()
    SAM = auto()
    DETECTOR_SAM = auto()
    FCOS_SMALL = auto()
    FCOS_RESNET50 = auto()
    YOLOV8N = auto()
    YOLOV8S = auto()
    YOLO11N = auto()
    YOLO11S = auto()
    PIXEL_CLASSIFIER = auto()
    FOUNDATION_FEATURES = auto()


# The outputs of a network that was pretrained: it gives images back and segments nothing.
RECONSTRUCTION = ("reconstruction",)
# The first output of a model of classes; those of its structures follow.
BACKGROUND = "background"
# What of a network can be taken from a source, or frozen, by itself.
ENCODER, TRANSFORMER = "encoder", "transformer"

# Sections are shifted and scaled by numbers that weights were published with.
FIXED = "fixed"
# Mean and standard deviation of CEM500K, of grey values from 0 to 1: what RETINA pretrained with.
CEM500K_MOMENTS = (0.57287007, 0.12740536)

# What an export writes into a file that must state a distance of sections, where none is known;
# it is read back as unknown.
UNKNOWN_DISTANCE = "section distance unknown, written as 1 px"

# What Pyto's label volumes mean by their values; vesicles count on from the last. Ours say so in
# the header, by which they are read back.
PYTO_VALUES = {"segmentation_region": 1, "active_zone": 2}
FIRST_PYTO_VESICLE = 10
PYTO_LABEL = "labels of Pyto: 1 segmentation region, 2 active zone, from 10 on vesicles"

# Files of images and labels, one of each section or volume.
TIFF, OME_ZARR, MRC, HDF5 = "tiff", "ome_zarr", "mrc", "hdf5"

# The file by which an output folder of segment is known, and the folders in it that hold neither
# images nor labels.
SEGMENTATION_FILE = "segmentation.json"
BESIDE_LABELS = ("probability", "overlays")
