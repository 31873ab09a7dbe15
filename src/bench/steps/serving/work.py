"""Sections made into instances and files: here, or on the workers of a cluster."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.files import locked
from bench.inference.device import Compute
from bench.inference.resumable import Advance
from bench.ingest.images.planes import Plane
from bench.postprocess.segmentation import PostprocessSettings
from bench.recipe.predictor import RecipePredictor

# What becomes the output, in the unfinished folder.
CONTENT = "content"


@dataclass(frozen=True, eq=False)
class Work:
    """How sections are segmented, and where what is finished of them is kept.

    Attributes:
        predictor: The models.
        compute: Where they run.
        sizes: Of the post-processing, what the user set himself, in px of the image.
        origin: Where the recipe comes from, one sentence.
        format: ``tiff`` or ``ome_zarr``.
        folder: The unfinished folder.
    """

    predictor: RecipePredictor
    compute: Compute
    sizes: Mapping[str, int]
    origin: str
    format: str
    folder: Path

    @property
    def content(self) -> Path:
        """The folder of what the user gets."""
        return self.folder / CONTENT

    @property
    def tiles(self) -> Path:
        """The folder that has one of each section's finished tiles and passes."""
        return self.folder / "tiles"

    def part_of(self, plane: Plane) -> Path:
        """The file that has a section's rows of the tables, once it is finished."""
        return self.folder / "parts" / f"{plane.name}.json"

    def postprocess(self, pixel_size_nm: float | None) -> PostprocessSettings:
        """Opening and smallest area for an image of a pixel size; None if not known."""
        found = self.predictor.recipe.postprocess(pixel_size_nm)
        return PostprocessSettings(
            self.sizes.get("opening_radius_px", found.opening_radius_px),
            self.sizes.get("min_area_px", found.min_area_px),
            self.origin,
        )


def segment_plane(work: Work, plane: Plane, advance: Advance) -> None:
    """Segments a section, if it is not, and writes its files; its tiles are gone afterwards."""
    # The process of a worker that was lost may still be at it.
    with locked(work.folder / "locks" / plane.name):
        if not work.part_of(plane).exists():
            write_plane(work, plane, advance)
    shutil.rmtree(work.tiles / plane.name, ignore_errors=True)


def write_plane(work: Work, plane: Plane, advance: Advance) -> None:
    """Predicts what is left of a section, makes instances of it, and writes its files."""
    # Imported late: processes that predict tiles need none of it.
    from bench.postprocess.segmentation_ import segment_prediction
    from bench.steps.serving.files import write_section

    raw, recipe = plane.read(), work.predictor.recipe
    prediction = work.predictor.predict(raw, plane.pixel_size_nm, work.tiles / plane.name, advance)
    labels = segment_prediction(
        prediction,
        level=recipe.level,
        settings=work.postprocess(plane.pixel_size_nm),
        watershed=recipe.watershed,
    ).labels
    write_section(
        plane,
        raw,
        labels,
        prediction,
        structure=recipe.structure,
        format=work.format,
        content=work.content,
        part=work.part_of(plane),
    )
