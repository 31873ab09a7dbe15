"""What is written of a segmented volume, and of all of them."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.files import write_json, write_text, write_whole
from bench.export.image_files import ImageGeometry, write_image_file
from bench.export.label_images import viewable, viewable_type
from bench.export.sphere_table import SPHERES_FILE, SphereRow, read_spheres, write_spheres
from bench.export.stack import make_stack
from bench.ingest.layouts.layout import RAW
from bench.ingest.stacks import ImageVolume
from bench.metrics.morphometry import count_instances, measure_instances
from bench.report.figures.figures import instance_figure
from bench.report.figures.planes import find_fullest, lay_out_planes
from bench.steps.segmented_names import PROBABILITY, VOLUMES_FILE
from bench.steps.serving.files import ends_on_top, join_tables, picture_of, rows_turned
from bench.words import MRC, OME_ZARR

_KIND = "volume"
_SPHERES_OF_ONE = ".spheres.csv"


@dataclass(frozen=True, eq=False)
class VolumeFound:
    """What was found in a volume, rows in the order stored.

    Attributes:
        labels: Instance ids (z, y, x), in the type of label images.
        probability: Levels of the foreground (z, y, x), uint8.
        spheres: The spheres, and what was removed; None where vesicles are no spheres.
        facts: What else its row of the table says.
    """

    labels: np.ndarray
    probability: np.ndarray
    spheres: Sequence[SphereRow] | None
    facts: dict[str, object]


def write_volume(
    volume: ImageVolume,
    found: VolumeFound,
    *,
    structure: str,
    format: str,
    content: Path,
    part: Path,
) -> None:
    """Writes the files of a volume; its entry in the tables comes last, and says that it is done.

    Rows are written as those of sections are: from the top, and of an MRC of an MRC as stored.
    Tables count them as the label image does.

    Args:
        volume: Which volume.
        found: What was found in it.
        structure: What was segmented.
        format: ``tiff``, ``ome_zarr``, ``mrc`` or ``hdf5``.
        content: The folder of what the user gets.
        part: The JSON file of the volume's rows in the tables.
    """
    turned = rows_turned(volume.planes[0], format)
    labels, probability = (
        pixels[:, ::-1] if turned else pixels for pixels in (found.labels, found.probability)
    )
    if format == OME_ZARR:
        _write_zarr(volume, labels, probability, turned, structure, content / volume.name)
    else:
        _write_images(volume, labels, probability, turned, structure, format, content)
    _draw(volume, labels, turned, structure, format, content)
    table = pd.DataFrame(measure_instances(labels, volume.voxel_size_nm))
    table.insert(0, _KIND, volume.name)
    write_text(part.with_suffix(".csv"), table.to_csv(index=False))
    if found.spheres is not None:
        last = volume.shape[1] - 1
        rows = [replace(row, y=last - row.y) for row in found.spheres] if turned else found.spheres
        write_spheres(part.with_suffix(_SPHERES_OF_ONE), rows)
    depth, height, width = volume.shape
    row = {
        _KIND: volume.name,
        "file": volume.path.name,
        "planes": depth,
        "height_px": height,
        "width_px": width,
        "pixel_size_nm": volume.voxel_size_nm[-1],
        "section_nm": volume.voxel_size_nm[0],
    }
    write_json(part, row | count_instances(labels, volume.voxel_size_nm) | found.facts)


def _read_turned(volume: ImageVolume, turned: bool) -> Iterator[np.ndarray]:
    """Yields the planes (y, x) of a volume's image, in a type that programs open."""
    for plane in volume.planes:
        raw = plane.read()
        yield raw[::-1] if turned else raw


def _write_images(
    volume: ImageVolume,
    labels: np.ndarray,
    probability: np.ndarray,
    turned: bool,
    structure: str,
    format: str,
    content: Path,
) -> None:
    """Writes a file of the image, of the labels and of the probability, each in its folder."""
    geometry = ImageGeometry(
        volume.shape, volume.voxel_size_nm[-1], volume.voxel_size_nm[0], volume.origin_nm
    )
    stored = volume.planes[0].read().dtype
    # An MRC keeps what it can.
    grey = stored if format == MRC else viewable_type(stored)
    raw = (plane.astype(grey, copy=False) for plane in _read_turned(volume, turned))
    write_image_file(format, content / RAW / volume.name, raw, grey, geometry)
    for kind, pixels in ((structure, labels), (PROBABILITY, probability)):
        write_image_file(format, content / kind / volume.name, pixels, pixels.dtype, geometry)


def _write_zarr(
    volume: ImageVolume,
    labels: np.ndarray,
    probability: np.ndarray,
    turned: bool,
    structure: str,
    folder: Path,
) -> None:
    from bench.export.ome_zarr import write_image, write_ome_zarr

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    raw = viewable(volume.read_planes(0, volume.shape[0]))
    stack = make_stack(
        {structure: labels},
        raw=raw[:, ::-1] if turned else raw,
        names=tuple(plane.name for plane in volume.planes),
        pixel_size_nm=volume.voxel_size_nm[-1],
        section_nm=volume.voxel_size_nm[0],
        volume=volume.name,
        origin_nm=volume.origin_nm,
    )
    write_ome_zarr(stack, folder)
    write_image(probability, stack, folder / f"{PROBABILITY}.ome.zarr")


def _draw(
    volume: ImageVolume,
    labels: np.ndarray,
    turned: bool,
    structure: str,
    format: str,
    content: Path,
) -> None:
    """Draws outlines on the three planes that have most of what was found, the top row on top."""
    z, y, x = find_fullest(labels)
    seen = {"raw": volume.read_planes(0, volume.shape[0]), "ids": labels}
    if turned:
        seen["raw"] = seen["raw"][:, ::-1]
    if ends_on_top(volume.planes[0], format):
        seen, y = {name: pixels[:, ::-1] for name, pixels in seen.items()}, labels.shape[1] - 1 - y
    planes = {
        name: lay_out_planes(pixels, (z, y, x), volume.voxel_size_nm)
        for name, pixels in seen.items()
    }
    figure = instance_figure(
        planes["raw"],
        planes["ids"],
        title=f"{volume.name}: {len(np.unique(labels)) - 1} {structure}, planes {z} (y, x), {y} "
        f"(z, x) and {x} (z, y)",
        pixel_size_nm=volume.voxel_size_nm[-1],
    )
    write_whole(picture_of(content, volume.name), lambda file: figure.savefig(file, format="png"))


def write_volume_tables(parts: list[Path], content: Path) -> pd.DataFrame:
    """Joins the rows of all volumes into the tables, and returns that of the volumes.

    Args:
        parts: The JSON files of the volumes, in order; their instances and spheres lie beside.
        content: The folder of what the user gets.
    """
    volumes = join_tables(parts, content, VOLUMES_FILE, _KIND)
    tables = [part.with_suffix(_SPHERES_OF_ONE) for part in parts]
    if any(table.exists() for table in tables):
        rows = [row for table in tables if table.exists() for row in read_spheres(table)]
        write_spheres(content / SPHERES_FILE, rows)
    return volumes
