"""The page of measurements: values of groups, raw and corrected, how sure, and charts."""

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.report.measured.grouping import ALL
from bench.report.measured.held_out import HeldOut, describe_classes, diameter_ratio
from bench.report.measured.study import Study
from bench.report.page.elements import Markup, element, plain_table
from bench.report.page.figures_section import to_svg
from bench.report.page.page import whole_document

_CORRECTED = (
    "Corrected is what was found, times factors by size that bring what the model found on "
    "held-out sections to what was annotated there: some found objects are none, some are missed, "
    "and outlines lie inside or outside of the annotated ones. It is right where the images are "
    "like the held-out sections. Brackets: 95 % intervals. Raw ones carry how sections vary, "
    "corrected ones also how surely the factors are known."
)
_POINTS = (
    "Every section is a point; bars are the value of all of them with its 95 % interval. Grey: as "
    "found. Black: corrected."
)
_SIZES = "Dashed: as found. Solid: corrected, by what each object stands for."
_TESTS = (
    "Difference of the first less the second group, p of Welch's t test, corrected by Holm over "
    "the whole table. One value is a {drawn}. Corrected intervals and p carry the model's error "
    "too, most of which both groups share."
)
_SECTION_TEST = (
    " Sections of one animal are alike: such a test tells two pieces of tissue apart, not two "
    "kinds of animals. Name animals=... for that."
)


def measured_page(
    study: Study,
    summary: pd.DataFrame,
    comparisons: pd.DataFrame,
    figures: Mapping[str, Figure],
    pictures: Mapping[str, bytes],
) -> str:
    """Writes the page.

    Args:
        study: The study.
        summary: By `summarise`.
        comparisons: By `compare_groups`; may be empty.
        figures: ``groups`` and ``distributions``.
        pictures: PNGs of sections, by their names.
    """
    title = f"Measurements of {study.structure.replace('_', ' ')}"
    parts: dict[str, list[Markup]] = {
        "Values": [*_describe(study), _value_table(study, summary), _caption(_CORRECTED)],
        "Groups compared": _comparison_section(study, comparisons),
        f"Every {study.unit}": [
            element("div", to_svg(figures["groups"], "groups", _POINTS), class_="chart"),
            _caption(_POINTS),
        ],
        "Distributions": [
            element("div", to_svg(figures["distributions"], "sizes", _SIZES), class_="chart"),
            _caption(_SIZES),
        ],
        "Held-out sections": _held_out_section(study),
        "Pictures": [_picture(name, png) for name, png in pictures.items()],
    }
    body = [
        element("section", element("h2", name), *content)
        for name, content in parts.items()
        if content
    ]
    return whole_document(title, element("header", element("h1", title)), element("main", body))


def _describe(study: Study) -> list[Markup]:
    objects = sum(len(table) for table in study.measured.tables)
    facts = {
        f"{study.unit.capitalize()}s": str(len(study.measured.names)),
        "Objects found": str(objects),
        "One value is a": study.drawn,
        "Corrected by": study.held_out.origin if study.held_out else "",
    }
    listed = element(
        "dl", (element("div", element("dt", k), element("dd", v)) for k, v in facts.items() if v)
    )
    notes = [f"No corrected values: {reason}" for reason in study.reasons.values()]
    return [listed, *(element("p", note, class_="notes") for note in notes)]


def _value_table(study: Study, summary: pd.DataFrame) -> Markup:
    rows = summary[summary["level"] != "region"]
    groups = [name for name in (*study.members, ALL) if name in set(rows["name"])]
    groups = list(dict.fromkeys(groups))
    headers = ["Quantity", "Unit"]
    for group in groups:
        named = "" if groups == [ALL] else f"{group}, "
        headers += [f"{named}found".capitalize(), f"{named}corrected".capitalize()]
    values: dict[tuple[str, str], Any] = {
        (row["name"], row["quantity"]): row for row in rows.to_dict("records")
    }
    lines = []
    for quantity in study.quantities:
        cells = [quantity.label, quantity.unit]
        for group in groups:
            row = values[group, quantity.name]
            cells += [_interval(row, "raw"), _interval(row, "corrected")]
        lines.append(cells)
    return plain_table(headers, lines, names=2)


def _interval(row: Mapping[str, float], key: str) -> str:
    """A value with its interval."""
    if not math.isfinite(row[key]):
        return "–"
    text = _write_value(row[key])
    if math.isfinite(row[f"{key}_low"]):
        text += f" [{_write_value(row[f'{key}_low'])}, {_write_value(row[f'{key}_high'])}]"
    return text


def _write_value(value: float) -> str:
    """A number of three digits, and of all before the point."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _comparison_section(study: Study, comparisons: pd.DataFrame) -> list[Markup]:
    if not len(comparisons):
        return []
    headers = ["Groups", "Quantity", "Found", "p", "p (Holm)", "Corrected", "p", "p (Holm)"]
    lines = []
    for row in comparisons.to_dict("records"):
        cells = [f"{row['first']} - {row['second']}", f"{row['label']} {row['unit']}".strip()]
        for kind in ("raw", "corrected"):
            shown = {key: row[f"{kind}_{end}"] for key, end in _ENDS.items()}
            cells += [
                _interval(shown, "d"),
                _write_p(row[f"{kind}_p"]),
                _write_p(row[f"{kind}_p_holm"]),
            ]
        lines.append(cells)
    first = comparisons.iloc[0]
    caption = _TESTS.format(drawn=study.drawn) + f" {first['first']} has {first['n_first']} of "
    caption += f"them, {first['second']} {first['n_second']}."
    if study.drawn == study.unit:
        caption += _SECTION_TEST
    return [plain_table(headers, lines, names=2), _caption(caption)]


_ENDS = {"d": "difference", "d_low": "low", "d_high": "high"}


def _write_p(p: float) -> str:
    if not math.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _held_out_section(study: Study) -> list[Markup]:
    held_out = study.held_out
    if held_out is None:
        return []
    table = describe_classes(held_out)
    rows: Iterable[Any] = table.itertuples()
    lines = [
        [
            f"{_write_value(row.from_nm)} to {_write_value(row.to_nm)}"
            if math.isfinite(row.to_nm)
            else f"from {_write_value(row.from_nm)}",
            *(str(count) for count in (row.annotated, row.missed, row.found, row.extra)),
        ]
        for row in rows
    ]
    headers = ["Diameter, nm", "Annotated", "Missed", "Found", "Extra"]
    return [plain_table(headers, lines, names=1), _caption(_describe_error(held_out))]


def _describe_error(held_out: HeldOut) -> str:
    ratio = diameter_ratio(held_out)
    bias = (
        f" Those found right are {100 * (ratio - 1):+.1f} % in diameter." if ratio == ratio else ""
    )
    return (
        f"{held_out.origin}, {len(held_out.names)} of them: objects by their own diameter; one is "
        f"found where IoU is above 0.5.{bias}"
    )


def _caption(text: str) -> Markup:
    return element("p", text, class_="caption")


def _picture(name: str, png: bytes) -> Markup:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return element("figure", element("img", src=source, alt=f"Objects of {name}", loading="lazy"))
