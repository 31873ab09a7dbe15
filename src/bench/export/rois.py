"""Fiji's RoiSet.zip of instance labels: one ROI per instance and section."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from bench.core.files import write_whole
from bench.errors import BenchError
from bench.export.instances import Instance, list_instances
from bench.export.label_images import viewable, write_tiff
from bench.export.stack import LabelStack, colour_of, object_name

# The bounds of a ROI are signed 16-bit numbers.
LARGEST_SIDE = np.iinfo(np.int16).max
# Segments of a composite ROI's path.
_MOVE, _LINE, _CLOSE = 0, 1, 4


def write_rois(stack: LabelStack, folder: Path) -> None:
    """Writes ``RoiSet.zip``, and ``raw.tif`` of the image below it as a stack."""
    write_whole(folder / "RoiSet.zip", lambda temporary: _pack_rois(temporary, make_rois(stack)))
    if stack.raw is not None:
        write_tiff(
            folder / "raw.tif",
            viewable(stack.raw),
            pixel_size_nm=stack.pixel_size_nm,
            section_nm=stack.section_nm,
        )


def make_rois(stack: LabelStack) -> Iterator[ImagejRoi]:
    """Yields the ROIs of a stack, in order of structure, id and section.

    A single ring becomes a traced polygon; an instance with holes or in several parts becomes a
    composite ROI. Names are ``vesicle-0001``, with ``-0002`` behind where the instance has
    several sections; the position is the section, from 1.

    Raises:
        BenchError: If the image is too large for the format.
    """
    _, height, width = stack.shape
    if max(height, width) > LARGEST_SIDE:
        raise BenchError(
            f"ROIs need an image of at most {LARGEST_SIDE} px, received {width} x {height}: "
            "export as trakem2 or ome_zarr"
        )
    for structure, labels in stack.labels.items():
        colour = colour_of(structure, stack.labels)
        for instance in list_instances(labels):
            yield from _make_instance_rois(instance, structure, colour)


def _make_instance_rois(
    instance: Instance, structure: str, colour: tuple[int, int, int]
) -> Iterator[ImagejRoi]:
    sections = list(instance.rings())
    for number, rings in sections:
        roi = _make_polygon(rings[0]) if len(rings) == 1 else _make_composite(rings)
        # ImageJ takes the name of the file in the archive for that of the ROI: both are unique.
        roi.name = f"{object_name(structure)}-{instance.id:04d}"
        if len(sections) > 1:
            roi.name += f"-{number + 1:04d}"
        roi.position = number + 1
        roi.stroke_color = bytes((255, *colour))
        yield roi


def _make_polygon(ring: np.ndarray) -> ImagejRoi:
    roi = _bounded(ROI_TYPE.TRACED, ring)
    roi.n_coordinates = len(ring)
    roi.integer_coordinates = (ring - (roi.left, roi.top)).astype(np.int32)
    return roi


def _make_composite(rings: list[np.ndarray]) -> ImagejRoi:
    """Makes a composite from several rings; it is what is inside of an odd number of them."""
    roi = _bounded(ROI_TYPE.RECT, np.concatenate(rings))
    path = []
    for ring in rings:
        steps = np.column_stack([np.full(len(ring), _LINE), ring]).astype(np.float32)
        steps[0, 0] = _MOVE
        path += [steps.ravel(), np.array([_CLOSE], np.float32)]
    roi.multi_coordinates = np.concatenate(path)
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _bounded(kind: ROI_TYPE, corners: np.ndarray) -> ImagejRoi:
    left, top = (int(value) for value in corners.min(axis=0))
    right, bottom = (int(value) for value in corners.max(axis=0))
    return ImagejRoi(roitype=kind, left=left, top=top, right=right, bottom=bottom)


def _pack_rois(path: Path, rois: Iterator[ImagejRoi]) -> None:
    """Writes an archive of ROIs; equal ROIs give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for roi in rois:
            # A ZipInfo of its own has a fixed date.
            archive.writestr(
                zipfile.ZipInfo(f"{roi.name}.roi"), roi.tobytes(), zipfile.ZIP_DEFLATED
            )
