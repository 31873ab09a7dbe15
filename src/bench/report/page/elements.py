"""HTML as nested function calls: every text that is not markup already is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

VOID = frozenset({"br", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already; any other text is escaped where it enters an element."""

    __slots__ = ()


def element(tag: str, *children: str | Iterable[str], **attributes: str | int | bool) -> Markup:
    """Writes an element.

    Args:
        tag: Its name.
        children: Texts, which are escaped, and markup; iterables of these are flattened.
        attributes: A trailing underscore is dropped (``class_``), others become hyphens
            (``data_value``). True writes the bare name, False leaves it out.
    """
    words = [tag]
    for name, value in attributes.items():
        written = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(written)
        elif value is not False:
            words.append(f'{written}="{escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if tag in VOID else f"{opening}{join(*children)}</{tag}>")


def join(*children: str | Iterable[str]) -> Markup:
    """Markup of the children, one after the other."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def plain_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, names: int) -> Markup:
    """A table without sorting; its first columns are names, not numbers.

    Args:
        headers: Of the columns.
        rows: Cells of each row, as many as headers.
        names: Number of columns of text, the first of which is the row's header.
    """
    kinds = ["name" if place < names else "number" for place in range(len(headers))]
    head = [element("th", h, scope="col", class_=k) for h, k in zip(headers, kinds, strict=True)]
    lines = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            (element("td", c, class_=k) for c, k in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    table = element(
        "table", element("thead", element("tr", head)), element("tbody", lines), class_="plain"
    )
    return scrolling(table, ", ".join(headers[:names]))


def scrolling(table: Markup, label: str) -> Markup:
    """A table that scrolls sideways, by the keyboard too, where it is wider than the page."""
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label=label)
