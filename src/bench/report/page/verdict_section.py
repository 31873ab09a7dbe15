"""What the page begins with: for each structure the verdict, and one picture."""

from collections.abc import Mapping, Sequence

from bench.report.page.elements import Markup, element
from bench.report.page.pictures_section import colour_key, panel_image
from bench.report.page.records import Shown
from bench.report.table_formats import shorten_dataset
from bench.report.verdicts import Verdict
from bench.structures import title_of

# Of a method's sections; where there are fewer, the first of these.
_ROLES = ("median", "only section", "worst", "best")


def verdict_section(
    verdicts: Sequence[Verdict], shown: Sequence[Shown], anchors: Mapping[int, str]
) -> list[Markup]:
    """Writes an article per verdict.

    Args:
        verdicts: In the order of the page.
        shown: Pictures of every scored row.
        anchors: From the place in ``shown`` to the id of its pictures on the page.
    """
    several = len({verdict.row.dataset for verdict in verdicts}) > 1
    articles = []
    for verdict in verdicts:
        row = verdict.row
        title = title_of(row.structure) + (f", {shorten_dataset(row.dataset)}" if several else "")
        best = element("p", element("b", row.label), element("br"), verdict.headline, class_="best")
        text = element(
            "div",
            element("h3", title),
            best if verdict.found else "",
            element("ul", (element("li", line) for line in verdict.lines)),
        )
        place = next((n for n, one in enumerate(shown) if one.row is row), None)
        picture = (
            "" if place is None or not verdict.found else _picture(shown[place], anchors[place])
        )
        articles.append(
            element("div", text, picture, class_="verdict", data_structure=row.structure)
        )
    return articles


def _picture(shown: Shown, anchor: str) -> Markup:
    """The errors of the median section, as one sees at a glance what the score means."""
    by_role = {picture.role: picture for picture in shown.pictures if picture.panels}
    picture = next((by_role[role] for role in _ROLES if role in by_role), None)
    if picture is None:
        return Markup("")
    unit = shown.row.data.unit.capitalize()
    caption = element(
        "figcaption",
        colour_key(),
        f" {unit} {picture.section}, where they differ most. " if picture.place else " ",
        element("a", "All pictures", href=f"#{anchor}"),
    )
    return element("figure", panel_image(picture.panels[-1], picture, shown), caption)
