"""What is written of a segmented section, and of all of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.files import write_json, write_text, write_whole
from bench.export.image_files import ImageGeometry, write_image_file
from bench.export.label_images import (
    as_label_type,
    viewable,
    write_tiff,
)
from bench.export.sphere_table import CIRCLES_FILE, read_spheres, write_spheres
from bench.export.stack import make_stack
from bench.inference.prediction import SectionPrediction
from bench.ingest.images.headers import TOP_FIRST
from bench.ingest.images.planes import Plane
from bench.ingest.layouts.layout import RAW
from bench.metrics.morphometry import count_instances, measure_instances
from bench.postprocess.instances import Instances
from bench.postprocess.spheres.rows import list_rows
from bench.recipe.volumes import VolumeInstances
from bench.report.figures.figures import instance_figure
from bench.steps.segmented_names import INSTANCES, OVERLAYS, PROBABILITY, SECTIONS
from bench.words import MRC, OME_ZARR, TIFF

_CIRCLES_OF_ONE = ".circles.csv"


def write_section(
    plane: Plane,
    raw: np.ndarray,
    found: Instances,
    prediction: SectionPrediction,
    *,
    structure: str,
    format: str,
    content: Path,
    part: Path,
) -> None:
    """Writes the files of a section; its entry in the tables comes last, and says that it is done.

    Rows are written from the top as 3dmod and Fiji show the image, which for an MRC is its last
    stored row; in MRC that of an MRC is written as it is stored. The image is written beside the
    labels, so that these can be corrected on it and prepared from there.

    Args:
        plane: Which section.
        raw: Its pixels (y, x), rows in the order stored, as in what follows.
        found: Its instances.
        prediction: What the model says of it.
        structure: What was segmented.
        format: ``tiff``, ``ome_zarr``, ``mrc`` or ``hdf5``.
        content: The folder of what the user gets.
        part: The JSON file of the section's rows in the tables.
    """
    size, foreground, labels = plane.pixel_size_nm, prediction.foreground, found.labels
    turned = rows_turned(plane, format)
    if turned:
        raw, labels, foreground = (
            np.ascontiguousarray(pixels[::-1]) for pixels in (raw, labels, foreground)
        )
    if format != OME_ZARR:
        grey = raw if format == MRC else viewable(raw)
        images = {RAW: grey, structure: as_label_type(labels), PROBABILITY: foreground}
        for kind, pixels in images.items():
            _write_image(plane, format, content / kind / plane.name, pixels)
    else:
        from bench.export.ome_zarr import write_image, write_ome_zarr

        folder = content / plane.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stack = make_stack({structure: labels}, raw=raw, names=(plane.name,), pixel_size_nm=size)
        write_ome_zarr(stack, folder)
        write_image(foreground[None], stack, folder / f"{PROBABILITY}.ome.zarr")
    row = {
        "section": plane.name,
        "file": plane.path.name,
        "page": plane.image.page,
        "height_px": raw.shape[0],
        "width_px": raw.shape[1],
        "pixel_size_nm": size,
    } | count_instances(labels, size)
    title = f"{plane.name}: {labels.max(initial=0)} {structure}"
    shown = slice(None, None, -1 if ends_on_top(plane, format) else 1)
    figure = instance_figure(raw[shown], labels[shown], title=title, pixel_size_nm=size)
    write_whole(picture_of(content, plane.name), lambda file: figure.savefig(file, format="png"))
    table = pd.DataFrame(measure_instances(labels, size))
    table.insert(0, "section", plane.name)
    write_text(part.with_suffix(".csv"), table.to_csv(index=False))
    _write_circles(plane, found, part, turned=turned)
    write_json(part, row)


def _write_circles(plane: Plane, found: Instances, part: Path, *, turned: bool) -> None:
    """Writes the circles of a section, rows counted as in its label image, where it has any."""
    if not isinstance(found, VolumeInstances) or found.found is None or plane.pixel_size_nm is None:
        return
    circles = list_rows(found.found, plane.name, plane.pixel_size_nm)
    last = plane.shape[0] - 1
    rows = [replace(each, y=last - each.y) for each in circles] if turned else circles
    write_spheres(part.with_suffix(_CIRCLES_OF_ONE), rows)


def rows_turned(plane: Plane, format: str) -> bool:
    """Whether rows are written in the other order than they are stored in.

    In an MRC, of which the first row lies at the bottom, what is no MRC is turned over.
    """
    return plane.image.header.rows == TOP_FIRST if format == MRC else plane.bottom_first


def ends_on_top(plane: Plane, format: str) -> bool:
    """Whether programs show the last row that is written on top."""
    return format == MRC and plane.bottom_first != rows_turned(plane, format)


def picture_of(content: Path, name: str) -> Path:
    """The picture of a section or volume."""
    return content / OVERLAYS / f"{name}.png"


def _write_image(plane: Plane, format: str, stem: Path, pixels: np.ndarray) -> None:
    size = plane.pixel_size_nm
    if format == TIFF:
        write_tiff(stem.with_name(f"{stem.name}.tif"), pixels, pixel_size_nm=size)
        return
    geometry = ImageGeometry(pixels.shape, size, origin_nm=plane.image.header.origin_nm)
    write_image_file(format, stem, [pixels], pixels.dtype, geometry)


def write_tables(parts: list[Path], content: Path) -> pd.DataFrame:
    """Joins the rows of all sections into the tables, and returns that of the sections.

    Args:
        parts: The JSON files of the sections, in order; their instances lie beside.
        content: The folder of what the user gets.
    """
    circles = [part.with_suffix(_CIRCLES_OF_ONE) for part in parts]
    if all(path.exists() for path in circles):
        rows = [row for path in circles for row in read_spheres(path)]
        write_spheres(content / CIRCLES_FILE, rows)
    return join_tables(parts, content, SECTIONS, "section")


def join_tables(parts: list[Path], content: Path, name: str, kind: str) -> pd.DataFrame:
    """Joins rows into the table of a name and that of the instances, and returns the first.

    Args:
        parts: The JSON files of the rows, in order; their instances lie beside.
        content: The folder of what the user gets.
        name: The table's file.
        kind: The column that says which section or volume a row is of.
    """
    rows = pd.DataFrame([json.loads(part.read_text(encoding="utf-8")) for part in parts])
    write_text(content / name, rows.to_csv(index=False))
    tables = [pd.read_csv(part.with_suffix(".csv"), dtype={kind: str}) for part in parts]
    # Those without instances bring columns without a type.
    filled = [table for table in tables if len(table)] or tables[:1]
    write_text(content / INSTANCES, pd.concat(filled, ignore_index=True).to_csv(index=False))
    return rows
