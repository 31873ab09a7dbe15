"""The pictures of the page: per structure and method the worst, the median and the best section."""

import io
from base64 import b64encode
from collections.abc import Sequence

from PIL import Image

from bench.metrics.table import table_columns
from bench.report.figures.overlays import ERROR_CLASSES
from bench.report.page.elements import Markup, element, join
from bench.report.page.records import Panel, Picture, Shown
from bench.report.table_formats import shorten_dataset
from bench.structures import title_of

PICTURES = (
    "The sections of the lowest, the median and the highest Dice of each method: of each the part "
    "where prediction and annotation differ most, at full resolution, small objects enlarged. "
    "Where there are several seeds, those of the run of the median Dice, of an even number the "
    "lower. Outlines: yellow annotation, red prediction. A click enlarges."
)
_BACK = element("a", "Back to the table", href="#scores")
# Of an evaluation without crops: three panels side by side, wide enough for a screen.
PICTURE_SIDE_PX = 1500
_SMALLEST_SIDE_PX = 60
_QUALITIES = (80, 65, 50, 35, 20)
_SHRINKING = 0.75
# Of all panels of a page, and of one, before base64, which adds a third: a page of 8 methods and 3
# structures, 216 panels, is under 12 MB.
PAGE_BYTES = 8_600_000
_PANEL_BYTES = 100_000


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
                element("div", _show_all(one), class_="pictures"),
                id=anchor_of(place),
                data_structure=row.structure,
            )
        )
    return articles


def _show_all(shown: Shown) -> Markup:
    """The worst section, and the others behind a click."""
    first, *others = [_show(picture, shown) for picture in shown.pictures] or [Markup("")]
    if not others:
        return first
    roles = " and ".join(picture.role for picture in shown.pictures[1:])
    summary = element("summary", f"{roles.capitalize()} {shown.row.data.unit}")
    return join(first, element("details", summary, others))


def _show(picture: Picture, shown: Shown) -> Markup:
    caption = element(
        "figcaption",
        element("b", picture.role.capitalize()),
        f" {picture.section}: {_write_scores(picture)}",
        f" ({picture.place})" if picture.place else "",
    )
    if picture.missing:
        return element(
            "figure", element("p", f"Picture missing: {picture.missing}", class_="gap"), caption
        )
    panels = (
        element("div", panel_image(panel, picture, shown), element("span", panel.title))
        for panel in picture.panels
    )
    return element("figure", caption, element("div", panels, class_="panels"))


def panel_image(panel: Panel, picture: Picture, shown: Shown) -> Markup:
    """The image of a panel, which a click enlarges."""
    row = shown.row
    return element(
        "img",
        src=f"data:image/webp;base64,{b64encode(panel.webp).decode()}",
        width=panel.width,
        height=panel.height,
        loading="lazy",
        class_="enlarges",
        alt=(
            f"{panel.title} of {row.data.unit} {picture.section}, the {picture.role} of "
            f"{row.label} on {row.structure}: {_write_scores(picture)}"
        ),
    )


def _write_scores(picture: Picture) -> str:
    return ", ".join(
        f"{column.heading} {column.write(picture.scores[metric])}"
        for metric, column in table_columns().items()
        if metric in picture.scores
    )


def colour_key() -> Markup:
    """What the colours of the errors mean."""
    names = [
        element("span", name, class_="key", style=f"--key: rgb{colour}")
        for name, colour in ERROR_CLASSES.values()
    ]
    return element("span", names, class_="keys")


def panel_budget(panels: int) -> int:
    """Bytes that each of so many panels of a page may take."""
    return min(_PANEL_BYTES, PAGE_BYTES // max(1, panels))


def encode_webp(image: Image.Image, limit: int) -> tuple[bytes, int, int]:
    """Writes an image as WebP of at most ``limit`` bytes.

    Quality is lowered before the image is made smaller. An image of _SMALLEST_SIDE_PX is kept
    whatever its size. Measured on 24 crops of 512 x 512 px of noisy sections: at a structural
    similarity of 0.97 WebP takes 65 kB, JPEG 82 kB (74 kB with blurred outlines), PNG 274 kB.

    Returns:
        The file, its width and its height in px.
    """
    image = image.convert("RGB")
    side = min(PICTURE_SIDE_PX, max(image.size))
    while True:
        smaller = image.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            written = io.BytesIO()
            smaller.save(written, format="WEBP", quality=quality)
            if written.tell() <= limit:
                break
        if written.tell() <= limit or side <= _SMALLEST_SIDE_PX:
            return written.getvalue(), *smaller.size
        side = max(_SMALLEST_SIDE_PX, round(side * _SHRINKING))
