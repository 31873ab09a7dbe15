"""A page of three methods and two structures, with names that would break careless HTML."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from bench.report.comparisons import compare_pairs, mean_ranks
from bench.report.figures.curves import Curve, TrainingCurves
from bench.report.page.elements import VOID
from bench.report.page.page import benchmark_page
from bench.report.page.records import Panel, Picture, Setting, Shown
from bench.report.tables import ScoreRecord, TableRow, benchmark_table

SCRIPT = "<script>document.title = 'broken'</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>"
DICE = {"scratch": 0.4, "finetuned": 0.75, SCRIPT: 0.6}


@dataclass
class Tag:
    """An element as a browser would find it."""

    name: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: list["Tag"] = field(default_factory=list)

    def find(self, name: str, **attributes: str) -> list["Tag"]:
        return [
            tag
            for tag in self.inside
            if tag.name == name
            and all(tag.attributes.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]


class Reader(HTMLParser):
    """Reads a page, and fails where an element is not closed in turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Tag("root", {})
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag, attrs):
        found = Tag(tag, dict(attrs))
        for parent in self.open:
            parent.inside.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag

    def handle_data(self, data):
        for tag in self.open:
            tag.text += data


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Tag]:
    return lambda page: Reader(page).root


def scored(method: str, structure: str, seed: int) -> ScoreRecord:
    dice = DICE[method] - 0.1 * seed
    sections = {f"s{n}": {"dice": dice + 0.01 * n} for n in range(2)} | {QUOTES: {"dice": dice}}
    run = f"{structure}-{list(DICE).index(method)}-{seed}"
    # An evaluation of an earlier version lacks a metric.
    scores = {"dice": dice} | ({} if method == "scratch" else {"iou": dice / 2})
    return ScoreRecord(
        method, structure, f"data{QUOTES}", seed, run, scores, sections, costs={"parameters": 9.0}
    )


@pytest.fixture(scope="session")
def rows() -> list[TableRow]:
    return benchmark_table(records(), list(DICE), ["vesicles", "membrane"])


def records() -> list[ScoreRecord]:
    found = [scored(m, s, n) for m in DICE for s in ("vesicles", "membrane") for n in range(2)]
    found = [r for r in found if (r.method, r.structure) != ("scratch", "membrane")]
    why = ScoreRecord("scratch", "membrane", found[0].dataset, 0, "", reason=f"no {SCRIPT}")
    return [*found, why]


@pytest.fixture(scope="session")
def published(rows) -> list[TableRow]:
    (row,) = benchmark_table(
        [ScoreRecord("Theirs", "vesicles", "published: a paper", 0, "", {"dice": 0.99})], [], []
    )
    return [TableRow(**{**vars(row), "published": True})]


@pytest.fixture(scope="session")
def shown(rows) -> list[Shown]:
    image = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 30))
    written = io.BytesIO()
    image.save(written, format="WEBP")
    panels = [Panel(name, written.getvalue(), 30, 10) for name in (f"Truth {SCRIPT}", "Errors")]
    found = []
    for place, row in enumerate(row for row in rows if row.scores):
        there = Picture(QUOTES, "worst", {"dice": 0.1}, panels, f"x {QUOTES}")
        gone = Picture("s1", "best", {"dice": 0.9}, missing=f"gone {SCRIPT}")
        curve = Curve((1.0, 0.5, 0.0), (0.2, 0.8, 1.0))
        training = TrainingCurves(Curve(missing="not trained"), Curve(missing="not trained"))
        if place:
            by_iteration, by_second = Curve((1, 50), (0.3, 0.6)), Curve((2.5, 90.0), (0.3, 0.6))
            other = Curve((1, 50), (0.2, 0.5))
            training = TrainingCurves(by_iteration, by_second, [other])
        found.append(Shown(row, 0, row.run_ids[0], [there, gone], curve, training))
    return found


@pytest.fixture(scope="session")
def page(rows, published, shown) -> str:
    setting = Setting(f"of {SCRIPT}", "test", "data", "none", ("2026-01-02", "2026-03-04"))
    pairs = compare_pairs(records(), ["vesicles", "membrane"])
    return benchmark_page(setting, rows, published, shown, pairs, mean_ranks(rows))
