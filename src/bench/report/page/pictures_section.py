"""The overlays of the page: per structure and method the worst, the median and the best section."""

import io
from base64 import b64encode
from collections.abc import Sequence

from PIL import Image

from bench.metrics.table import table_columns
from bench.report.page.elements import Markup, element
from bench.report.page.records import Picture, Shown
from bench.report.table_formats import shorten_dataset
from bench.structures import title_of

PICTURES = (
    "The sections of the lowest, the median and the highest Dice of each method. Left: annotation; "
    "middle: prediction; right: errors. Where there are several seeds, those of the run of the "
    "median Dice, of an even number the lower. A click enlarges."
)
_BACK = element("a", "Back to the table", href="#scores")
# The overlays of a section are three panels side by side: wide enough for a screen.
PICTURE_SIDE_PX = 1500
_SMALLEST_SIDE_PX = 60
_QUALITIES = (80, 65, 50, 35)
_SHRINKING = 0.75
# Of all pictures of a page, and of one, before base64, which adds a third.
PAGE_BYTES = 5_400_000
_PICTURE_BYTES = 130_000


def anchor_of(place: int) -> str:
    """The id of the pictures of the row at a place of the table."""
    return f"pictures-{place}"


def pictures_section(shown: Sequence[Shown], places: Sequence[int]) -> list[Markup]:
    """Writes an article per scored row, those of a structure together.

    Args:
        shown: What is shown of each.
        places: The place of each in the table.
    """
    several = len({one.row.dataset for one in shown}) > 1
    structures = list(dict.fromkeys(one.row.structure for one in shown))
    placed = sorted(
        zip(shown, places, strict=True), key=lambda pair: structures.index(pair[0].row.structure)
    )
    articles = []
    for one, place in placed:
        row = one.row
        dataset = f", {shorten_dataset(row.dataset)}" if several else ""
        seeds = f" (of {', '.join(map(str, row.seeds))})" if row.n > 1 else ""
        articles.append(
            element(
                "article",
                element("h3", f"{title_of(row.structure)}: {row.label}{dataset}"),
                element(
                    "p", f"Seed {one.seed}{seeds}, run {one.run_id}. ", _BACK, class_="caption"
                ),
                element(
                    "div", (_show(picture, one) for picture in one.pictures), class_="pictures"
                ),
                id=anchor_of(place),
                data_structure=row.structure,
            )
        )
    return articles


def _show(picture: Picture, shown: Shown) -> Markup:
    scores = ", ".join(
        f"{column.heading} {column.write(picture.scores[metric])}"
        for metric, column in table_columns().items()
        if metric in picture.scores
    )
    caption = element(
        "figcaption", element("b", picture.role.capitalize()), f" {picture.section}: {scores}"
    )
    if picture.missing:
        return element(
            "figure", element("p", f"Picture missing: {picture.missing}", class_="gap"), caption
        )
    image = element(
        "img",
        src=f"data:image/jpeg;base64,{b64encode(picture.jpeg).decode()}",
        width=picture.width,
        height=picture.height,
        loading="lazy",
        alt=(
            f"Annotation, prediction and errors of section {picture.section}, the {picture.role} "
            f"of {shown.row.label} on {shown.row.structure}: {scores}"
        ),
    )
    return element("figure", image, caption)


def picture_budget(pictures: int) -> int:
    """Bytes that each of so many pictures of a page may take."""
    return min(_PICTURE_BYTES, PAGE_BYTES // max(1, pictures))


def encode_jpeg(image: Image.Image, limit: int) -> tuple[bytes, int, int]:
    """Writes an image as JPEG of at most ``limit`` bytes.

    Quality is lowered before the image is made smaller. An image of _SMALLEST_SIDE_PX is kept
    whatever its size.

    Returns:
        The JPEG, its width and its height in px.
    """
    image = image.convert("RGB")
    side = min(PICTURE_SIDE_PX, max(image.size))
    while True:
        smaller = image.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            written = io.BytesIO()
            smaller.save(written, format="JPEG", quality=quality, optimize=True)
            if written.tell() <= limit:
                break
        if written.tell() <= limit or side <= _SMALLEST_SIDE_PX:
            return written.getvalue(), *smaller.size
        side = max(_SMALLEST_SIDE_PX, round(side * _SHRINKING))
