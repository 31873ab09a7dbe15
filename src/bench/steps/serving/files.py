"""What is written of a segmented section, and of all of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.files import write_json, write_text, write_whole
from bench.export.label_images import (
    as_label_type,
    viewable,
    write_image,
    write_ome_zarr,
    write_tiff,
)
from bench.export.stack import make_stack
from bench.inference.prediction import SectionPrediction
from bench.ingest.images.planes import Plane
from bench.ingest.layouts.layout import RAW
from bench.metrics.morphometry import count_instances, measure_instances
from bench.report.figures.figures import instance_figure
from bench.words import BESIDE_LABELS

INSTANCES, SECTIONS = "instances.csv", "sections.csv"
_PROBABILITY, OVERLAYS = BESIDE_LABELS
# What segment says of where the first voxels of images lie, by their names.
ORIGINS = "origins_nm"
# The tag of a run that says where its files are.
OUTPUT_TAG = "bench.output"


def write_section(
    plane: Plane,
    raw: np.ndarray,
    labels: np.ndarray,
    prediction: SectionPrediction,
    *,
    structure: str,
    format: str,
    content: Path,
    part: Path,
) -> None:
    """Writes the files of a section; its entry in the tables comes last, and says that it is done.

    Rows are written from the top as 3dmod and Fiji show the image, which for an MRC is its last
    stored row. The image is written beside the labels, so that these can be corrected on it and
    prepared from there.

    Args:
        plane: Which section.
        raw: Its pixels (y, x), rows in the order stored, as in what follows.
        labels: Its instance ids (y, x).
        prediction: What the model says of it.
        structure: What was segmented.
        format: ``tiff`` or ``ome_zarr``.
        content: The folder of what the user gets.
        part: The JSON file of the section's rows in the tables.
    """
    size, foreground = plane.pixel_size_nm, prediction.foreground
    if plane.bottom_first:
        raw, labels, foreground = (
            np.ascontiguousarray(pixels[::-1]) for pixels in (raw, labels, foreground)
        )
    if format == "tiff":
        images = {RAW: viewable(raw), structure: as_label_type(labels), _PROBABILITY: foreground}
        for kind, pixels in images.items():
            write_tiff(content / kind / f"{plane.name}.tif", pixels, pixel_size_nm=size)
    else:
        folder = content / plane.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stack = make_stack({structure: labels}, raw=raw, names=(plane.name,), pixel_size_nm=size)
        write_ome_zarr(stack, folder)
        write_image(foreground[None], stack, folder / f"{_PROBABILITY}.ome.zarr")
    row = {
        "section": plane.name,
        "file": plane.path.name,
        "page": plane.image.page,
        "height_px": raw.shape[0],
        "width_px": raw.shape[1],
        "pixel_size_nm": size,
    } | count_instances(labels, size)
    title = f"{plane.name}: {labels.max(initial=0)} {structure}"
    figure = instance_figure(raw, labels, title=title, pixel_size_nm=size)
    picture = content / OVERLAYS / f"{plane.name}.png"
    write_whole(picture, lambda file: figure.savefig(file, format="png"))
    table = pd.DataFrame(measure_instances(labels, size))
    table.insert(0, "section", plane.name)
    write_text(part.with_suffix(".csv"), table.to_csv(index=False))
    write_json(part, row)


def write_tables(parts: list[Path], content: Path) -> pd.DataFrame:
    """Joins the rows of all sections into the tables, and returns that of the sections.

    Args:
        parts: The JSON files of the sections, in order; their instances lie beside.
        content: The folder of what the user gets.
    """
    sections = pd.DataFrame([json.loads(part.read_text(encoding="utf-8")) for part in parts])
    write_text(content / SECTIONS, sections.to_csv(index=False))
    tables = [pd.read_csv(part.with_suffix(".csv"), dtype={"section": str}) for part in parts]
    # Sections without instances bring columns without a type.
    filled = [table for table in tables if len(table)] or tables[:1]
    write_text(content / INSTANCES, pd.concat(filled, ignore_index=True).to_csv(index=False))
    return sections
